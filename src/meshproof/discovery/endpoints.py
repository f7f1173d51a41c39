"""The endpoints that proxies have and should have, their owners, and the shares that follow from their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.envoy_admin import Endpoint
from meshproof.core.errors import ClaimFailed
from meshproof.core.names import APP_CLUSTER
from meshproof.core.statistics import expected_shares
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot


def app_endpoints(cluster: Cluster, pod: PodFacts) -> tuple[Endpoint, ...]:
    """The application's endpoints as the proxy of `pod` has them now."""
    return envoy.endpoints_of(cluster.kube, pod.namespace, pod.name, APP_CLUSTER)


def expected_weights(snapshot: Snapshot, viewer: Cluster, *, unready: bool = False) -> dict[str, float]:
    """What a proxy in `viewer` should have: address:port -> weight, in units of one ready pod.

    On its own network the ready pods of every cluster; for every other network the addresses of the east-west gateways
    of the pods' own cluster (istio.io/istio, pilot/pkg/xds/endpoints/ep_filters.go, `selectNetworkGateways`), which
    share the number of ready pods behind them; if that cluster has none, the gateways of its network. `unready` counts
    pods that are not ready behind gateways too, as istiod does from 1.31 on (docs/record.md).
    """
    weights: Counter[str] = Counter()
    shared: dict[str, float] = {}
    for facts in snapshot.facts:
        if not snapshot.mesh.crosses_network(viewer, facts.cluster):
            weights.update(f"{e.address}:{e.port}" for e in facts.ready_endpoints)
            continue
        gateways = _gateways_to(snapshot, facts)
        behind = facts.app_endpoints if unready and facts.ready_endpoints else facts.ready_endpoints
        for address, port in gateways:
            key = f"{address}:{port}"
            shared[key] = shared.get(key, 0.0) + len(behind) / len(gateways)
    return {**weights, **{key: weight for key, weight in shared.items() if weight}}


def _gateways_to(snapshot: Snapshot, facts: ClusterFacts) -> tuple[tuple[str, int], ...]:
    return facts.service_gateways or tuple(
        gateway
        for other in snapshot.facts
        if other.cluster.network == facts.cluster.network
        for gateway in other.service_gateways
    )


def _reachable(snapshot: Snapshot, viewer: Cluster, facts: ClusterFacts) -> bool:
    return not snapshot.mesh.crosses_network(viewer, facts.cluster) or bool(_gateways_to(snapshot, facts))


def endpoint_problems(snapshot: Snapshot, viewer: Cluster, seen: Iterable[Endpoint]) -> list[str]:
    """How the endpoints that a proxy has differ from those that it should have. Weights are compared as shares.

    Whether istiod sends endpoints of pods that are not ready, and counts them behind gateways, depends on its release:
    both are right, as long as it marks them as unhealthy.
    """
    expected = expected_weights(snapshot, viewer)
    waiting = _unready(facts for facts in snapshot.facts if not snapshot.mesh.crosses_network(viewer, facts.cluster))
    actual = _together(endpoint for endpoint in seen if not _is_marked_unready(endpoint, waiting))
    owners = _owners(snapshot)
    problems = [
        f"{facts.cluster} on {facts.cluster.network} has ready pods, but no east-west gateway has an address there"
        for facts in snapshot.facts
        if facts.ready_endpoints and not _reachable(snapshot, viewer, facts)
    ]
    problems += [
        f"missing endpoint {key} ({owners.get(key, 'unknown owner')})"
        for key in sorted(expected.keys() - actual.keys())
    ]
    for key in sorted(actual.keys() - expected.keys()):
        problems.append(f"unexpected endpoint {key} ({owners.get(key, 'unknown owner')})")
    problems += [f"{key} is {e.health}" for key, e in sorted(actual.items()) if e.health != "HEALTHY"]
    if problems or not expected:
        return problems or ["no cluster has a ready endpoint"]
    wrong = _weight_problems(expected, actual)
    return wrong and _weight_problems(expected_weights(snapshot, viewer, unready=True), actual) and wrong


