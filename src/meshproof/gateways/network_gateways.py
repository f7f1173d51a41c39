"""Network gateways, as istiod knows them and as they are."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.core import names
from meshproof.mesh.snapshot import Snapshot


def real_gateways(snapshot: Snapshot) -> list[NetworkGateway]:
    """From the Services: one for each address of the gateway of each cluster that others reach by one."""
    return [
        NetworkGateway(network=c.network, cluster=c.name, address=address, port=names.PORT_SERVICES)
        for c in snapshot.mesh.clusters
        if snapshot.mesh.topology.exposes_services(c.spec)
        for named in snapshot.of(c).gateway_addresses
        for address in _resolved(named)
    ]


def _resolved(address: str) -> list[str]:
    """istiod resolves host names (clouds give them to load balancers) itself."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)})
    return [address]


def gateway_problems(known: Iterable[NetworkGateway], wanted: frozenset[NetworkGateway]) -> list[str]:
    """Which gateways an istiod lacks, and which it should not have."""
    has = frozenset(known)
    return [f"does not know {shown(gateway)}" for gateway in sorted(wanted - has)] + [
        f"knows {shown(gateway)}, which does not exist" for gateway in sorted(has - wanted)
    ]


def shown(gateway: NetworkGateway) -> str:
    """One line for findings and evidence."""
    return f"{gateway.address}:{gateway.port} of {gateway.cluster} into {gateway.network}"
