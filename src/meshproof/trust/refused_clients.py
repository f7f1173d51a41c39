"""Which client certificates workloads of another cluster accept."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.core import names
from meshproof.gateways.handshakes import dialled
from meshproof.mesh.ca_files import CaFiles
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.issued_certificate import issued_to
from meshproof.probes.mtls_clients import (
    EXPIRED,
    LIFE,
    OTHER_DOMAIN,
    PROPER,
    Attempt,
    AttemptReply,
    Credentials,
    attempts_from_pod,
    callers,
    callers_without_key,
)
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN


def callers_of(snapshot: Snapshot, client: Cluster, trust_domain: str) -> Mapping[str, Credentials | None]:
    """The clients with which to dial from a cluster: certificates that we sign with the key of its CA; if that is an
    external one, a certificate that the mesh issues, and those that need no CA."""
    ca = snapshot.issuer_of(client)
    if isinstance(ca, CaFiles):
        return callers(ca, trust_domain)
    facts = snapshot.of(client)
    spiffe_id = f"spiffe://{trust_domain}/ns/{facts.outside.namespace}/sa/{facts.outside.account}"
    host = f"{client.spec.istiod}.{names.SYSTEM_NAMESPACE}.svc"
    root = facts.root_maps[names.CLIENT_NAMESPACE]
    proper = issued_to(client.kube, facts.outside, spiffe_id, like=facts.client, istiod=host, root=root, life=LIFE)
    return callers_without_key(proper, spiffe_id)


def not_tried(snapshot: Snapshot) -> dict[str, str]:
    """Clients that cannot be made, and why."""
    found: dict[str, str] = {}
    for cluster in snapshot.mesh.clusters:
        ca = snapshot.issuer_of(cluster)
        if not isinstance(ca, CaFiles):
            why = f"only the key of its CA could sign it, which is outside of the mesh ({ca.why})"
            found |= {f"a client of {cluster} with {caller}": why for caller in (EXPIRED, OTHER_DOMAIN)}
    return found


def try_each_caller(
    snapshot: Snapshot, client: Cluster, server: Cluster, who: Mapping[str, Credentials | None]
) -> list[tuple[Attempt, AttemptReply]]:
    """Dial the application in `server` from `client` with each certificate, and with none; replies by attempt."""
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
