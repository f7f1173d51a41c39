"""Network gateways, as istiod knows them and as they are."""

from __future__ import annotations

from collections.abc import Iterable

from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot


def real_gateways(snapshot: Snapshot) -> list[NetworkGateway]:
    """From Services and mesh configuration: those into the network of each cluster that others reach by one."""
    found = (
        gateway
        for c in snapshot.mesh.clusters
        if snapshot.mesh.topology.exposes_services(c.spec)
        for gateway in snapshot.of(c).network_gateways
    )
    return list(dict.fromkeys(found))


def idle_gateways(snapshot: Snapshot) -> frozenset[NetworkGateway]:
    """Those into networks that no other cluster is outside of: nobody takes them, so istiod may know them or not.

    Istio's script labels the Service of every east-west gateway, also where all clusters are on one network.
    """
    idle = (c for c in snapshot.mesh.clusters if not snapshot.mesh.topology.exposes_services(c.spec))
    return frozenset(gateway for c in idle for gateway in snapshot.of(c).network_gateways)


def unproven_gateways(snapshot: Snapshot) -> list[tuple[Cluster, Cluster, NetworkGateway]]:
    """Gateways that the topology does not name, each with a client on another network and a cluster behind it."""
    found: dict[NetworkGateway, tuple[Cluster, Cluster, NetworkGateway]] = {}
    for client, server in snapshot.mesh.pairs_across_networks:
        facts = snapshot.of(server)
        for gateway in facts.network_gateways:
            if gateway.address not in facts.gateway_addresses:
                found.setdefault(gateway, (client, server, gateway))
    return list(found.values())


def gateway_problems(
    known: Iterable[NetworkGateway],
    wanted: frozenset[NetworkGateway],
    idle: frozenset[NetworkGateway] = frozenset(),
) -> list[str]:
    """Which gateways an istiod lacks, and which it should not have; `idle` ones exist and need not be known. Those
    without a port are for HBONE only, and no sidecar's endpoints."""
    has = frozenset(gateway for gateway in known if gateway.port)
    return [f"does not know {shown(gateway)}" for gateway in sorted(wanted - has)] + [
        f"knows {shown(gateway)}, which does not exist" for gateway in sorted(has - wanted - idle)
    ]


def shown(gateway: NetworkGateway) -> str:
    """One line for findings and evidence."""
    owner = gateway.cluster or "the mesh configuration"
    return f"{gateway.address}:{gateway.port} of {owner} into {gateway.network}"
