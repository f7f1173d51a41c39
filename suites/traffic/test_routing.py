"""Routes of our own over probes in all clusters: weights, subsets, and who serves when the nearest fails."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients.envoy_admin import endpoints_of, weights_of_route
from meshproof.clients.istio.configuration import is_probe, objects_of, place_of
from meshproof.controlplane.config_consistency import failover_that_never_happens
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import ClaimFailed
from meshproof.core.statistics import expected_shares
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod
from meshproof.probes.http_batch import Call, Reply, call_from_pod, told_replies
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.traffic.shares import share_problems, told
from meshproof.workloads.testbed.configuration import EJECTED_AFTER, EJECTED_S, EJECTION_LAG_S, weights
from meshproof.workloads.testbed.lifecycle import Stage
from meshproof.workloads.testbed.names import FAIL_HEADER, FAILOVER, PORT_HTTP, WEIGHTED


@claim(
    "TRAFFIC-03",
    "weighted routes over subsets in different clusters (80:20) hold, from each client and through each ingress "
    "gateway, without an error",
    promised_by="istio.io, Traffic Shifting; Destination Rule: subsets (one fixed sample, alpha 1e-6)",
    hint="other weights in the proxies: has somebody changed the VirtualService, or does istiod no longer follow "
    "(CONTROL-03)? all from one cluster: DISCOVERY-02; subsets need the pods' labels in every cluster",
)
def test_weighted_routes_hold(
    mesh: Mesh, snapshot: Snapshot, stage: Stage, evidence: Evidence, runner_access: RunnerAccess
) -> None:
    """A canary whose weight is not what was written goes to more users than it should, or to none."""
    expected = expected_shares(weights(mesh))

    def sample(source: tuple[Cluster, bool]) -> list[HttpAnswer]:
        cluster, through_ingress = source
        facts = snapshot.of(cluster)
        if through_ingress:
            must_have_weights(stage, cluster, facts.ingress_pod, facts.ingress_route, stage.host(WEIGHTED))
            return runner_access.http(facts, SAMPLES.weights, host=stage.host(WEIGHTED))
        host = names.fqdn(WEIGHTED, stage.namespace)
        must_have_weights(stage, cluster, facts.client, str(PORT_HTTP), host)
        return http_from_pod(cluster.kube, facts.client, stage.url(WEIGHTED), SAMPLES.weights)

    findings = Findings("samples")
    findings.skip(snapshot.without_ingress)
    usable = snapshot.with_ingress
    sources = [(c, through) for c in mesh.clusters for through in (False, True) if not through or c in usable]
    for (cluster, through), answers in zip(sources, together(sample, sources), strict=True):
        name = f"{'through the ingress gateway of' if through else 'from the client of'} {cluster}"
        findings.examine(name, share_problems(answers, expected))
        evidence.attach(f"{cluster}-{'ingress' if through else 'client'}", told(answers))
    findings.conclude()


def must_have_weights(stage: Stage, cluster: Cluster, pod: PodFacts, route: str, host: str) -> None:
    """Wait until a proxy has the weights that were written, and endpoints for each of them.

    Route, subsets and endpoints come in pushes of their own: a route to a subset that has no endpoint yet is a 503.
    """

    def check() -> None:
        found = weights_of_route(cluster.kube, pod.namespace, pod.name, route, host)
        seen = {name.split("|")[2]: weight for name, weight in found.items()}
        if seen != weights(stage.mesh):
            raise NotYet(f"weights are {seen or 'none'}, should be {weights(stage.mesh)}")
        for target in found:
            if not endpoints_of(cluster.kube, pod.namespace, pod.name, target):
                raise NotYet(f"{target} has no endpoint")

    what = f"{cluster} {pod} has the weighted route"
    eventually(check, what=what, timeout_s=DEADLINES.configuration, error=ClaimFailed)


@claim(
    "TRAFFIC-04",
    "locality failover with outlier detection: a client's own cluster serves; when its endpoints answer 5xx another "
    "cluster does; and back",
    promised_by="istio.io, Locality Load Balancing: Failover; Destination Rule: outlierDetection",
    hint="without outlierDetection failover never happens while endpoints look healthy: add it to the DestinationRule; "
    "never local: are proxies and endpoints labelled with cluster and network (DISCOVERY-07)?",
)
def test_failing_endpoints_give_way(mesh: Mesh, snapshot: Snapshot, stage: Stage) -> None:
    """Pods that answer, but with errors, stay in the registry: only what clients see can take them out."""
    findings = Findings("clients and configuration objects")
    drills = together(lambda cluster: drill(snapshot, stage, cluster), mesh.clusters)
    for cluster, problems in zip(mesh.clusters, drills, strict=True):
        findings.examine(f"client of {cluster}", problems)
    for primary in mesh.primaries:
        if detects_outliers_everywhere(primary):
            continue
        for rule in objects_of(primary.kube, ["DestinationRule"]):
            findings.examine(f"{primary} {place_of(rule)}", [] if is_probe(rule) else failover_that_never_happens(rule))
    findings.conclude()


def detects_outliers_everywhere(primary: Cluster) -> bool:
    """Whether meshConfig.defaultTrafficPolicy gives every DestinationRule outlier detection."""
    name = names.of_revision(names.MESH_CONFIG, primary.spec.revision)
    found = primary.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE)
    return "outlierDetection" in ((found or {}).get("data") or {}).get("mesh", "")


def drill(snapshot: Snapshot, stage: Stage, cluster: Cluster) -> list[str]:
    """All is well, the own cluster's probe fails for this client, all is well again."""
    pod, url, count = snapshot.of(cluster).client, stage.url(FAILOVER), SAMPLES.local
    must_prefer_its_own(stage, cluster, pod)
    (well,) = call_from_pod(cluster.kube, pod, [Call(url=url, count=count)])
    failing_call = Call(
        url=url,
        count=SAMPLES.failing,
        headers={FAIL_HEADER: cluster.name},
        options=("--rate", f"{SAMPLES.failing_rate:g}/s"),
    )
    (failing,) = call_from_pod(cluster.kube, pod, [failing_call])

    def back() -> None:
        (seen,) = call_from_pod(cluster.kube, pod, [Call(url=url, count=SAMPLES.repeated)])
        if {reply.outcome for reply in seen} != {cluster.name}:
            raise NotYet(f"{told_replies(seen)}")

    problems = failover_problems(cluster.name, well, failing)
    what = f"{cluster}'s own endpoints serve again after their errors have ended"
    eventually(back, what=what, timeout_s=DEADLINES.return_home, error=ClaimFailed)
    return problems


