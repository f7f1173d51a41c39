"""Which gateways this machine can reach, and which pods stand in for it where a firewall blocks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Unavailable
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod, http_from_runner
from meshproof.probes.http_bodies import BodyAnswer, bodies_from_pod, bodies_from_runner
from meshproof.probes.tcp import tcp_from_pod, tcp_from_runner


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerAccess:
    """How requests of external users are sent to ingress gateways.

    `shut` are the gateways that pods can connect to but the runner cannot: names by address; empty if there are none.
    `instead` maps these addresses to the cluster whose client outside the mesh sends requests instead of the runner.
    """

    shut: Mapping[str, str]
    instead: Mapping[str, ClusterFacts] = field(default_factory=dict)

    def require(self, what: str) -> None:
        """Raises `Unavailable` if the runner is blocked, since then `what` cannot be observed from here."""
        if self.shut:
            gateways = ", ".join(f"{name} ({address})" for address, name in self.shut.items())
            raise Unavailable(
                what,
                f"pods can connect to {gateways}, this machine cannot",
                "run it on a machine that can reach the gateways",
            )

    @property
    def descriptions(self) -> tuple[str, ...]:
        """Which client stands in for the runner at which gateway, one line each."""
        return tuple(
            f"{name} ({address}) is called by the client outside the mesh in {self.instead[address].cluster}: this "
            "machine cannot connect to it, but pods can"
            for address, name in self.shut.items()
        )

    def http(
        self,
        facts: ClusterFacts,
        count: int,
        *,
        host: str = names.APP_HOST,
        path: str = "/",
        timeout_s: float = DEADLINES.answer_s,
    ) -> list[HttpAnswer]:
        """Send `count` GET requests to a cluster's ingress gateway, one at a time."""
        address = facts.ingress_address
        by = self.instead.get(address)
        if by is None:
            return http_from_runner(address, count, host=host, path=path, timeout_s=timeout_s)
        url = f"http://{host}{path}"
        return http_from_pod(by.cluster.kube, by.outside, url, count, timeout_s=timeout_s, through=address)

    def bodies(self, facts: ClusterFacts, hosts: Sequence[str], path: str) -> list[list[BodyAnswer]]:
        """POST bodies to a cluster's ingress gateway for each of these hosts; the answers of each."""
        address = facts.ingress_address
        by = self.instead.get(address)
        if by is None:
            return [bodies_from_runner(address, host, path) for host in hosts]
        urls = [f"http://{host}{path}" for host in hosts]
        return bodies_from_pod(by.cluster.kube, by.outside, urls, through=address)


EVERYWHERE: Final = RunnerAccess(shut={})
"""For clusters on our own network."""


def look(snapshot: Snapshot) -> RunnerAccess:
    """Connect to every external address of every gateway, and where that fails, try it from pods.

    An address that neither can connect to is not listed: then the mesh or the network is broken, and
    claims must report it. A pod of another cluster is preferred as stand-in, since it is external, too.
    """
    gateways = {
        address: (facts, service.name, [(address, port) for port in sorted(service.port_numbers)])
        for facts in snapshot.facts
        for service in facts.services
        if facts.is_gateway(service)
        for address in facts.addresses_of(service)
    }
    targets = [target for _, _, wanted in gateways.values() for target in wanted]
    reached = {answer.address for answer in tcp_from_runner(targets) if answer.accepted}
    unreached = [target for address, (_, _, wanted) in gateways.items() if address not in reached for target in wanted]
    if not unreached:
        return EVERYWHERE
    answers = together(lambda facts: tcp_from_pod(facts.cluster.kube, facts.outside, unreached), snapshot.facts)
    instead: dict[str, ClusterFacts] = {}
    for facts, found in zip(snapshot.facts, answers, strict=True):
        for address in {answer.address for answer in found if answer.accepted}:
            if instead.get(address) in (None, gateways[address][0]):
                instead[address] = facts
    shut = {a: f"{name} of {owner.cluster}" for a, (owner, name, _) in gateways.items() if a in instead}
    return RunnerAccess(shut=shut, instead=instead)
