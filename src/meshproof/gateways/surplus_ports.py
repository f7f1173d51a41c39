"""Which ports gateways expose to other clusters and to the runner."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.model import ClusterSpec
from meshproof.gateways.ports import PORT_STATUS, exposed_ports
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.network_gateways import gateway_port
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import dns_names
from meshproof.probes.mtls_clients import Attempt, AttemptReply, attempts_from_pod
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod, tcp_from_runner
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, tls_from_runner

PORT_DEBUG: Final = 8080
ISTIOD_PLAIN: Final = frozenset({15010, 15014, PORT_DEBUG})
"""istiod's xDS without TLS, its monitoring and its debug port."""
CROSS_CLUSTER: Final = frozenset({names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK})
"""What only an east-west gateway may expose."""
ISTIOD_SNI: Final = f"{names.ISTIOD}.{names.SYSTEM_NAMESPACE}.svc"
RUNNER: Final = "the runner"
Seen = tuple[dict[str, list[TcpAnswer]], dict[int, AttemptReply]]
"""Which client could connect to which port of an address, and the replies of surplus ports."""


def allowed_ports(mesh: Mesh, cluster: Cluster, service: ServiceFacts) -> frozenset[int]:
    """The ports at which a Service may answer: those that it lists, without surplus ones. One Service may be the
    gateway for users and for other clusters. Only behind istiod's own Service 8080 is its debug port."""
    for_clusters, for_users = frozenset[int](), frozenset[int]()
    if service.ref == cluster.spec.east_west:
        for_clusters = exposed_ports(mesh, cluster) | {PORT_STATUS}
    elif mesh.topology.exposes_services(cluster.spec) and (port := gateway_port(service, cluster.spec, ())):
        for_clusters = frozenset({port, PORT_STATUS})
    if not for_clusters or service.ref == cluster.spec.ingress:
        debug = PORT_DEBUG if service.selector.get("app") != names.ISTIOD else 0
        for_users = service.port_numbers - CROSS_CLUSTER - (ISTIOD_PLAIN - {debug})
    return service.port_numbers & for_clusters | for_users


def spec_problems(spec: ClusterSpec, service: ServiceFacts, needed: frozenset[int]) -> list[str]:
    """Required ports that the Service of the east-west gateway does not list; others are judged by their answers."""
    missing = needed - service.port_numbers if service.ref == spec.east_west else frozenset()
    return [f"does not expose port {port}, which is required" for port in sorted(missing)]


def port_notes(
    service: ServiceFacts, surplus: frozenset[int], accepting: Set[int], replies: Mapping[int, AttemptReply]
) -> list[str]:
    """Advice about surplus ports of a Service that are no failure."""
    found: dict[str, list[str]] = {}
    for port in sorted(surplus):
        why = "nothing accepts connections there" if port not in accepting else ""
        if why := why or (harmless(port, replies[port]) if port in replies else ""):
            found.setdefault(why, []).append(str(port))
    return [
        f"{service} lists {', '.join(ports)}, which the topology does not need; {why}: remove it from the Service"
        for why, ports in found.items()
    ]


def connect_everywhere(
    snapshot: Snapshot, owner: Cluster, address: str, ports: frozenset[int]
) -> dict[str, list[TcpAnswer]]:
    """Connect to all known ports of an address, from here and from the outside pods of the other clusters."""
    targets = [(address, port) for port in sorted(CROSS_CLUSTER | ISTIOD_PLAIN | {PORT_STATUS} | ports)]
    others = [facts for facts in snapshot.facts if facts.cluster is not owner]
    answers = together(lambda facts: tcp_from_pod(facts.cluster.kube, facts.outside, targets), others)
    return {
        RUNNER: tcp_from_runner(targets),
        **{str(facts.cluster): got for facts, got in zip(others, answers, strict=True)},
    }


