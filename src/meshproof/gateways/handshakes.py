"""Handshakes with what a client in one cluster dials for the application in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, Hello, TlsAnswer, tls_from_pod

DialledAddress = tuple[str, int]


Offer = tuple[str | None, str | None]
"""Server name and ALPN."""
MESH_OFFER: Final[Offer] = (APP_SNI, ISTIO_ALPN)


def dialled(snapshot: Snapshot, client: Cluster, server: Cluster) -> tuple[DialledAddress, ...]:
    """What a client in one cluster dials for the application in another: gateways across networks, else its pods."""
    facts = snapshot.of(server)
    if snapshot.mesh.crosses_network(client, server):
        return facts.service_gateways
    return tuple((endpoint.address, endpoint.port) for endpoint in facts.ready_endpoints)


def mesh_handshakes(snapshot: Snapshot, client: Cluster, server: Cluster) -> dict[DialledAddress, TlsAnswer]:
    """Handshakes as mesh clients make them, from `client`'s outside pod with everything that its clients dial for
    `server`."""
    return handshakes_offering(snapshot, client, server, (MESH_OFFER,))[0]


def handshakes_offering(
    snapshot: Snapshot, client: Cluster, server: Cluster, offers: Sequence[Offer]
) -> list[dict[DialledAddress, TlsAnswer]]:
    """The same for each of several offers, all at once."""
    return handshakes_with(snapshot, client, dialled(snapshot, client, server), offers)


def handshakes_with(
    snapshot: Snapshot, client: Cluster, targets: Sequence[DialledAddress], offers: Sequence[Offer]
) -> list[dict[DialledAddress, TlsAnswer]]:
    """The same with other addresses."""
    hellos = [Hello(address=a, port=p, sni=sni, alpn=alpn) for sni, alpn in offers for a, p in targets]
    answers = iter(tls_from_pod(client.kube, snapshot.of(client).outside, hellos))
    return [{target: next(answers) for target in targets} for _ in offers]
