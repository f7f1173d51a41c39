"""Which ports of an east-west gateway a topology needs."""

from __future__ import annotations

from typing import Final

from meshproof.core import names
from meshproof.mesh.handles import Cluster, Mesh

PORT_STATUS: Final = 15021
"""Readiness of a gateway; load balancers probe it, so it is exposed wherever a gateway is."""


def needed_ports(mesh: Mesh, client: Cluster, server: Cluster) -> tuple[int, ...]:
    """The ports of `server`'s east-west gateway that something in `client` must reach; empty if none."""
    ports: list[int] = []
    if mesh.crosses_network(client, server):
        ports.append(names.PORT_SERVICES)
    if client is not server and mesh.control_plane_of(client) is server:
        ports += [names.PORT_XDS, names.PORT_WEBHOOK]
    return tuple(ports)


def exposed_ports(mesh: Mesh, server: Cluster) -> frozenset[int]:
    """The ports that `server`'s east-west gateway must expose, without its status port."""
    return frozenset(port for client in mesh.clusters for port in needed_ports(mesh, client, server))
