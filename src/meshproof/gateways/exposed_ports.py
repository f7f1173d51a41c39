"""Which ports gateways expose to other clusters and to the runner."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.model import ClusterSpec
from meshproof.gateways.paths import PORT_STATUS, exposed_ports
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import dns_names
from meshproof.probes.mtls_clients import Attempt, AttemptReply, attempts_from_pod
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod, tcp_from_runner
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, tls_from_runner

ISTIOD_PLAIN: Final = frozenset({15010, 15014, 8080})
"""istiod's xDS without TLS, its monitoring and its debug port."""
CROSS_CLUSTER: Final = frozenset({names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK})
"""What only an east-west gateway may expose."""
ISTIOD_SNI: Final = f"{names.ISTIOD}.{names.SYSTEM_NAMESPACE}.svc"
RUNNER: Final = "the runner"
Seen = tuple[dict[str, list[TcpAnswer]], dict[int, AttemptReply]]
"""Who could connect to which port of an address, and what those ports replied that nobody needs."""


def allowed_ports(mesh: Mesh, cluster: Cluster, service: ServiceFacts) -> frozenset[int]:
    """What may answer at a Service: what it lists, without what nobody needs."""
    if service.ref == cluster.spec.east_west:
        return service.port_numbers & (exposed_ports(mesh, cluster) | {PORT_STATUS})
    return service.port_numbers - CROSS_CLUSTER - ISTIOD_PLAIN


def spec_problems(spec: ClusterSpec, service: ServiceFacts, needed: frozenset[int]) -> list[str]:
    """What the Service of the east-west gateway does not list. What it lists beyond that is judged by its answers."""
    missing = needed - service.port_numbers if service.ref == spec.east_west else frozenset()
    return [f"does not expose {port}, which is needed" for port in sorted(missing)]


def port_notes(
    service: ServiceFacts, surplus: frozenset[int], accepting: Set[int], knocked: Mapping[int, AttemptReply]
) -> list[str]:
    """Advice about ports that a Service lists and nobody needs, as far as they are no failure."""
    found: dict[str, list[str]] = {}
    for port in sorted(surplus):
        why = "nothing accepts connections there" if port not in accepting else ""
        if why := why or (harmless(port, knocked[port]) if port in knocked else ""):
            found.setdefault(why, []).append(str(port))
    return [
        f"{service} lists {', '.join(ports)}, which nobody needs; {why}: remove it from the Service"
        for why, ports in found.items()
    ]


def ask_everywhere(
    snapshot: Snapshot, owner: Cluster, address: str, ports: frozenset[int]
) -> dict[str, list[TcpAnswer]]:
    """Connect to every interesting port of an address, from here and from the outside pods of the other clusters."""
    targets = [(address, port) for port in sorted(CROSS_CLUSTER | ISTIOD_PLAIN | {PORT_STATUS} | ports)]
    others = [facts for facts in snapshot.facts if facts.cluster is not owner]
    answers = together(lambda facts: tcp_from_pod(facts.cluster.kube, facts.outside, targets), others)
    return {
        RUNNER: tcp_from_runner(targets),
        **{str(facts.cluster): got for facts, got in zip(others, answers, strict=True)},
    }


def knock(
    snapshot: Snapshot, answers: Mapping[str, Sequence[TcpAnswer]], allowed: frozenset[int]
) -> dict[int, AttemptReply]:
    """Requests over TLS without a client certificate at ports that accept connections and are not `allowed`, but for
    istiod's plain ones; each from where a connection was seen: a client outside the mesh if one can. From here it is a
    handshake only, whose end says whether a certificate is demanded."""
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
    """The name that leads to whoever is behind a port, if somebody is."""
    return APP_SNI if port == names.PORT_SERVICES else ISTIOD_SNI


def _alpn(port: int) -> tuple[str, ...]:
    """What mesh clients, and clients of istiod, offer; elsewhere what is spoken here, so that it may be answered."""
    if port == names.PORT_SERVICES:
        return (ISTIO_ALPN, "h2", "http/1.1")
    return ("h2", "http/1.1") if port in (names.PORT_XDS, names.PORT_WEBHOOK) else ("http/1.1",)


def harmless(port: int, reply: AttemptReply) -> str:
    """Why nobody gets in at a port, although it accepts connections; empty if somebody does, or may.

    Who is behind it asked for a client certificate and did not answer without one; or it is istiod, which serves xDS
    only to callers whose certificate or token it has verified, and whose webhooks judge what they are sent and give
    nothing. Or nobody is: a remote's gateway gets the Gateway that exposes its primary's istiod, too, if its pods carry
    the same labels, and has nowhere to pass connections to.
    """
    if not reply.tls.completed:
        quiet = port in CROSS_CLUSTER and _NO_ANSWER.search(reply.tls.reason)
        return "connections there are closed without an answer" if quiet else ""
    is_istiod = port in (names.PORT_XDS, names.PORT_WEBHOOK) and ISTIOD_SNI in dns_names(reply.tls.chain[0])
    if is_istiod or (reply.tls.requests_client_certificate and not reply.answered):
        return "whoever calls there must authenticate"
    return ""


_NO_ANSWER: Final = re.compile(r"errno=|unexpected.eof|did not finish within|reset|timed out|closed", re.IGNORECASE)
"""How a handshake ends if the other side has not sent a byte. What is no TLS in answer is another reason."""


def wire_problems(
    answers: Sequence[TcpAnswer],
    allowed: frozenset[int],
    needed: frozenset[int],
    knocked: Mapping[int, AttemptReply] = MappingProxyType({}),
) -> list[str]:
    """What answers and should not, or should and does not. `knocked` are replies of ports that are not `allowed`."""
    accepted = {answer.port for answer in answers if answer.accepted}
    problems = []
    for port in sorted(accepted - allowed):
        if port in ISTIOD_PLAIN or port not in knocked:
            problems.append(f"port {port} accepts connections")
        elif not harmless(port, knocked[port]):
            problems.append(
                f"port {port}, which nobody needs, accepts callers who do not authenticate: {knocked[port]}"
            )
    problems += [f"port {port} does not answer" for port in sorted((needed & allowed) - accepted)]
    if not accepted:
        problems.append("no port answers at all, so silence of the others proves nothing")
    return problems
