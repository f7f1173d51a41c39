"""Which gateways this machine can reach: on clusters of others there may be a firewall that keeps it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshproof import names
from meshproof.errors import Unavailable
from meshproof.facts import ServiceFacts
from meshproof.parallel import together
from meshproof.probes.tcp import tcp_from_pod, tcp_from_runner
from meshproof.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerAccess:
    """Gateways that pods can connect to and the runner cannot: their names by address; empty where all is well."""

    shut: Mapping[str, str]

    def require(self, what: str) -> None:
        """Raises `Unavailable` if the runner is kept out, since then `what` cannot be seen from here."""
        if self.shut:
            gateways = ", ".join(f"{name} ({address})" for address, name in self.shut.items())
            raise Unavailable(
                what, f"pods can connect to {gateways}, this machine cannot", "run it where the gateways can be reached"
            )


EVERYWHERE: Final = RunnerAccess(shut={})
"""For clusters whose network is ours."""


def look(snapshot: Snapshot) -> RunnerAccess:
    """Connect to every external address of every gateway, and where that fails ask pods whether they can.

    An address that nobody can connect to is not listed: then the mesh is wrong, or the network between all of it, and
    claims must say so.
    """
    gateways = {
        address: (f"{service.name} of {facts.cluster}", [(address, port) for port in sorted(service.port_numbers)])
        for facts in snapshot.facts
        for service in facts.services
        if is_gateway(service)
        for address in service.addresses
    }
    targets = [target for _, wanted in gateways.values() for target in wanted]
    reached = {answer.address for answer in tcp_from_runner(targets) if answer.accepted}
    doubtful = {address: name for address, (name, _) in gateways.items() if address not in reached}
    if not doubtful:
        return EVERYWHERE
    asked = [target for address in doubtful for target in gateways[address][1]]
    answers = together(lambda facts: tcp_from_pod(facts.cluster.kube, facts.outside, asked), snapshot.facts)
    open_to_pods = {answer.address for found in answers for answer in found if answer.accepted}
    return RunnerAccess(shut={address: name for address, name in doubtful.items() if address in open_to_pods})


def is_gateway(service: ServiceFacts) -> bool:
    """A Service by which gateways are reached from outside."""
    return service.namespace == names.SYSTEM_NAMESPACE and service.kind == "LoadBalancer"