def request_without_certificate(
    snapshot: Snapshot, answers: Mapping[str, Sequence[TcpAnswer]], allowed: frozenset[int]
) -> dict[int, AttemptReply]:
    """Replies to requests over TLS without a client certificate, by port.

    Covers ports that accept connections and are not `allowed`, except istiod's plain ones; each is called from where it
    accepted a connection: from a client outside the mesh if one can. From here it is a handshake only, whose end shows
    whether a certificate is required.
    """
    found: dict[int, AttemptReply] = {}
    for who, got in sorted(answers.items(), key=lambda item: item[0] == RUNNER):
        wanted = [a for a in got if a.accepted and a.port not in allowed | ISTIOD_PLAIN | found.keys()]
        attempts = [Attempt(address=a.address, port=a.port, sni=_sni(a.port), alpn=_alpn(a.port)) for a in wanted]
        if who == RUNNER:
            tls = [tls_from_runner(each.address, each.port, sni=each.sni, alpn=each.alpn) for each in attempts]
            replies = [AttemptReply(tls=each, status=0, reason=each.reason) for each in tls]
        else:
            facts = snapshot.of(snapshot.mesh.cluster(who))
            replies = attempts_from_pod(facts.cluster.kube, facts.outside, attempts) if attempts else []
        found |= {attempt.port: reply for attempt, reply in zip(attempts, replies, strict=True)}
    return found


def _sni(port: int) -> str:
    """The server name that leads to the server behind a port, if there is one."""
    return APP_SNI if port == names.PORT_SERVICES else ISTIOD_SNI


def _alpn(port: int) -> tuple[str, ...]:
    """What mesh clients, and clients of istiod, offer; on other ports HTTP/1.1, which our requests use."""
    if port == names.PORT_SERVICES:
        return (ISTIO_ALPN, "h2", "http/1.1")
    return ("h2", "http/1.1") if port in (names.PORT_XDS, names.PORT_WEBHOOK) else ("http/1.1",)


def harmless(port: int, reply: AttemptReply) -> str:
    """Why a port is no way in for unauthenticated clients although it accepts connections; empty if it is, or may be.

    The server behind it requested a client certificate and did not answer without one; or it is istiod, which serves
    xDS only to clients whose certificate or token it has verified, and whose webhooks validate requests and return no
    data. Or there is no server: a remote's gateway also gets the Gateway that exposes its primary's istiod, if its pods
    have the same labels, and cannot forward connections.
    """
    if not reply.tls.completed:
        quiet = port in CROSS_CLUSTER and _NO_ANSWER.search(reply.tls.reason)
        return "connections there are closed without an answer" if quiet else ""
    is_istiod = port in (names.PORT_XDS, names.PORT_WEBHOOK) and ISTIOD_SNI in dns_names(reply.tls.chain[0])
    if is_istiod or (reply.tls.requests_client_certificate and not reply.answered):
        return "clients must authenticate there"
    return ""


_NO_ANSWER: Final = re.compile(r"errno=|unexpected.eof|finish within|reset|timed out|closed", re.IGNORECASE)
"""How a handshake ends if the other side has not sent a byte; an answer that is not TLS gives another reason."""


def wire_problems(
    answers: Sequence[TcpAnswer],
    allowed: frozenset[int],
    needed: frozenset[int],
    replies: Mapping[int, AttemptReply] = MappingProxyType({}),
) -> list[str]:
    """Ports that answer and should not, or should and do not. `replies` are those of ports that are not `allowed`."""
    accepted = {answer.port for answer in answers if answer.accepted}
    problems = []
    for port in sorted(accepted - allowed):
        if port in ISTIOD_PLAIN or port not in replies:
            problems.append(f"port {port} accepts connections")
        elif not harmless(port, replies[port]):
            problems.append(f"surplus port {port} accepts unauthenticated clients: {replies[port]}")
    problems += [f"port {port} does not answer" for port in sorted((needed & allowed) - accepted)]
    if not accepted:
        problems.append("positive control failed: no port answers at all")
    return problems
