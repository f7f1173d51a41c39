"""Which client certificates workloads of another cluster accept."""

from __future__ import annotations

from meshproof.gateways.handshakes import dialled
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.mtls_clients import PROPER, Attempt, AttemptReply, attempts_from_pod, callers
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN


def try_each_caller(snapshot: Snapshot, client: Cluster, server: Cluster) -> list[tuple[Attempt, AttemptReply]]:
    """Dial the application in `server` from `client` with each certificate, and with none; replies by attempt."""
    who = callers(snapshot.issuer_of(client), snapshot.mesh.topology.trust_domain)
    attempts = [
        Attempt(address=address, port=port, sni=APP_SNI, alpn=(ISTIO_ALPN,), caller=caller)
        for address, port in dialled(snapshot, client, server)
        for caller in (*who, PROPER)
    ]
    replies = attempts_from_pod(client.kube, snapshot.of(client).outside, attempts, who)
    return list(zip(attempts, replies, strict=True))


def caller_problems(caller: str, reply: AttemptReply) -> list[str]:
    """What is wrong with the answer to a client with that certificate, or with its rejection."""
    if caller == PROPER:
        good = reply.status == 200
        return [] if good else [f"positive control failed: a client with a valid certificate was rejected ({reply})"]
    return [f"was not rejected (HTTP {reply.status})"] if reply.answered else []
