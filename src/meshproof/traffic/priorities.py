"""The priorities of a proxy's endpoints: which configuration asks for them, and whether they follow from it.

Requests go to the endpoints of the highest priority while these are healthy (Envoy, Priority levels). istiod sets
priorities by locality if a DestinationRule has outlier detection, or a Service has a traffic distribution
(pilot/pkg/networking/core/loadbalancer).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.envoy_admin import Endpoint
from meshproof.clients.istio import istiod_debug
from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json
from meshproof.core import names
from meshproof.core.names import APP_CLUSTER
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot

REGION: Final = "topology.kubernetes.io/region"
ZONE: Final = "topology.kubernetes.io/zone"
SUBZONE: Final = "topology.istio.io/subzone"
CLUSTER: Final = "topology.istio.io/cluster"
HOSTNAME: Final = "kubernetes.io/hostname"
LOCALITY_LABEL: Final = "istio-locality"
"""Label of pods that overrides the locality of their node; `.` stands for `/`."""

SAME_ZONE: Final = (names.NETWORK_LABEL, REGION, ZONE)
SAME_NODE: Final = (*SAME_ZONE, SUBZONE, HOSTNAME)
DISTRIBUTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "preferclose": SAME_ZONE,
    "prefersamezone": SAME_ZONE,
    "prefersamenode": SAME_NODE,
}
"""A Service's traffic distribution, and the labels by which istiod then ranks endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityRule:
    """What asks for priorities (`why`), and how istiod ranks: by these labels, or by region, zone and subzone.

    `failover` maps a region to the one that replaces it; `regions_only` ignores zones.
    """

    why: str
    labels: tuple[str, ...] = ()
    failover: Mapping[str, str] | None = None
    regions_only: bool = False


# -- configuration ----------------------------------------------------------------------------------------------------


def rule_of(policy: Json, rule: str, distribution: str, mesh: Mapping[str, Any]) -> LocalityRule | None:
    """What asks for priorities, if anything does: the traffic `policy` of the DestinationRule `rule`, the
    `distribution` of the Service, or the mesh configuration, in Istio's order (`GetEffectiveLbSetting`)."""
    balancer = policy.get("loadBalancer") or {}
    detects = "outlierDetection" in policy
    outliers = f"outlierDetection of {rule}"
    if (zones := balancer.get("zoneAwareLbSetting")) is not None:
        return _by_zones(zones, f"zoneAwareLbSetting of {rule}")
    if (setting := balancer.get("localityLbSetting")) is not None:
        return _by_locality(setting, f"localityLbSetting and {outliers}") if detects else None
    if labels := DISTRIBUTIONS.get(distribution.lower()):
        return LocalityRule(why=f"trafficDistribution {distribution} of the Service", labels=labels)
    if (zones := mesh.get("zoneAwareLbSetting")) is not None:
        return _by_zones(zones, "zoneAwareLbSetting of the mesh configuration")
    return _by_locality(mesh.get("localityLbSetting") or {}, outliers) if detects else None


def _by_locality(setting: Json, why: str) -> LocalityRule | None:
    if setting.get("enabled") is False or setting.get("distribute"):
        return None
    failover = {each.get("from", ""): each.get("to", "") for each in setting.get("failover") or []}
    return LocalityRule(why=why, labels=tuple(setting.get("failoverPriority") or ()), failover=failover)


def _by_zones(setting: Json, why: str) -> LocalityRule | None:
    if setting.get("enabled") is False:
        return None
    failover = {each.get("from", ""): each.get("to", "") for each in setting.get("failover") or []}
    labels = tuple(setting.get("failoverPriority") or ())
    return LocalityRule(why=why, labels=labels, failover=failover, regions_only=True)