def must_prefer_its_own(stage: Stage, cluster: Cluster, pod: PodFacts) -> None:
    """Wait until the client's proxy has all endpoints, those of other clusters with a lower priority."""
    name = f"outbound|{PORT_HTTP}||{names.fqdn(FAILOVER, stage.namespace)}"

    def check() -> None:
        found = endpoints_of(cluster.kube, pod.namespace, pod.name, name)
        seen = sorted(endpoint.priority for endpoint in found)
        if len(seen) < 2 or seen[0] == seen[-1]:
            raise NotYet("; ".join(f"{e} priority {e.priority}" for e in found) or "no endpoint")

    what = f"{cluster} {pod} has endpoints of two priorities"
    eventually(check, what=what, timeout_s=DEADLINES.configuration, error=ClaimFailed)


def failover_problems(own: str, well: Sequence[Reply], failing: Sequence[Reply]) -> list[str]:
    """Judge replies before the fault and in it: as many errors as outlier detection needs to see, then none."""
    strayed = [reply.outcome for reply in well if reply.outcome != own]
    problems = (
        [f"without a fault {len(strayed)} of {len(well)} left the cluster or failed: {strayed[0]}"] if strayed else []
    )
    first = failing[:EJECTED_AFTER]
    if [reply.status for reply in first] != [500] * len(first):
        problems.append(f"the first {len(first)} requests in the fault did not go to {own}: {told_replies(first)}")
    rest = sent_between(EJECTION_LAG_S, EJECTED_S, failing[EJECTED_AFTER:])
    lag = f"{EJECTION_LAG_S:g} s after {EJECTED_AFTER} errors"
    if kept := [reply.outcome for reply in rest if not reply.ok or reply.server == own]:
        problems.append(f"{lag} {len(kept)} of {len(rest)} requests were still lost: {kept[0]}")
    elif len(rest) < SAMPLES.local // 2:
        problems.append(f"{lag} only {len(rest)} requests were answered while the ejection lasts ({EJECTED_S} s)")
    return problems


def sent_between(after_s: float, before_s: float, replies: Sequence[Reply]) -> list[Reply]:
    """The replies to requests that were sent within that time, at a constant rate or as soon as there was an answer."""
    found, begun = [], 0.0
    for reply in replies:
        if after_s <= round(begun, 6) < before_s:
            found.append(reply)
        begun += max(reply.seconds, 1 / SAMPLES.failing_rate)
    return found