def _together(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    """By address, with the sum of the weights: a gateway is in each locality that has pods behind it."""
    found: dict[str, Endpoint] = {}
    for each in endpoints:
        before = found.get(each.key)
        found[each.key] = replace(each, weight=each.weight + before.weight) if before else each
    return found


def _weight_problems(expected: Mapping[str, float], actual: Mapping[str, Endpoint]) -> list[str]:
    problems = []
    total_expected, total_actual = sum(expected.values()), sum(e.weight for e in actual.values())
    for key, weight in sorted(expected.items()):
        wanted, got = weight / total_expected, actual[key].weight / total_actual
        if abs(wanted - got) > 0.005:  # istiod divides by the number of gateways in integers
            problems.append(f"{key} has {got:.1%} of the weight, expected {wanted:.1%} by its ready pods")
    return problems


def _unready(of: Iterable[ClusterFacts]) -> frozenset[str]:
    return frozenset(f"{e.address}:{e.port}" for facts in of for e in facts.app_endpoints if not e.ready)


def _is_marked_unready(endpoint: Endpoint, unready: frozenset[str]) -> bool:
    """Whether a proxy has an endpoint of a pod that is not ready, and knows that it must not use it."""
    return endpoint.health == "UNHEALTHY" and endpoint.key in unready


def _owners(snapshot: Snapshot) -> dict[str, str]:
    owners: dict[str, str] = {}
    for facts in snapshot.facts:
        place = f"{facts.cluster} on {facts.cluster.network}"
        for address, port in facts.service_gateways:
            owners[f"{address}:{port}"] = f"east-west gateway of {place}"
        for endpoint in facts.app_endpoints:
            owners[f"{endpoint.address}:{endpoint.port}"] = f"{'' if endpoint.ready else 'unready '}pod of {place}"
    return owners


def clusters_behind(snapshot: Snapshot, endpoint: Endpoint) -> dict[Cluster, int]:
    """The clusters that an endpoint leads to, with their ready pods there. Raises `ClaimFailed` if its owner is
    unknown."""
    for facts in snapshot.facts:
        if any((e.address, e.port) == (endpoint.address, endpoint.port) for e in facts.app_endpoints):
            return {facts.cluster: 1}
    for facts in snapshot.facts:
        if (endpoint.address, endpoint.port) in facts.service_gateways:
            return {
                other.cluster: len(other.ready_endpoints)
                for other in snapshot.facts
                if other.cluster.network == facts.cluster.network and other.ready_endpoints
            }
    raise ClaimFailed(f"endpoint {endpoint} belongs to no cluster of the mesh")


def known_versions(snapshot: Snapshot, endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """The versions that endpoints of any priority lead to."""
    unready = _unready(snapshot.facts)
    return frozenset(
        cluster.spec.app_version
        for endpoint in endpoints
        if not _is_marked_unready(endpoint, unready)
        for cluster in clusters_behind(snapshot, endpoint)
    )


def expected_versions(snapshot: Snapshot, endpoints: Iterable[Endpoint]) -> dict[str, float]:
    """The shares in which versions should answer a proxy that has these endpoints: by their weights, in the highest
    priority, as long as enough of its endpoints are ready."""
    shares: dict[str, float] = {}
    unready = _unready(snapshot.facts)
    endpoints = list(endpoints)
    ready = [endpoint for endpoint in endpoints if not _is_marked_unready(endpoint, unready)]
    weights = _weights_of_localities(endpoints)
    loads = priority_loads(
        Counter(endpoint.priority for endpoint in endpoints), Counter(endpoint.priority for endpoint in ready)
    )
    for priority, load in loads.items():
        group = [endpoint for endpoint in ready if endpoint.priority == priority]
        total = sum(weights[endpoint] for endpoint in group)
        for endpoint in group:
            behind = clusters_behind(snapshot, endpoint)
            pods = sum(behind.values())
            for cluster, count in behind.items():
                version = cluster.spec.app_version
                shares[version] = shares.get(version, 0.0) + load * weights[endpoint] / total * count / pods
    if not shares:
        raise ClaimFailed("the proxy has no endpoint for the application")
    return expected_shares({version: round(1_000_000 * share) for version, share in shares.items()})


OVERPROVISIONED: Final = 1.4
"""Envoy's default overprovisioning factor: a priority takes all requests while 72% of its endpoints are healthy."""


def priority_loads(endpoints: Mapping[int, int], healthy: Mapping[int, int]) -> dict[int, float]:
    """The share of requests that each priority gets, from the highest on (Envoy, Priority levels)."""
    health = {p: min(1.0, OVERPROVISIONED * healthy.get(p, 0) / endpoints[p]) for p in sorted(endpoints)}
    total, left = min(1.0, sum(health.values())), 1.0
    loads = {}
    for priority, part in health.items():
        loads[priority] = min(left, part / total) if total else 0.0
        left -= loads[priority]
    return {priority: load for priority, load in loads.items() if load > 0}


def _weights_of_localities(endpoints: Sequence[Endpoint]) -> dict[Endpoint, float]:
    """Each endpoint's part of its locality's weight, which is the sum of theirs unless traffic is distributed by
    locality (`localityLbSetting.distribute`)."""
    sums: Counter[tuple[int, str]] = Counter()
    for each in endpoints:
        sums[each.priority, each.locality] += each.weight
    return {
        each: each.weight
        * (each.locality_weight or sums[each.priority, each.locality])
        / sums[each.priority, each.locality]
        for each in endpoints
    }
