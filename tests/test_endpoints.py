"""What endpoints a proxy should have, and what is wrong with those that it has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshproof.clients.envoy_admin import Endpoint
from meshproof.core.errors import ClaimFailed
from meshproof.discovery.endpoints import (
    endpoint_problems,
    expected_versions,
    expected_weights,
    known_versions,
    priority_loads,
)
from meshproof.gateways.ports import exposed_ports, needed_ports
from meshproof.mesh.objects import EndpointFacts
from meshproof.mesh.snapshot import Snapshot
from tests.fakes import mesh_of, snapshot_of


def endpoint(
    key: str, weight: int = 1, health: str = "HEALTHY", *, priority: int = 0, locality: str = "", of_locality: int = 0
) -> Endpoint:
    address, _, port = key.partition(":")
    return Endpoint(
        address=address,
        port=int(port),
        weight=weight,
        health=health,
        locality=locality,
        priority=priority,
        locality_weight=of_locality,
    )


def test_across_networks_a_client_has_its_own_pods_and_the_far_gateway() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    assert expected_weights(snapshot, snapshot.mesh.clusters[0]) == {"10.1.0.1:8080": 1, "198.18.2.1:15443": 3}


def test_on_one_network_a_client_has_all_pods_and_no_gateway() -> None:
    snapshot = snapshot_of("primary-remote-samenet")
    assert expected_weights(snapshot, snapshot.mesh.clusters[1]) == {"10.1.0.1:8080": 1, "10.2.0.1:8080": 1}


def test_right_endpoints_are_right_whatever_the_scale_of_their_weights() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    seen = [endpoint("10.1.0.1:8080", 2), endpoint("198.18.2.1:15443", 6)]
    assert endpoint_problems(snapshot, snapshot.mesh.clusters[0], seen) == []


def test_foreign_pod_addresses_are_named_as_such() -> None:
    snapshot = snapshot_of("multi-primary-multinet", gateways=(True, False))
    seen = [endpoint("10.1.0.1:8080"), endpoint("10.2.0.1:8080")]
    assert endpoint_problems(snapshot, snapshot.mesh.clusters[0], seen) == [
        "cluster2 on network2 has ready pods, but no east-west gateway has an address there",
        "unexpected endpoint 10.2.0.1:8080 (pod of cluster2 on network2)",
    ]


def test_missing_unhealthy_and_misweighted_endpoints_are_told() -> None:
    snapshot = snapshot_of("multi-primary-multinet")
    viewer = snapshot.mesh.clusters[0]
    assert endpoint_problems(snapshot, viewer, [endpoint("10.1.0.1:8080", health="UNHEALTHY")]) == [
        "missing endpoint 198.18.2.1:15443 (east-west gateway of cluster2 on network2)",
        "10.1.0.1:8080 is UNHEALTHY",
    ]
    seen = [endpoint("10.1.0.1:8080", 3), endpoint("198.18.2.1:15443", 1)]
    assert endpoint_problems(snapshot, viewer, seen) == [
        "10.1.0.1:8080 has 75.0% of the weight, expected 50.0% by its ready pods",
        "198.18.2.1:15443 has 25.0% of the weight, expected 50.0% by its ready pods",
    ]


def unready_in(snapshot: Snapshot, cluster: int) -> Snapshot:
    """As `snapshot`, with one more pod of the application in a cluster, which is not ready."""
    facts = list(snapshot.facts)
    more = EndpointFacts(address=f"10.{cluster}.0.99", port=8080, ready=False)
    facts[cluster - 1] = replace(facts[cluster - 1], app_endpoints=(*facts[cluster - 1].app_endpoints, more))
    return replace(snapshot, facts=tuple(facts))


def test_pods_that_are_not_ready_may_be_told_of_and_may_count_behind_gateways() -> None:
    """istiod 1.31 does, 1.30 does not."""
    snapshot = unready_in(unready_in(snapshot_of("multi-primary-multinet"), 1), 2)
    viewer, own, unready = snapshot.mesh.clusters[0], endpoint("10.1.0.1:8080"), "10.1.0.99:8080"
    even, counted = [own, endpoint("198.18.2.1:15443")], [own, endpoint("198.18.2.1:15443", 2)]
    for seen in (even, counted, [*counted, endpoint(unready, health="UNHEALTHY")]):
        assert endpoint_problems(snapshot, viewer, seen) == []
    assert endpoint_problems(snapshot, viewer, [*even, endpoint(unready)]) == [
        f"unexpected endpoint {unready} (unready pod of cluster1 on network1)"
    ]
    foreign = endpoint("10.2.0.99:8080", health="UNHEALTHY")
    assert endpoint_problems(snapshot, viewer, [*even, foreign])[0].startswith("unexpected endpoint 10.2.0.99:8080 (")
    assert "has 75.0% of the weight" in endpoint_problems(snapshot, viewer, [own, endpoint("198.18.2.1:15443", 3)])[1]


def test_a_pod_that_is_not_ready_answers_nobody() -> None:
    snapshot = unready_in(snapshot_of("primary-remote-samenet"), 2)
    seen = [endpoint("10.1.0.1:8080"), endpoint("10.2.0.1:8080"), endpoint("10.2.0.99:8080", health="UNHEALTHY")]
    assert expected_versions(snapshot, seen) == {"v1": 0.5, "v2": 0.5}
    # One that is ready, and that a proxy has put aside after its errors, is owed its share.
    assert expected_versions(snapshot, [seen[0], endpoint("10.2.0.1:8080", health="UNHEALTHY")])["v2"] == 0.5


def test_versions_follow_from_weights_through_gateways() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    seen = [endpoint("10.1.0.1:8080", 1), endpoint("198.18.2.1:15443", 3)]
    assert expected_versions(snapshot, seen) == {"v1": 0.25, "v2": 0.75}
    with pytest.raises(ClaimFailed, match="belongs to no cluster"):
        expected_versions(snapshot, [endpoint("192.0.2.9:8080")])


def test_requests_go_to_the_highest_priority() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    seen = [endpoint("10.1.0.1:8080", priority=0), endpoint("198.18.2.1:15443", 3, priority=1)]
    assert expected_versions(snapshot, seen) == {"v1": 1.0}
    assert known_versions(snapshot, seen) == {"v1", "v2"}
    assert endpoint_problems(snapshot, snapshot.mesh.clusters[0], seen) == []


def test_too_few_ready_endpoints_of_a_priority_let_the_next_one_in() -> None:
    """Envoy, Priority levels: with 50% of it healthy the highest gets 70%."""
    snapshot = unready_in(snapshot_of("multi-primary-multinet"), 1)
    seen = [
        endpoint("10.1.0.1:8080"),
        endpoint("10.1.0.99:8080", health="UNHEALTHY"),
        endpoint("198.18.2.1:15443", priority=1),
    ]
    assert expected_versions(snapshot, seen) == pytest.approx({"v1": 0.7, "v2": 0.3})
    assert priority_loads({0: 4, 1: 4}, {0: 3, 1: 4}) == {0: 1.0}
    assert priority_loads({0: 10, 1: 10}, {0: 1, 1: 1}) == pytest.approx({0: 0.5, 1: 0.5})


def test_a_gateway_that_leads_to_several_zones_has_the_weight_of_all() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    zones = [endpoint("198.18.2.1:15443", 2, locality="r2/a"), endpoint("198.18.2.1:15443", 1, locality="r2/b")]
    assert endpoint_problems(snapshot, snapshot.mesh.clusters[0], [endpoint("10.1.0.1:8080"), *zones]) == []


def test_traffic_that_is_distributed_by_locality_follows_the_localities_weights() -> None:
    snapshot = snapshot_of("multi-primary-multinet", pods=(1, 3))
    own = endpoint("10.1.0.1:8080", locality="r1", of_locality=80)
    far = endpoint("198.18.2.1:15443", 3, locality="r2", of_locality=20)
    assert expected_versions(snapshot, [own, far]) == {"v1": 0.8, "v2": 0.2}


@pytest.mark.parametrize(
    ("topology", "exposed"),
    [
        ("primary-remote-multinet", [{15443, 15012, 15017}, {15443}]),
        ("primary-remote-samenet", [{15012, 15017}, set()]),
        ("multi-primary-multinet", [{15443}, {15443}]),
        ("multi-primary-samenet", [set(), set()]),
    ],
)
def test_ports_follow_from_the_topology(topology: str, exposed: list[set[int]]) -> None:
    mesh = mesh_of(topology)
    assert [exposed_ports(mesh, cluster) for cluster in mesh.clusters] == exposed
    assert all(needed_ports(mesh, cluster, cluster) == () for cluster in mesh.clusters)
