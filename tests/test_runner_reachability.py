"""Whether this machine reaches the gateways: only what pods can reach and it cannot is put down to the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import pytest

from meshproof.core.errors import Unavailable
from meshproof.core.topology import load_topology
from meshproof.mesh.objects import PodFacts, PortFacts, ServiceFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes import runner_reachability as runner_access
from meshproof.probes.runner_reachability import EVERYWHERE, RunnerAccess, look
from meshproof.probes.tcp import TcpAnswer


def service(name: str, address: str, *, kind: str = "LoadBalancer") -> ServiceFacts:
    return ServiceFacts(
        namespace="istio-system",
        name=name,
        kind=kind,
        labels=MappingProxyType({}),
        addresses=(address,) if address else (),
        ports=(PortFacts(name="http", number=80), PortFacts(name="https", number=443)),
    )


class Facts:
    """As much of a cluster's facts as is asked."""

    is_gateway = ClusterFacts.is_gateway
    addresses_of = ClusterFacts.addresses_of
    resolved: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ingress = east_west = None

    def __init__(self, name: str, address: str) -> None:
        self.cluster = Named(name)
        self.outside = None
        self.ingress_address = address
        self.services = [service("istio-ingressgateway", address), service("mockshop", "", kind="ClusterIP")]


class Named:
    def __init__(self, name: str) -> None:
        self.name = name
        self.kube = name
        self.spec = load_topology("multi-primary-samenet").clusters[0]

    def __str__(self) -> str:
        return self.name


class Both:
    """A snapshot of two clusters."""

    facts = (Facts("east", "10.0.0.1"), Facts("west", "10.0.0.2"))


def seen_with(monkeypatch: pytest.MonkeyPatch, *, runner: set[str], pods: set[str]) -> RunnerAccess:
    """What is concluded if the runner, and pods, can connect to these `address:port`."""

    def answers(targets: Iterable[tuple[str, int]], open_to: set[str]) -> list[TcpAnswer]:
        return [TcpAnswer(address=a, port=p, accepted=f"{a}:{p}" in open_to) for a, p in targets]

    def from_pod(_: object, __: PodFacts, targets: Iterable[tuple[str, int]]) -> list[TcpAnswer]:
        return answers(targets, pods)

    monkeypatch.setattr(runner_access, "tcp_from_runner", lambda targets: answers(targets, runner))
    monkeypatch.setattr(runner_access, "tcp_from_pod", from_pod)
    both: Snapshot = Both()  # type: ignore[assignment]
    return look(both)


EAST, WEST = "10.0.0.1:80", "10.0.0.2:443"


def test_one_open_port_of_each_gateway_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_with(monkeypatch, runner={EAST, WEST}, pods=set()) is EVERYWHERE
    EVERYWHERE.require("anything")


def test_what_pods_reach_and_the_runner_does_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    access = seen_with(monkeypatch, runner={EAST}, pods={WEST})
    assert access.shut == {"10.0.0.2": "istio-ingressgateway of west"}
    with pytest.raises(Unavailable) as caught:
        access.require("requests from this machine")
    assert str(caught.value) == (
        "requests from this machine: pods can connect to istio-ingressgateway of west (10.0.0.2), this machine cannot\n"
        "  repair: run it on a machine that can reach the gateways"
    )
    assert access.descriptions == (
        "istio-ingressgateway of west (10.0.0.2) is called by the client outside the mesh in east: this machine cannot "
        "connect to it, but pods can",
    )


def test_a_pod_of_another_cluster_asks_in_the_runners_place_if_one_can(monkeypatch: pytest.MonkeyPatch) -> None:
    access = seen_with(monkeypatch, runner=set(), pods={EAST, WEST})
    assert {address: str(by.cluster) for address, by in access.instead.items()} == {
        "10.0.0.1": "west",
        "10.0.0.2": "east",
    }


class Place:
    """Where a request is sent from, and to which address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, ...]] = []
        monkeypatch.setattr(runner_access, "http_from_runner", self.from_runner)
        monkeypatch.setattr(runner_access, "http_from_pod", self.from_pod)

    def from_runner(self, address: str, count: int, *, host: str, path: str, timeout_s: float) -> list[object]:
        self.asked.append(("runner", address, host + path))
        return []

    def from_pod(self, kube: str, _: object, url: str, count: int, *, timeout_s: float, through: str) -> list[object]:
        self.asked.append((kube, through, url))
        return []


def test_a_gateway_is_asked_by_whoever_can(monkeypatch: pytest.MonkeyPatch) -> None:
    access = seen_with(monkeypatch, runner={EAST}, pods={WEST})
    place = Place(monkeypatch)
    for facts in Both.facts:
        wanted: ClusterFacts = facts  # type: ignore[assignment]
        access.http(wanted, 1, path="/x")
    assert place.asked == [("runner", "10.0.0.1", "mockshop.com/x"), ("east", "10.0.0.2", "http://mockshop.com/x")]


def test_what_nobody_reaches_is_for_claims_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_with(monkeypatch, runner={EAST}, pods=set()).shut == {}
