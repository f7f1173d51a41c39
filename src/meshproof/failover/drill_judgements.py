"""Expectations for drills: which sources may lose requests, for how long, and what must be healthy afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS
from meshproof.core.errors import Broken
from meshproof.failover.availability import AvailabilityMonitor
from meshproof.failover.capabilities import CapabilityResults
from meshproof.failover.drill import Drill
from meshproof.failover.losses import felt, lost
from meshproof.gateways.paths import gateway_connections
from meshproof.load.generator import DEFAULT
from meshproof.load.history import Window, silence
from meshproof.mesh.handles import Cluster


def forgotten(drill: Drill) -> Window | None:
    """When requests may be lost, if any were: an istiod that stops reading a remote forgets its pods.

    It pushes that to their sidecars. Each loses the Envoy cluster of its own port some milliseconds before the listener
    that refers to it. A request in between gets 503 with response flag NC (cluster not found); Istio promises nothing
    here.
    """
    absent = Window(begin_s=drill.down.begin_s, end_s=drill.down.end_s + BOUNDS.forgotten.seconds)
    gone = drill.history.lost_in(absent)
    return Window(begin_s=gone[0].sent_s, end_s=gone[0].sent_s + BOUNDS.forgotten.seconds) if gone else None


def judge_no_loss(findings: Findings, drill: Drill, name: str, *, but: Window | None = None) -> None:
    """No source loses a request between the fault and recovery, and the mesh recovers.

    Losses in the window `but` are allowed.
    """
    for source in drill.of():
        must_have_been_healthy(drill, (source,))
        findings.examine(f"{name}, {source}", lost(drill.history, drill.whole, (source,), but=but))
    findings.examine(f"mesh after {name}", drill.unhealthy)
    drill.report(findings)


def judge_gaps(
    findings: Findings,
    evidence: Evidence,
    drill: Drill,
    availability_monitor: AvailabilityMonitor,
    checks: Mapping[str, Cluster],
) -> None:
    """No admission check of the monitor, by name in `checks`, had a gap during the fault that exceeds its bound."""
    for name, cluster in checks.items():
        gap, problem = availability_monitor.gap(name, drill.down)
        bound = BOUNDS.replica_gap if cluster.is_primary else BOUNDS.remote_gap
        evidence.attach(f"gap-{cluster}", {"longest gap in seconds": gap, "because": problem})
        late = [f"unavailable for {gap:.1f} s (bound {bound.seconds:g} s): {problem}"] if gap > bound.seconds else []
        findings.examine(name, late)


def judge_capabilities(
    findings: Findings, primary: Cluster, results: CapabilityResults, served_s: float | None
) -> None:
    """Every capability of a primary's istiod worked, and a new namespace got its root certificate in time."""
    for what, problems in results.problems.items():
        findings.examine(f"istiod of {primary}: {what}", problems)
    late = [f"no root certificate in it within {BOUNDS.leader.seconds:g} s"] if served_s is None else []
    findings.examine(f"istiod of {primary}: a new namespace", late)


def judge_lost_cluster(findings: Findings, drill: Drill, victim: Cluster, name: str) -> None:
    """Judges the sources outside the lost cluster; those inside are lost with it."""
    injected_s = drill.moments.injected.monotonic_s
    for source in drill.sources:
        one = (str(source),)
        if source.cluster == victim.name:
            continue
        must_have_been_healthy(drill, one)
        sent = drill.history.sent_in(drill.down, sources=one)
        quiet = silence(sent, drill.down, source.cluster)
        problems = [f"no response from its own cluster for {quiet:.1f} s"] if quiet > BOUNDS.silence.seconds else []
        if source.target is not DEFAULT:
            problems += felt(sent, injected_s, BOUNDS.route_around.seconds)
        findings.examine(f"{name}, {source}", problems)
    findings.examine(f"mesh after {victim} was back", drill.unhealthy)
    drill.report(findings, but=victim.name)


def not_used(victim: Cluster) -> list[str]:
    """A problem if the gateway's new pods have carried no connection; counters of the old pods are gone."""
    carried = gateway_connections(victim)
    return [] if carried else ["no connection went through the replacement pods"]


def judge_gateway(findings: Findings, drill: Drill, victim: Cluster) -> None:
    """No request is lost in the gateway's own cluster. Other clusters may lose requests within a bound, while their own
    pods respond all the time."""
    injected_s = drill.moments.injected.monotonic_s
    for source in drill.sources:
        name = (str(source),)
        must_have_been_healthy(drill, name)
        sent = drill.history.sent_in(drill.whole, sources=name)
        what = f"gateway of {victim} killed, {source}"
        if source.cluster == victim.name:
            findings.examine(what, lost(drill.history, drill.whole, name))
            continue
        bound = BOUNDS.gateway_back if source.target is DEFAULT else BOUNDS.route_around
        problems = felt(sent, injected_s, bound.seconds)
        if (quiet := silence(sent, drill.whole, source.cluster)) > BOUNDS.silence.seconds:
            problems.append(f"no response from its own cluster for {quiet:.1f} s")
        findings.examine(what, problems)
    findings.examine(f"mesh after the gateway of {victim} was killed", drill.unhealthy)
    drill.report(findings)


def judge_partition(findings: Findings, drill: Drill, name: str) -> None:
    """Each source's own cluster responds all the time; with resilience settings losses stop within a bound."""
    injected_s = drill.moments.injected.monotonic_s
    for source in drill.sources:
        one = (str(source),)
        must_have_been_healthy(drill, one)
        sent = drill.history.sent_in(drill.down, sources=one)
        problems = []
        if (quiet := silence(sent, drill.down, source.cluster)) > BOUNDS.silence.seconds:
            problems.append(f"no response from its own cluster for {quiet:.1f} s")
        if source.target is not DEFAULT:
            problems += felt(sent, injected_s, BOUNDS.route_around.seconds)
        findings.examine(f"{name}, {source}", problems)
    findings.examine(f"mesh after {name}", drill.unhealthy)
    drill.report(findings)


def must_have_been_healthy(drill: Drill, sources: Sequence[str]) -> None:
    """Positive control: raises `Broken` if requests were lost before the fault, so losses after it prove nothing."""
    if problems := lost(drill.history, drill.steady, sources):
        raise Broken("load", f"requests were lost before the fault: {problems[0]}", "see TRAFFIC-01 and TRAFFIC-02")
