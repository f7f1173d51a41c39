"""The control plane of one cluster is stopped under load, and started again. One outage per primary, three claims."""

from __future__ import annotations

from meshproof.admission import Verdict
from meshproof.claims import claim
from meshproof.deadlines import DEADLINES
from meshproof.errors import Broken
from meshproof.findings import Findings
from meshproof.history import Window, clock, summarise
from meshproof.mesh import Mesh
from meshproof.mesh_state import app_endpoints, endpoint_problems
from meshproof.outage import Outage
from meshproof.report.evidence import Evidence
from meshproof.snapshot import Snapshot


@claim(
    "FAILOVER-01",
    "while the istiod of one cluster is stopped no request is lost",
    promised_by="istio.io, Deployment models: the data plane keeps its last configuration without a control plane",
    hint="look in the history for the moment and the source, then for proxies that restarted during the outage",
    disruptive=True,
)
def test_no_request_is_lost_while_istiod_is_down(outages: tuple[Outage, ...], evidence: Evidence) -> None:
    """Proxies keep their last snapshot: losing a control plane must not cost a request, and both sides must answer."""
    findings = Findings("loads")
    for outage in outages:
        evidence.attach(f"{outage.victim}-history.csv", outage.history.as_csv())
        for cluster in outage.mesh.clusters:
            must_have_been_well(outage, cluster.name)
            problems = lost(outage, outage.down, cluster.name)
            silent = versions(outage, outage.steady, cluster.name) - versions(outage, outage.down, cluster.name)
            problems += [f"version {version} answered before and not during it" for version in sorted(silent)]
            findings.examine(f"istiod of {outage.victim} down, through {cluster}", problems)
    findings.conclude(also="\n".join(fault_line(outage) for outage in outages))


@claim(
    "FAILOVER-03",
    "where the control plane is down new pods are refused, never started without a sidecar, and configuration writes "
    "are refused; clusters with another control plane accept both",
    promised_by="istio.io, Sidecar injection problems: the webhooks' failurePolicy is Fail",
    hint="kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations: failurePolicy must be Fail",
    disruptive=True,
)
def test_admission_fails_closed_while_istiod_is_down(outages: tuple[Outage, ...], evidence: Evidence) -> None:
    """A pod without a sidecar would speak plain text, outside every policy. The same was accepted before the outage."""
    findings = Findings("clusters")
    for outage in outages:
        seen = {name: f"pod {a.pod}; good {a.good_config}; bad {a.bad_config}" for name, a in outage.during.items()}
        evidence.attach(f"{outage.victim}-admission", seen)
        for cluster in outage.mesh.clusters:
            governed = cluster in outage.governed
            problems = closed(outage, cluster.name) if governed else still_open(outage, cluster.name)
            findings.examine(f"istiod of {outage.victim} down, admission of {cluster}", problems)
    findings.conclude(also="\n".join(fault_line(outage) for outage in outages))


@claim(
    "FAILOVER-04",
    "when istiod is back, pods that waited start, every proxy is in sync, endpoints are right, and no request is lost",
    promised_by="istio.io, Deployment models; Kubernetes, ReplicaSet controller: refused pods are tried again",
    hint="kubectl describe the waiting Deployment's ReplicaSet; istioctl proxy-status; the history around recovery",
    disruptive=True,
)
def test_the_mesh_recovers(mesh: Mesh, outages: tuple[Outage, ...], evidence: Evidence) -> None:
    """Recovery pushes everything to everybody at once: the moment at which things break that an outage did not."""
    findings = Findings("recoveries")
    bound = f"within {DEADLINES.recovery:g} s of istiod being back"
    for outage in outages:
        evidence.attach(f"{outage.victim}-recovery", {"pods": outage.waiting_ready_s, "in sync": outage.resynced_s})
        for name, seconds in outage.waiting_ready_s.items():
            problems = [f"not ready {bound}: {outage.waiting_last[name]}"] if seconds is None else []
            findings.examine(f"istiod of {outage.victim}, waiting pod of {name}", problems)
        late = [] if outage.resynced_s is not None else [f"not in sync {bound}: {outage.resync_last}"]
        findings.examine(f"istiod of {outage.victim}, proxies", late)
        for cluster in mesh.clusters:
            name = f"istiod of {outage.victim} back, through {cluster}"
            findings.examine(name, lost(outage, outage.recovery, cluster.name))
    snapshot = Snapshot.take(mesh)
    for facts in snapshot.facts:
        endpoints = app_endpoints(facts.cluster, facts.client)
        findings.examine(f"endpoints in {facts.cluster}", endpoint_problems(snapshot, facts.cluster, endpoints))
    findings.conclude(also="\n".join(fault_line(outage) for outage in outages))


def lost(outage: Outage, window: Window, source: str) -> list[str]:
    """The lost requests of a window, with the first of them."""
    sent = outage.history.sent_in(window, source=source)
    gone = outage.history.lost_in(window, source=source)
    if not sent:
        return ["no request was sent"]
    return [f"{len(gone)} of {len(sent)} requests lost; first {gone[0]}; {summarise(sent)}"] if gone else []


def versions(outage: Outage, window: Window, source: str) -> set[str]:
    return set(summarise(outage.history.sent_in(window, source=source)).versions)


def must_have_been_well(outage: Outage, source: str) -> None:
    """The control: without it a lost request says nothing about the fault."""
    if problems := lost(outage, outage.steady, source):
        raise Broken(f"the load on {source}", f"it was not well before the fault: {problems[0]}", "see TRAFFIC-01")


def closed(outage: Outage, name: str) -> list[str]:
    """What was not refused in a cluster whose control plane was down; what it accepted before is the control."""
    before, during = outage.before[name], outage.during[name]
    problems = [] if before.pod.verdict is Verdict.ACCEPTED else [f"before the outage a pod was {before.pod}"]
    if not during.pod.by_webhook:
        problems.append(f"a new pod was {during.pod}")
    if outage.pods_during.get(name):
        problems.append(f"the Deployment has pods: {', '.join(outage.pods_during[name])}")
    if before.guarded:
        problems += (
            [] if before.good_config.verdict is Verdict.ACCEPTED else [f"before, a rule was {before.good_config}"]
        )
        problems += [] if before.bad_config.verdict is Verdict.REFUSED else ["before, a senseless rule was accepted"]
        problems += [] if during.good_config.by_webhook else [f"a configuration write was {during.good_config}"]
    elif name == outage.victim.name:
        problems.append("its validation webhook does not fail closed (failurePolicy is not Fail)")
    return problems


def still_open(outage: Outage, name: str) -> list[str]:
    """What was refused in a cluster with another control plane, and should not have been."""
    during = outage.during[name]
    problems = [] if during.pod.verdict is Verdict.ACCEPTED else [f"a new pod was {during.pod}"]
    problems += [] if during.good_config.verdict is Verdict.ACCEPTED else [f"a rule was {during.good_config}"]
    return problems + ([] if during.bad_config.verdict is Verdict.REFUSED else ["a senseless rule was accepted"])


def fault_line(outage: Outage) -> str:
    moments = outage.moments
    assert moments.gone is not None
    assert moments.heal is not None
    back = clock(moments.back.wall) if moments.back else "never"
    return (
        f"  fault       istiod of {outage.victim}: told to stop {clock(moments.told.wall)}, gone "
        f"{clock(moments.gone.wall)}, told to start {clock(moments.heal.wall)}, back {back}"
    )
