"""Which priorities a proxy's endpoints may have: none without a setting, and those that follow from it with one."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType

import pytest

from meshproof.clients.envoy_admin import Endpoint, parse_destination_rule
from meshproof.clients.kubernetes.client import Json
from meshproof.mesh.snapshot import Snapshot
from meshproof.traffic.priorities import (
    REGION,
    ZONE,
    LocalityRule,
    Nodes,
    Place,
    known_as,
    locality_of_pod,
    priority_problems,
    rule_of,
)
from tests.fakes import pod, snapshot_of

OUTLIERS: Json = {"outlierDetection": {"consecutive5xxErrors": 3}}
RULE = "DestinationRule istio-system/all"
BY_LOCALITY = LocalityRule(why=f"outlierDetection of {RULE}")
PREFER_CLOSE = rule_of({}, "", "PreferClose", {})
NODES: dict[str, Nodes] = {
    "cluster1": {"n1": {REGION: "r1", ZONE: "a"}},
    "cluster2": {"n2": {REGION: "r2", ZONE: "a"}},
}


def test_without_a_setting_nothing_asks_for_priorities() -> None:
    assert rule_of({}, RULE, "", {"localityLbSetting": {"enabled": True}}) is None
    prefers = {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.istio.io/cluster"]}}}
    assert rule_of(prefers, RULE, "", {}) is None
    for off in ({"enabled": False}, {"distribute": [{"from": "r1/*", "to": {"r2/*": 100}}]}):
        assert rule_of({**OUTLIERS, "loadBalancer": {"localityLbSetting": off}}, RULE, "PreferClose", {}) is None
        assert rule_of(OUTLIERS, RULE, "", {"localityLbSetting": off}) is None


def test_what_asks_for_priorities_is_named() -> None:
    whys = {
        "outliers": rule_of(OUTLIERS, RULE, "", {}),
        "close": PREFER_CLOSE,
        "zones": rule_of({"loadBalancer": {"zoneAwareLbSetting": {}}}, RULE, "", {}),
        "both": rule_of({**OUTLIERS, "loadBalancer": {"localityLbSetting": {"enabled": True}}}, RULE, "", {}),
    }
    assert {name: rule.why for name, rule in whys.items() if rule} == {
        "outliers": "outlierDetection of DestinationRule istio-system/all",
        "close": "trafficDistribution PreferClose of the Service",
        "zones": "zoneAwareLbSetting of DestinationRule istio-system/all",
        "both": "localityLbSetting and outlierDetection of DestinationRule istio-system/all",
    }


def located(snapshot: Snapshot) -> Snapshot:
    """With the application's pods on the node of their cluster."""
    facts = []
    for number, each in enumerate(snapshot.facts, start=1):
        address = each.app_endpoints[0].address
        facts.append(
            replace(each, pods=(replace(pod("app", "meshproof-app", address, app="mockshop"), node=f"n{number}"),))
        )
    return replace(snapshot, facts=tuple(facts))


def seen_from(snapshot: Snapshot, rule: LocalityRule, client: int, *endpoints: tuple[str, str, int]) -> list[str]:
    found = []
    for key, locality, priority in endpoints:
        address, _, port = key.partition(":")
        each = Endpoint(
            address=address, port=int(port), weight=1, health="HEALTHY", locality=locality, priority=priority
        )
        found.append((each, known_as(snapshot, each, NODES)))
    cluster = snapshot.mesh.clusters[client - 1]
    own = locality_of_pod(cluster, replace(pod("client"), node=f"n{client}"), NODES[f"cluster{client}"])
    return priority_problems(rule, own, found)


def test_the_own_region_comes_first_through_a_gateway_too() -> None:
    snapshot = located(snapshot_of("multi-primary-multinet"))
    own, far = ("10.1.0.1:8080", "r1/a", 0), ("198.18.2.1:15443", "r2/a", 1)
    assert seen_from(snapshot, BY_LOCALITY, 1, own, far) == []
    assert seen_from(snapshot, BY_LOCALITY, 1, (*own[:2], 1), (*far[:2], 0)) == [
        "10.1.0.1:8080 in locality r1/a has priority 1, expected 0 for a client in r1/a "
        "(outlierDetection of DestinationRule istio-system/all)",
        "198.18.2.1:15443 in locality r2/a has priority 0, expected 1 for a client in r1/a "
        "(outlierDetection of DestinationRule istio-system/all)",
    ]
    assert len(seen_from(snapshot, BY_LOCALITY, 1, own, (*far[:2], 0))) == 1


def test_a_locality_that_is_not_the_nodes_is_found() -> None:
    snapshot = located(snapshot_of("multi-primary-multinet"))
    found = seen_from(snapshot, BY_LOCALITY, 1, ("10.1.0.1:8080", "r9", 0), ("198.18.2.1:15443", "r2/a", 0))
    assert found == ["10.1.0.1:8080 is in locality r9, its pods' nodes are in r1/a"]


def test_prefer_close_means_the_own_network_then_the_zone() -> None:
    assert PREFER_CLOSE is not None
    across = located(snapshot_of("multi-primary-multinet"))
    assert seen_from(across, PREFER_CLOSE, 1, ("10.1.0.1:8080", "r1/a", 0), ("198.18.2.1:15443", "r2/a", 1)) == []
    beside = located(snapshot_of("multi-primary-samenet"))
    assert seen_from(beside, PREFER_CLOSE, 2, ("10.1.0.1:8080", "r1/a", 1), ("10.2.0.1:8080", "r2/a", 0)) == []


@pytest.mark.parametrize(("theirs", "rank"), [("r1/a/x", 0), ("r1/a/y", 1), ("r1/b", 2), ("r2", 3), ("r3", 4), ("", 4)])
def test_distances_are_istios(theirs: str, rank: int) -> None:
    rule = LocalityRule(why="", failover={"r1": "r2"})
    own = Place(labels={REGION: "r1", ZONE: "a", "topology.istio.io/subzone": "x"})
    near = Endpoint(address="a", port=1, weight=1, health="HEALTHY", locality="r1/a/x", priority=0)
    other = replace(near, address="b", locality=theirs, priority=min(rank, 1))
    known = (Place(labels={}), frozenset[str]())
    assert priority_problems(rule, own, [(near, known), (other, known)]) == []


def test_a_pod_may_be_where_its_label_says() -> None:
    snapshot = snapshot_of("multi-primary-multinet")
    labelled = replace(pod("x"), node="n1", labels=MappingProxyType({"istio-locality": "r7.z"}))
    assert locality_of_pod(snapshot.mesh.clusters[0], labelled, NODES["cluster1"]).locality == "r7/z"


def test_a_proxy_names_the_rule_that_it_got() -> None:
    path = "/apis/networking.istio.io/v1/namespaces/istio-system/destination-rule/all"
    metadata = {"filter_metadata": {"istio": {"config": path}}}
    text = json.dumps({"configs": [{"cluster": {"name": "c", "metadata": metadata}}]})
    assert parse_destination_rule(text, "c") == ("istio-system", "all")
    assert parse_destination_rule(text, "d") is None
    assert parse_destination_rule('{"configs": [{"cluster": {"name": "c"}}]}', "c") is None
