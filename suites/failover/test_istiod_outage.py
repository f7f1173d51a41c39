"""The control plane of one cluster is stopped under load, and started again: one outage per primary, six claims."""

from __future__ import annotations

from meshproof.claims.claim import TWO_PRIMARIES, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import DEADLINES, HORIZONS
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.failover.autonomy import autonomy, lost_once_renewed, lost_until_end
from meshproof.failover.drill_judgements import must_have_been_healthy
from meshproof.failover.istiod_outage import Outages
from meshproof.failover.losses import lost
from meshproof.failover.outage_judgements import closed, still_open, versions_answering
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.report import drills


@claim(
    "FAILOVER-01",
    "no request is lost while the istiod of one cluster is stopped",
    promised_by="istio.io, Deployment models: the data plane keeps its last configuration without a control plane",
    hint="look in the history for the time and the source, then for proxies that restarted during the outage",
    disruptive=True,
)
def test_no_request_is_lost_while_istiod_is_down(outages: Outages, evidence: Evidence) -> None:
    """Proxies keep their last configuration: losing a control plane must not cost a request, and all versions that
    answered before must answer during the outage."""
    findings = Findings("loads")
    for outage in outages:
        drill = outage.drill
        drills.attach_drill(evidence, drill, outage.victim.name)
        for source in drill.of():
            must_have_been_healthy(drill, (source,))
            problems = lost(drill.history, drill.down, (source,))
            silent = versions_answering(drill, drill.steady, source) - versions_answering(drill, drill.down, source)
            problems += [
                f"version {version} answered before the outage and not during it" for version in sorted(silent)
            ]
            findings.examine(f"istiod of {outage.victim} down, {source}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-02",
    "while one primary's istiod is stopped every other primary keeps full control",
    promised_by="istio.io, Deployment models: multiple control planes, for availability when one of them fails",
    hint="which part fails? an endpoint in the other cluster: its API server must be reachable though its istiod is "
    "not (DISCOVERY-04); injection: the webhook must point to the cluster's own istiod (GATEWAYS-05, CONTROL-02); a "
    "route: do the mesh configuration's discoverySelectors exclude its namespace?",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_the_other_primaries_keep_full_control(outages: Outages, evidence: Evidence) -> None:
    """A running pod proves nothing, so each capability is used on something new while the other istiod is down.

    Full control: it injects a pod that serves, signs its certificate, applies a route, and follows endpoints in every
    cluster.
    """
    findings = Findings("capabilities")
    for outage in outages:
        for name, control in outage.capabilities.items():
            evidence.attach(f"{outage.victim}-down-seconds-in-{name}", control.seconds)
            for what, problems in control.problems.items():
                findings.examine(f"istiod of {outage.victim} down, istiod of {name}: {what}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-03",
    "admission fails closed where the control plane is down, and works in all other clusters",
    promised_by="istio.io, Sidecar injection problems: the webhooks' failurePolicy is Fail",
    hint="kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations: failurePolicy must be Fail",
    disruptive=True,
)
def test_admission_fails_closed_while_istiod_is_down(outages: Outages, evidence: Evidence) -> None:
    """A pod without a sidecar would speak plain text, outside every policy. Both requests were accepted before the
    outage.

    Failing closed: new pods are refused, never started without a sidecar, and configuration writes are refused.
    """
    findings = Findings("clusters")
    for outage in outages:
        seen = {name: f"pod {a.pod}; good {a.good_config}; bad {a.bad_config}" for name, a in outage.during.items()}
        evidence.attach(f"{outage.victim}-admission", seen)
        for cluster in outage.mesh.clusters:
            governed = cluster in outage.governed
            problems = closed(outage, cluster.name) if governed else still_open(outage, cluster.name)
            findings.examine(f"istiod of {outage.victim} down, admission of {cluster}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-04",
    "when istiod is back the mesh recovers by itself, without losing a request",
    promised_by="istio.io, Deployment models; Kubernetes, ReplicaSet controller: refused pods are tried again",
    hint="kubectl describe the waiting Deployment's ReplicaSet; istioctl proxy-status; the history around recovery; a "
    "new pod that is not served: istiod signs under another root than before (TRUST-02, TRUST-03)",
    disruptive=True,
)
def test_the_mesh_recovers(mesh: Mesh, outages: Outages, evidence: Evidence) -> None:
    """Recovery pushes everything to all proxies at once, which can break what the outage did not.

    Recovered: pods that waited have started and are served, every proxy is in sync, and endpoints are as expected.
    """
    findings = Findings("recoveries")
    bound = f"within {DEADLINES.recovery_s:g} s of istiod being back"
    for outage in outages:
        evidence.attach(f"{outage.victim}-recovery", {"pods": outage.waiting_ready_s, "in sync": outage.resynced_s})
        for name, seconds in outage.waiting_ready_s.items():
            late = [f"not ready {bound}: {outage.waiting_last[name]}"]
            problems = late if seconds is None else outage.waiting_unserved[name]
            findings.examine(f"istiod of {outage.victim}, waiting pod of {name}", problems)
        late = [] if outage.resynced_s is not None else [f"not in sync {bound}: {outage.resync_last}"]
        findings.examine(f"istiod of {outage.victim}, proxies", late)
        for source in outage.drill.of():
            must_have_been_healthy(outage.drill, (source,))
            problems = lost(outage.drill.history, outage.drill.recovery, (source,))
            findings.examine(f"istiod of {outage.victim} back, {source}", problems)
        findings.examine(f"mesh after istiod of {outage.victim} was back", outage.drill.unhealthy)
    snapshot = Snapshot.take(mesh)
    for facts in snapshot.facts:
        endpoints = app_endpoints(facts.cluster, facts.client)
        findings.examine(f"endpoints in {facts.cluster}", endpoint_problems(snapshot, facts.cluster, endpoints))
    outages.conclude(findings)


@claim(
    "FAILOVER-12",
    "proxies keep serving while they repeatedly fail to reconnect to istiod",
    promised_by="istio.io, Deployment models; Envoy, xDS protocol: configuration stays while the management server is "
    "away",
    hint="istioctl proxy-status after recovery; the proxy's log for `xds-grpc`; a proxy that restarts without a "
    "control plane gets no certificate and no configuration",
    disruptive=True,
)
def test_proxies_that_cannot_reconnect_keep_serving(outages: Outages, evidence: Evidence) -> None:
    """A client that fails to connect might drop its configuration; each proxy must be seen to retry, and to serve.

    The outage is a connection age of zero: every proxy is disconnected, and fails to connect.
    """
    findings = Findings("proxies and loads")
    for outage in outages:
        evidence.attach(f"{outage.victim}-dials", {proxy: str(counted) for proxy, counted in outage.dials.items()})
        for proxy, (before, after) in outage.dials.items():
            problems = (
                [] if after > before else [f"has not tried to reconnect to its control plane ({before} streams so far)"]
            )
            findings.examine(f"istiod of {outage.victim} down, {proxy}", problems)
        for source in outage.drill.of():
            must_have_been_healthy(outage.drill, (source,))
            problems = lost(outage.drill.history, outage.drill.down, (source,))
            findings.examine(f"istiod of {outage.victim} down, {source}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-13",
    "in a long outage workloads are served until their certificates expire, and again soon after istiod is back",
    promised_by="istio.io, Security: Identity and certificate management; istio.io/istio, pkg/security: agents ask for "
    "the next certificate when half of the life has passed (SECRET_TTL 24 h, SECRET_GRACE_PERIOD_RATIO 0.5)",
    hint="not renewed: the agent's log in istio-proxy for `citadelclient`; renewed and refused: istiod has come back "
    "with another root (TRUST-01, TRUST-02); little time left: renewal does not work, see TRUST-04 and the path to "
    "15012",
    disruptive=True,
)
def test_certificates_outlast_an_outage(outages: Outages, evidence: Evidence) -> None:
    """Without its control plane a mesh lasts as long as its certificates: the remaining time is reported, and recovery
    proven.

    The expiring certificates are those of clients made for this drill; all others must be valid for hours.
    """
    findings = Findings("clients and proxies")
    for outage in outages:
        name = f"istiod of {outage.victim} down"
        evidence.figures[f"{name}: autonomy"] = autonomy(outage)
        for client in outage.short_lived:
            who = f"{name}, {client.source}"
            findings.examine(f"{who} until its certificate ended", lost_until_end(outage, client))
            signed = [] if client.kept else ["it has a new certificate although istiod was down"]
            findings.examine(f"{who} after that", signed)
            findings.examine(f"{who} after istiod was back", lost_once_renewed(outage, client))
        for proxy, remaining in outage.remaining.items():
            little = f"{remaining.hours:.1f} h left, {remaining.share:.0%} of its certificate's life"
            findings.examine(proxy, [] if remaining.share >= HORIZONS.workload_left else [little])
    outages.conclude(findings)