def locality_rule(snapshot: Snapshot, viewer: Cluster, pod: PodFacts) -> LocalityRule | None:
    """What asks for priorities of the application's endpoints in the proxy of `pod`; the proxy names the
    DestinationRule that it got."""
    primary = snapshot.of(snapshot.mesh.control_plane_of(viewer))
    mesh = istiod_debug.mesh_config(primary.cluster.kube, primary.istiods[0].name) if primary.istiods else {}
    place = envoy.destination_rule_of(viewer.kube, pod.namespace, pod.name, APP_CLUSTER)
    policy, rule = {}, ""
    if place is not None:
        namespace, name = place
        rule = f"DestinationRule {namespace}/{name}"
        found = next(
            (r for r in primary.cluster.kube.list("DestinationRule", namespace) if r["metadata"]["name"] == name), {}
        )
        policy = _policy_for(found, names.APP_PORT)
    services = [snapshot.of(viewer), *snapshot.facts]
    found_in = (each.service(names.APP_NAMESPACE, names.APP_SERVICE) for each in services)
    distribution = next((service.distribution for service in found_in if service and service.distribution), "")
    return rule_of(policy, rule, distribution, mesh)


def _policy_for(rule: Json, port: int) -> Json:
    """The traffic policy for a port: its own settings replace those for all ports."""
    policy: Json = (rule.get("spec") or {}).get("trafficPolicy") or {}
    for each in policy.get("portLevelSettings") or []:
        if (each.get("port") or {}).get("number") == port:
            return dict(each)
    return policy


# -- localities -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy or an endpoint is: its labels as istiod completes them, with region, zone and subzone."""

    labels: Mapping[str, str]

    @property
    def locality(self) -> str:
        """As Envoy's endpoints have it: `region/zone/subzone`, without what is not set."""
        return "/".join(filter(None, (self.labels.get(key, "") for key in (REGION, ZONE, SUBZONE))))


Nodes = Mapping[str, Mapping[str, str]]
"""The labels of each node."""


def nodes_of(cluster: Cluster) -> Nodes | None:
    """The nodes of a cluster; None if the user may not list them."""
    try:
        found = cluster.kube.list("Node")
    except ApiError as problem:
        if problem.status != FORBIDDEN:
            raise
        return None
    return {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in found}


def locality_of_pod(cluster: Cluster, pod: PodFacts, nodes: Nodes) -> Place:
    """Where a pod is, by its node or its own label."""
    node = nodes.get(pod.node) or {}
    parts = [node.get(key, "") for key in (REGION, ZONE, SUBZONE)]
    if own := pod.labels.get(LOCALITY_LABEL, ""):
        parts = [*own.replace(".", "/").split("/"), "", ""][:3]
    added = dict(zip((REGION, ZONE, SUBZONE), parts, strict=True))
    added |= {CLUSTER: str(cluster.name), HOSTNAME: pod.node, names.NETWORK_LABEL: str(cluster.network)}
    return Place(labels={**added, **{k: v for k, v in pod.labels.items() if k not in added or not added[k]}})


Known = tuple[Place, frozenset[str]]
"""An endpoint as istiod ranks it, and the localities that it may have."""


def known_as(snapshot: Snapshot, endpoint: Endpoint, nodes: Mapping[str, Nodes]) -> Known:
    """A pod with its labels and its node's locality. Of a gateway istiod knows cluster and network only, and lists it
    in the locality of each group of pods behind it."""
    for facts in snapshot.facts:
        if endpoint.address in {each.address for each in facts.app_endpoints}:
            pods = [pod for pod in facts.pods if pod.address == endpoint.address and pod.live]
            places = [locality_of_pod(facts.cluster, pod, nodes[facts.cluster.name]) for pod in pods]
            return next(iter(places), Place(labels={})), frozenset(place.locality for place in places)
    for facts in snapshot.facts:
        if (endpoint.address, endpoint.port) in facts.service_gateways:
            labels = {CLUSTER: str(facts.cluster.name), names.NETWORK_LABEL: str(facts.cluster.network)}
            return Place(labels=labels), frozenset(_localities_on(snapshot, facts.cluster, nodes))
    return Place(labels={}), frozenset()


def _localities_on(snapshot: Snapshot, gateway: Cluster, nodes: Mapping[str, Nodes]) -> Iterator[str]:
    """Those of the application's pods on a gateway's network."""
    for facts in snapshot.facts:
        if facts.cluster.network == gateway.network:
            addresses = {each.address for each in facts.app_endpoints}
            pods = (pod for pod in facts.pods if pod.address in addresses and pod.live)
            yield from (locality_of_pod(facts.cluster, pod, nodes[facts.cluster.name]).locality for pod in pods)


