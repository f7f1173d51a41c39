"""What a client without a mesh identity gets from behind a gateway."""

from __future__ import annotations

from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.mtls_clients import Attempt, AttemptReply, attempts_from_pod
from meshproof.probes.tls import ISTIO_ALPN, sni_of


def call_services_behind(
    snapshot: Snapshot, client: Cluster, server: Cluster, *, everything: bool
) -> list[tuple[Attempt, AttemptReply]]:
    """Call every port of every Service that any cluster has, offering Istio's ALPN and those that servers know.

    One client calls `everything` behind a gateway, the others the application only: a gateway treats them alike, and
    the handshakes of all pairs would grow with the square of the clusters.
    """
    server_names = sorted(
        {
            sni_of(s.name, s.namespace, p.number)
            for f in snapshot.facts
            for s in f.services
            for p in s.ports
            if everything or (s.name, s.namespace) == (names.APP_SERVICE, names.APP_NAMESPACE)
        }
    )
    attempts = [
        Attempt(address=address, port=port, sni=sni, alpn=(ISTIO_ALPN, "h2", "http/1.1"))
        for address, port in snapshot.of(server).service_gateways
        for sni in server_names
    ]
    return list(zip(attempts, attempts_from_pod(client.kube, snapshot.of(client).outside, attempts), strict=True))


def anonymous_caller_problems(reply: AttemptReply) -> list[str]:
    """A handshake that requests a certificate and is then not answered is a rejection."""
    if reply.answered:
        return [f"it answered HTTP {reply.status} without a client certificate"]
    if reply.tls.completed and not reply.tls.requests_client_certificate:
        return [f"{reply.tls}: it accepts clients without a certificate"]
    return []
