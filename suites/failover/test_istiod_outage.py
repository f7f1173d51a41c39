"""The control plane of one cluster is stopped under load, and started again. One outage per primary, six claims."""

from __future__ import annotations

from meshproof.claims.claim import TWO_PRIMARIES, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import DEADLINES, HORIZONS
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.failover.autonomy import autonomy, lost_once_renewed, lost_until_end
from meshproof.failover.drill import lost, must_have_been_healthy
from meshproof.failover.istiod_outage import Outages
from meshproof.failover.outage_verdicts import closed, still_open, versions_answering
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.report import drills


@claim(
    "FAILOVER-01",
    "while the istiod of one cluster is stopped no request is lost",
    promised_by="istio.io, Deployment models: the data plane keeps its last configuration without a control plane",
    hint="look in the history for the moment and the source, then for proxies that restarted during the outage",
    disruptive=True,
)
def test_no_request_is_lost_while_istiod_is_down(outages: Outages, evidence: Evidence) -> None:
    """Proxies keep their last snapshot: losing a control plane must not cost a request, and both sides must answer."""
    findings = Findings("loads")
    for outage in outages:
        drill = outage.drill
        drills.attach_drill(evidence, drill, outage.victim.name)
        for source in drill.of():
            must_have_been_healthy(drill, (source,))
            problems = lost(drill.history, drill.down, (source,))
            silent = versions_answering(drill, drill.steady, source) - versions_answering(drill, drill.down, source)
            problems += [f"version {version} answered before and not during it" for version in sorted(silent)]
            findings.examine(f"istiod of {outage.victim} down, {source}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-02",
    "while the istiod of one primary is stopped each other primary keeps full control: it injects a pod that serves, "
    "signs its certificate, applies a route, and follows endpoints in every cluster",
    promised_by="istio.io, Deployment models: multiple control planes, for availability when one of them fails",
    hint="which part fails? an endpoint in the other cluster: its API server must be reachable though its istiod is "
    "not (DISCOVERY-04); injection: the webhook must point to the cluster's own istiod (GATEWAYS-05, CONTROL-02); a "
    "route: do the mesh configuration's discoverySelectors leave its namespace out?",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_the_other_primaries_keep_full_control(outages: Outages, evidence: Evidence) -> None:
    """A running pod shows nothing: each power is used on something new, while the other istiod is down."""
    findings = Findings("powers")
    for outage in outages:
        for name, control in outage.control.items():
            evidence.attach(f"{outage.victim}-down-seconds-in-{name}", control.seconds)
            for what, problems in control.problems.items():
                findings.examine(f"istiod of {outage.victim} down, istiod of {name}: {what}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-03",
    "where the control plane is down new pods are refused, never started without a sidecar, and configuration writes "
    "are refused; clusters with another control plane accept both",
    promised_by="istio.io, Sidecar injection problems: the webhooks' failurePolicy is Fail",
    hint="kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations: failurePolicy must be Fail",
    disruptive=True,
)
def test_admission_fails_closed_while_istiod_is_down(outages: Outages, evidence: Evidence) -> None:
    """A pod without a sidecar would speak plain text, outside every policy. The same was accepted before the outage."""
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
    "when istiod is back, pods that waited start and are served, every proxy is in sync, endpoints are right, and no "
    "request is lost",
    promised_by="istio.io, Deployment models; Kubernetes, ReplicaSet controller: refused pods are tried again",
    hint="kubectl describe the waiting Deployment's ReplicaSet; istioctl proxy-status; the history around recovery; a "
    "new pod that is not served: istiod signs under another root than before (TRUST-02, TRUST-03)",
    disruptive=True,
)
def test_the_mesh_recovers(mesh: Mesh, outages: Outages, evidence: Evidence) -> None:
    """Recovery pushes everything to everybody at once: the moment at which things break that an outage did not."""
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
            problems = lost(outage.drill.history, outage.drill.recovery, (source,))
            findings.examine(f"istiod of {outage.victim} back, {source}", problems)
        findings.examine(f"mesh after istiod of {outage.victim} was back", outage.drill.ill)
    snapshot = Snapshot.take(mesh)
    for facts in snapshot.facts:
        endpoints = app_endpoints(facts.cluster, facts.client)
        findings.examine(f"endpoints in {facts.cluster}", endpoint_problems(snapshot, facts.cluster, endpoints))
    outages.conclude(findings)


@claim(
    "FAILOVER-12",
    "proxies that lose their connection and dial again and again during the outage keep serving",
    promised_by="istio.io, Deployment models; Envoy, xDS protocol: configuration stays while the management server is "
    "away (the outage is a connection age of zero: every proxy is cut off, and dials in vain)",
    hint="istioctl proxy-status after recovery; the proxy's log for `xds-grpc`; a proxy that restarts without a "
    "control plane gets no certificate and no configuration",
    disruptive=True,
)
def test_proxies_that_dial_in_vain_keep_serving(outages: Outages, evidence: Evidence) -> None:
    """A client that fails to connect may drop what it had; each proxy is seen to have tried, and still to serve."""
    findings = Findings("proxies and loads")
    for outage in outages:
        evidence.attach(f"{outage.victim}-dials", {proxy: str(counted) for proxy, counted in outage.dials.items()})
        for proxy, (before, after) in outage.dials.items():
            problems = [] if after > before else [f"has not dialled its control plane again ({before} streams so far)"]
            findings.examine(f"istiod of {outage.victim} down, {proxy}", problems)
        for source in outage.drill.of():
            problems = lost(outage.drill.history, outage.drill.down, (source,))
            findings.examine(f"istiod of {outage.victim} down, {source}", problems)
    outages.conclude(findings)


@claim(
    "FAILOVER-13",
    "when istiod stays away for longer than a certificate lives its workload is served until the certificate ends, and "
    "soon after istiod is back again, with a new one; all others' certificates last for hours yet",
    promised_by="istio.io, Security: Identity and certificate management; istio.io/istio, pkg/security: agents ask for "
    "the next certificate when half of the life has passed (SECRET_TTL 24 h, SECRET_GRACE_PERIOD_RATIO 0.5)",
    hint="not renewed: the agent's log in istio-proxy for `citadelclient`; renewed and refused: istiod has come back "
    "with another root (TRUST-01, TRUST-02); little left: renewal does not work, see TRUST-04 and the way to 15012",
    disruptive=True,
)
def test_certificates_outlast_an_outage(outages: Outages, evidence: Evidence) -> None:
    """What ends a mesh without its control plane is its certificates: how long it has is told, and that it recovers."""
    findings = Findings("clients and proxies")
    for outage in outages:
        name = f"istiod of {outage.victim} down"
        evidence.figures[f"{name}: autonomy"] = autonomy(outage)
        for client in outage.short_lived:
            who = f"{name}, {client.source}"
            findings.examine(f"{who} until its certificate ended", lost_until_end(outage, client))
            signed = [] if client.kept else ["it has a new certificate: who signed it while istiod was down?"]
            findings.examine(f"{who} after that", signed)
            findings.examine(f"{who} after istiod was back", lost_once_renewed(outage, client))
        for proxy, remaining in outage.remaining.items():
            little = f"{remaining.hours:.1f} h left, {remaining.share:.0%} of its certificate's life"
            findings.examine(proxy, [] if remaining.share >= HORIZONS.workload_left else [little])
    outages.conclude(findings)
