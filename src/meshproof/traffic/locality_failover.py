"""Locality failover: which cluster serves when a client's own answers with errors."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.clients.envoy_admin import endpoints_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.http_batch import HttpCall, HttpReply, http_calls_from_pod, summarize_replies
from meshproof.workloads.testbed.configuration import EJECTED_AFTER, EJECTED_S, EJECTION_LAG_S
from meshproof.workloads.testbed.lifecycle import TestBed
from meshproof.workloads.testbed.names import FAIL_HEADER, FAILOVER, PORT_HTTP


def detects_outliers_everywhere(primary: Cluster) -> bool:
    """Whether meshConfig.defaultTrafficPolicy gives every DestinationRule outlier detection."""
    name = names.of_revision(names.MESH_CONFIG, primary.spec.revision)
    found = primary.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE)
    return "outlierDetection" in ((found or {}).get("data") or {}).get("mesh", "")


def drill_failover(snapshot: Snapshot, test_bed: TestBed, cluster: Cluster) -> list[str]:
    """Requests while all is healthy, while the own cluster's probe fails for this client, and afterwards."""
    pod, url, count = snapshot.of(cluster).client, test_bed.url(FAILOVER), SAMPLES.local
    must_prefer_its_own(test_bed, cluster, pod)
    (healthy,) = http_calls_from_pod(cluster.kube, pod, [HttpCall(url=url, count=count)])
    failing_call = HttpCall(
        url=url,
        count=SAMPLES.failing,
        headers={FAIL_HEADER: cluster.name},
        options=("--rate", f"{SAMPLES.failing_rate_hz:g}/s"),
    )
    (failing,) = http_calls_from_pod(cluster.kube, pod, [failing_call])

    def back() -> None:
        (seen,) = http_calls_from_pod(cluster.kube, pod, [HttpCall(url=url, count=SAMPLES.repeated)])
        if {reply.outcome for reply in seen} != {cluster.name}:
            raise NotYet(f"{summarize_replies(seen)}")

    problems = failover_problems(cluster.name, healthy, failing)
    what = f"{cluster}'s own endpoints serve again after their errors have ended"
    eventually(back, what=what, timeout_s=DEADLINES.return_home_s, error=ClaimFailed)
    return problems


def must_prefer_its_own(test_bed: TestBed, cluster: Cluster, pod: PodFacts) -> None:
    """Wait until the client's proxy has all endpoints, those of other clusters with a lower priority."""
    name = f"outbound|{PORT_HTTP}||{names.fqdn(FAILOVER, test_bed.namespace)}"

    def check() -> None:
        found = endpoints_of(cluster.kube, pod.namespace, pod.name, name)
        seen = sorted(endpoint.priority for endpoint in found)
        if len(seen) < 2 or seen[0] == seen[-1]:
            raise NotYet("; ".join(f"{e} priority {e.priority}" for e in found) or "no endpoint")

    what = f"{cluster} {pod} has endpoints of two priorities"
    eventually(check, what=what, timeout_s=DEADLINES.configuration_s, error=ClaimFailed)


def failover_problems(own: str, healthy: Sequence[HttpReply], failing: Sequence[HttpReply]) -> list[str]:
    """Judge replies before and during the fault: as many errors as outlier detection needs, then none."""
    strayed = [reply.outcome for reply in healthy if reply.outcome != own]
    problems = (
        [f"without a fault {len(strayed)} of {len(healthy)} requests left the cluster or failed: {strayed[0]}"]
        if strayed
        else []
    )
    first = failing[:EJECTED_AFTER]
    if [reply.status for reply in first] != [500] * len(first):
        problems.append(
            f"the first {len(first)} requests during the fault did not go to {own}: {summarize_replies(first)}"
        )
    rest = sent_between(EJECTION_LAG_S, EJECTED_S, failing[EJECTED_AFTER:])
    lag = f"{EJECTION_LAG_S:g} s after {EJECTED_AFTER} errors"
    if kept := [reply.outcome for reply in rest if not reply.ok or reply.server == own]:
        problems.append(f"{lag} {len(kept)} of {len(rest)} requests were still lost or served by {own}: {kept[0]}")
    elif len(rest) < SAMPLES.local // 2:
        problems.append(f"{lag} only {len(rest)} requests were answered while the ejection lasts ({EJECTED_S} s)")
    return problems


def sent_between(after_s: float, before_s: float, replies: Sequence[HttpReply]) -> list[HttpReply]:
    """The replies to requests that were sent within that time, at a constant rate or as soon as there was an answer."""
    found, begun = [], 0.0
    for reply in replies:
        if after_s <= round(begun, 6) < before_s:
            found.append(reply)
        begun += max(reply.seconds, 1 / SAMPLES.failing_rate_hz)
    return found


def failover_without_outlier_detection(rule: Json) -> list[str]:
    """Why the locality failover of a DestinationRule never happens (istio.io, Locality Load Balancing)."""
    spec = rule.get("spec") or {}
    policies = [("", spec.get("trafficPolicy") or {})]
    policies += [(f" of subset {s.get('name')}", s.get("trafficPolicy") or {}) for s in spec.get("subsets") or []]
    found = []
    for where, policy in policies:
        setting = (policy.get("loadBalancer") or {}).get("localityLbSetting") or {}
        enabled = (setting.get("failover") or setting.get("failoverPriority")) and setting.get("enabled") is not False
        inherited = (spec.get("trafficPolicy") or {}).get("outlierDetection")
        if enabled and not (policy.get("outlierDetection") or inherited):
            found.append(f"its locality failover{where} has no outlierDetection, so it never happens")
    return found
