"""The address plan of a lab: its ranges and names, and whether they are free on this machine.

198.18.0.0/15 is reserved for benchmarks (RFC 2544), so no real network should use it. It is divided into 32 slots of
sixteen /24s; a lab takes one slot, so that several labs can run side by side:

    slot base + 0        the link between this host (.1) and the router (.2)
    slot base + 1..6     the link between the router (.1) and node 1..6 (.2)
    slot base + 9..14    the LoadBalancer addresses of cluster 1..6
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName

BENCHMARK_RANGE = IPv4Network("198.18.0.0/15")
SLOTS = 16
"""Slots in use: pods and services of slot s use eight /16s from 10.128+8s and 10.0+8s, so 10.0.0.0/8 has room for
sixteen."""
MOST_CLUSTERS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """Addresses of one cluster: its only node, its pods, services, and LoadBalancer pool."""

    cluster: ClusterName
    index: int
    gateway: IPv4Address
    address: IPv4Address
    pods: IPv4Network
    services: IPv4Network
    pool: IPv4Network

    @property
    def api_url(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def kubernetes_service(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns_service(self) -> IPv4Address:
        return self.services[10]

    @property
    def host_name(self) -> str:
        return f"{self.cluster}-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPlan:
    """Addresses of a whole lab."""

    lab: str
    slot: int
    range: IPv4Network
    host_address: IPv4Address
    router_address: IPv4Address
    nodes: tuple[NodePlan, ...]

    @property
    def router_namespace(self) -> str:
        return f"meshproof-{self.lab}-router"

    def node_namespace(self, node: NodePlan) -> str:
        return f"meshproof-{self.lab}-{node.cluster}"

    @property
    def host_link(self) -> str:
        """Name of the host's end of the link to the router (at most 15 characters)."""
        return f"meshproof{self.slot}"

    def node(self, cluster: str) -> NodePlan:
        """The plan of one cluster; `KeyError` if there is none."""
        for candidate in self.nodes:
            if candidate.cluster == cluster:
                return candidate
        raise KeyError(cluster)


def plan_slot(lab: str, slot: int, clusters: Sequence[ClusterName]) -> LabPlan:
    """The addresses of lab `lab` in `slot` (0 to 15). Raises `BadInput` for more than six clusters."""
    if not 1 <= len(clusters) <= MOST_CLUSTERS:
        raise BadInput(
            f"lab {lab}",
            f"{len(clusters)} clusters",
            f"a lab has 1 to {MOST_CLUSTERS} clusters; attach to existing ones for more",
        )
    base = int(BENCHMARK_RANGE.network_address) + slot * 16 * 256

    def link(number: int, last: int) -> IPv4Address:
        return IPv4Address(base + number * 256 + last)

    return LabPlan(
        lab=lab,
        slot=slot,
        range=IPv4Network((base, 20)),
        host_address=link(0, 1),
        router_address=link(0, 2),
        nodes=tuple(
            NodePlan(
                cluster=cluster,
                index=number,
                gateway=link(number, 1),
                address=link(number, 2),
                pods=IPv4Network(f"10.{128 + 8 * slot + number}.0.0/16"),
                services=IPv4Network(f"10.{8 * slot + number}.0.0/16"),
                pool=IPv4Network((base + (8 + number) * 256, 24)),
            )
            for number, cluster in enumerate(clusters, start=1)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    """An existing route or address range of this machine, and its device."""

    network: IPv4Network
    device: str


def overlaps(plan: LabPlan, routes: Iterable[HostRoute]) -> tuple[HostRoute, ...]:
    """The host's routes that overlap the lab's range, except the lab's own link."""
    return tuple(
        route
        for route in routes
        if route.network.prefixlen > 0 and route.device != plan.host_link and route.network.overlaps(plan.range)
    )


def choose_plan(
    lab: str,
    clusters: Sequence[ClusterName],
    *,
    routes: Sequence[HostRoute],
    taken: Iterable[int],
    wanted: int | None = None,
) -> LabPlan:
    """The first slot without another lab and overlapping host routes, or `wanted` if it is free.

    Raises `BadInput` that names the overlapping route.
    """
    busy = set(taken)
    blocked: list[str] = []
    for slot in range(SLOTS) if wanted is None else (wanted,):
        if slot in busy:
            blocked.append(f"slot {slot} belongs to another lab")
            continue
        plan = plan_slot(lab, slot, clusters)
        hits = overlaps(plan, routes)
        if not hits:
            return plan
        blocked += [f"{plan.range} overlaps the host's route {hit.network} on {hit.device}" for hit in hits]
    raise BadInput(
        f"address ranges of lab {lab}",
        "; ".join(dict.fromkeys(blocked)),
        "remove the route, choose another slot with --lab-slot=0..15, or stop another lab with `meshproof lab down`",
    )
