"""Port 15443: which handshakes must be passed through, and which must not."""

from __future__ import annotations

from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import ClaimFailed
from meshproof.gateways.handshakes import DialledAddress, mesh_handshakes
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import spiffe_ids, subject
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import plain_http_from_pod
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, TlsAnswer, sni_of

REFUSED: Final[dict[str, tuple[str | None, str | None]]] = {
    "a service that does not exist": (sni_of("nobody", names.APP_NAMESPACE, names.APP_PORT), ISTIO_ALPN),
    "a port that the service does not have": (sni_of(names.APP_SERVICE, names.APP_NAMESPACE, 81), ISTIO_ALPN),
    "a host outside the exposed set": ("outbound_.443_._.example.com", ISTIO_ALPN),
    "a plain host name": (names.APP_HOST, ISTIO_ALPN),
    "no server name": (None, ISTIO_ALPN),
    "ALPN h2": (APP_SNI, "h2"),
    "ALPN http/1.1": (APP_SNI, "http/1.1"),
    "no ALPN": (APP_SNI, None),
}
"""Handshakes that must fail: what differs from the right one -> server name and ALPN."""


def passthrough_problems(answer: TlsAnswer, prefix: str) -> list[str]:
    """What is wrong with a handshake that a gateway passed on to a workload, whose SPIFFE ID begins with `prefix`."""
    problems = [] if answer.completed else [str(answer)]
    for leaf in answer.chain[:1]:
        problems += [] if any(i.startswith(prefix) for i in spiffe_ids(leaf)) else [f"presents {subject(leaf)}"]
        problems += [] if answer.requests_client_certificate else ["it does not request a client certificate"]
    return problems


def plain_http_replies(snapshot: Snapshot, client: Cluster, server: Cluster) -> dict[DialledAddress, HttpAnswer]:
    """What each of `server`'s gateways replies to plain HTTP from `client`'s outside pod."""
    return {
        target: plain_http_from_pod(client.kube, snapshot.of(client).outside, *target)
        for target in snapshot.of(server).service_gateways
    }


def must_accept(snapshot: Snapshot, mesh: Mesh) -> None:
    """The positive control. Raises `ClaimFailed` if the right handshake is rejected as well."""
    pairs = list(mesh.pairs_across_networks)
    for (client, server), met in zip(
        pairs, together(lambda pair: mesh_handshakes(snapshot, *pair), pairs), strict=True
    ):
        if not met or not all(answer.completed for answer in met.values()):
            seen = "; ".join(str(answer) for answer in met.values()) or "no external address"
            raise ClaimFailed(
                f"{client} to {server}: positive control failed: the right handshake was rejected\n  last seen   {seen}"
            )