# -- judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which endpoints of a proxy are preferred: why, and what is wrong with it; both for the report."""

    why: str
    problems: tuple[str, ...] = ()


def preference(snapshot: Snapshot, viewer: Cluster, pod: PodFacts, endpoints: Sequence[Endpoint]) -> Preference:
    """Judge the priorities that the proxy of `pod` has for the application's endpoints."""
    rule = locality_rule(snapshot, viewer, pod)
    used = sorted({endpoint.priority for endpoint in endpoints})
    if rule is None:
        text = "its endpoints have priorities, although nothing asks for them: no outlierDetection in a DestinationRule"
        problems = (f"{text}, no trafficDistribution",) if len(used) > 1 else ()
        return Preference(why="all endpoints have the same priority", problems=problems)
    found = {str(cluster.name): nodes_of(cluster) for cluster in snapshot.mesh.clusters}
    nodes = {name: each for name, each in found.items() if each is not None}
    if len(nodes) < len(found):
        return Preference(why=f"{rule.why}; not compared with the nodes' localities, which may not be listed")
    own = locality_of_pod(viewer, pod, nodes[viewer.name])
    seen = [(each, known_as(snapshot, each, nodes)) for each in endpoints]
    return Preference(why=rule.why, problems=tuple(priority_problems(rule, own, seen)))


def priority_problems(rule: LocalityRule, own: Place, seen: Iterable[tuple[Endpoint, Known]]) -> list[str]:
    """Endpoints in another locality than their pods' nodes, or with another priority than the rule gives them."""
    seen = list(seen)
    problems = [
        f"{each.key} is in locality {each.locality or 'none'}, its pods' nodes are in {_listed(possible)}"
        for each, (_, possible) in seen
        if possible and each.locality not in possible
    ]
    ranks = [rank(rule, own, place, each.locality) for each, (place, _) in seen]
    order = {value: number for number, value in enumerate(sorted(set(ranks)))}
    problems += [
        f"{each.key} in locality {each.locality or 'none'} has priority {each.priority}, expected {order[value]} "
        f"for a client in {own.locality or 'no locality'} ({rule.why})"
        for (each, _), value in zip(seen, ranks, strict=True)
        if each.priority != order[value]
    ]
    return list(dict.fromkeys(problems))


def _listed(localities: Iterable[str]) -> str:
    return " or ".join(sorted(locality or "none" for locality in localities))


def rank(rule: LocalityRule, own: Place, place: Place, locality: str) -> tuple[int, int]:
    """How far an endpoint is from a client: by the rule's labels first, then by locality (`applyFailoverPriorities`,
    `applyLocalityFailover`, `applyZoneAwareRegionalFailover`)."""
    by_labels = _label_rank(rule.labels, own.labels, place.labels) if rule.labels else 0
    by_place = _locality_rank(rule, own.locality, locality) if not rule.labels or rule.failover else 0
    return by_labels, by_place


def _label_rank(wanted: Sequence[str], own: Mapping[str, str], theirs: Mapping[str, str]) -> int:
    """The number of labels from the first that differs; another network comes after all others of the own one."""
    added = 0
    for index, each in enumerate(wanted):
        label, given, value = each.partition("=")
        if (value if given else own.get(label, "")) == theirs.get(label, ""):
            continue
        if index == 0 and label == names.NETWORK_LABEL:
            added = len(wanted)
            continue
        return added + len(wanted) - index
    return added


def _locality_rank(rule: LocalityRule, own: str, theirs: str) -> int:
    mine, yours = ([*text.split("/"), "", ""][:3] for text in (own, theirs))
    if mine[0] != yours[0]:
        replaced = (rule.failover or {}).get(mine[0])
        return 3 if replaced in (None, yours[0]) else 4
    if rule.regions_only or mine == yours:
        return 0
    return 2 if mine[1] != yours[1] else 1
