"""What drills must show: which sources may lose requests, for how long, and what must be healthy again afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS
from meshproof.failover.availability import AvailabilityMonitor
from meshproof.failover.capabilities import CapabilityResults
from meshproof.failover.drill import Drill, felt, lost, must_have_been_healthy
from meshproof.gateways.paths import gateway_connections
from meshproof.load.generator import DEFAULT
from meshproof.load.history import Window, silence
from meshproof.mesh.handles import Cluster


def forgotten(drill: Drill) -> Window | None:
    """When requests may be lost, if any was: an istiod that stops reading a remote knows nothing of its pods any more.

    Each of their sidecars is told so, and loses the cluster of its own port some milliseconds before the listener that
    leads there; a request in between gets 503, in Envoy's words NC, cluster not found. Istio promises nothing about it.
    """
    absent = Window(begin_s=drill.down.begin_s, end_s=drill.down.end_s + BOUNDS.forgotten.seconds)
    gone = drill.history.lost_in(absent)
    return Window(begin_s=gone[0].sent_s, end_s=gone[0].sent_s + BOUNDS.forgotten.seconds) if gone else None


def judge_no_loss(findings: Findings, drill: Drill, name: str, *, but: Window | None = None) -> None:
    """No request is lost from any source, from the fault until the mesh was healthy again, and it is healthy. In the window
    `but` requests may be lost."""
    for source in drill.of():
        must_have_been_healthy(drill, (source,))
        findings.examine(f"{name}, {source}", lost(drill.history, drill.whole, (source,), but=but))
    findings.examine(f"mesh after {name}", drill.ill)
    drill.tell(findings)


def judge_gaps(
    findings: Findings,
    evidence: Evidence,
    drill: Drill,
    availability_monitor: AvailabilityMonitor,
    asks: Mapping[str, Cluster],
) -> None:
    """No admission in `asks`, by its name in the availability_monitor, had a gap in the fault that is longer than its bound."""
    for name, cluster in asks.items():
        gap, words = availability_monitor.gap(name, drill.down)
        bound = BOUNDS.replica_gap if cluster.is_primary else BOUNDS.remote_gap
        evidence.attach(f"gap-{cluster}", {"longest gap in seconds": gap, "because": words})
        late = [f"no good answer for {gap:.1f} s: {words}"] if gap > bound.seconds else []
        findings.examine(name, late)


def judge_capabilities(findings: Findings, primary: Cluster, control: CapabilityResults, waited: float | None) -> None:
    """All powers of a primary's istiod worked, and a new namespace was served in time; `waited` is in seconds."""
    for what, problems in control.problems.items():
        findings.examine(f"istiod of {primary}: {what}", problems)
    late = [f"not served within {BOUNDS.leader.seconds:g} s"] if waited is None else []
    findings.examine(f"istiod of {primary}: a new namespace", late)


def judge_lost_cluster(findings: Findings, drill: Drill, victim: Cluster, name: str) -> None:
    """Sources in the cluster itself are lost with it, and not judged."""
    told = drill.moments.told.monotonic_s
    for source in drill.sources:
        one = (str(source),)
        if source.cluster == victim.name:
            continue
        must_have_been_healthy(drill, one)
        sent = drill.history.sent_in(drill.down, sources=one)
        quiet = silence(sent, drill.down, source.cluster)
        problems = [f"its own cluster did not answer for {quiet:.1f} s"] if quiet > BOUNDS.silence.seconds else []
        if source.target is not DEFAULT:
            problems += felt(sent, told, BOUNDS.route_around.seconds)
        findings.examine(f"{name}, {source}", problems)
    findings.examine(f"mesh after {victim} was back", drill.ill)
    drill.tell(findings, but=victim.name)


def not_used(victim: Cluster) -> list[str]:
    """Whether the new pods of the gateway have carried connections: the old ones' counters went with them."""
    carried = gateway_connections(victim)
    return [] if carried else ["no connection went through the new pods"]


def judge_gateway(findings: Findings, drill: Drill, victim: Cluster) -> None:
    """No request is lost in the gateway's own cluster; from others some are, no longer than a bound, and their own
    cluster answers all the time."""
    told = drill.moments.told.monotonic_s
    for source in drill.sources:
        name = (str(source),)
        must_have_been_healthy(drill, name)
        sent = drill.history.sent_in(drill.whole, sources=name)
        what = f"gateway of {victim} killed, {source}"
        if source.cluster == victim.name:
            findings.examine(what, lost(drill.history, drill.whole, name))
            continue
        bound = BOUNDS.gateway_back if source.target is DEFAULT else BOUNDS.route_around
        problems = felt(sent, told, bound.seconds)
        if (quiet := silence(sent, drill.whole, source.cluster)) > BOUNDS.silence.seconds:
            problems.append(f"its own cluster did not answer for {quiet:.1f} s")
        findings.examine(what, problems)
    findings.examine(f"mesh after the gateway of {victim} was killed", drill.ill)
    drill.tell(findings)


def judge_partition(findings: Findings, drill: Drill, name: str) -> None:
    """Each source's own cluster answers all the time; with resilient settings requests are lost for a short time only."""
    told = drill.moments.told.monotonic_s
    for source in drill.sources:
        one = (str(source),)
        must_have_been_healthy(drill, one)
        sent = drill.history.sent_in(drill.down, sources=one)
        problems = []
        if (quiet := silence(sent, drill.down, source.cluster)) > BOUNDS.silence.seconds:
            problems.append(f"its own cluster did not answer for {quiet:.1f} s")
        if source.target is not DEFAULT:
            problems += felt(sent, told, BOUNDS.route_around.seconds)
        findings.examine(f"{name}, {source}", problems)
    findings.examine(f"mesh after {name}", drill.ill)
    drill.tell(findings)
