"""Which ports are open to other clusters, and that no others are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Final

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.model import ClusterSpec
from meshproof.gateways.paths import PORT_STATUS, exposed_ports, needed_ports
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import dns_names
from meshproof.probes.mtls_clients import Attempt, Reply, call_from_pod
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod, tcp_from_runner
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, tls_from_runner
from suites.needs import EAST_WEST

ISTIOD_PLAIN: Final = frozenset({15010, 15014, 8080})
"""istiod's xDS without TLS, its monitoring and its debug port."""
CROSS_CLUSTER: Final = frozenset({names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK})
ISTIOD_SNI: Final = f"{names.ISTIOD}.{names.SYSTEM_NAMESPACE}.svc"
RUNNER: Final = "the runner"
Seen = tuple[dict[str, list[TcpAnswer]], dict[int, Reply]]
"""Who could connect to which port of an address, and what those ports replied that nobody needs."""


@claim(
    "GATEWAYS-01",
    "each east-west port that a topology needs has an external address and accepts connections from the other cluster",
    promised_by="istio.io, Install Multicluster: the east-west gateway must be reachable from the other clusters",
    hint="no address: what assigns load balancer addresses? no connection: a firewall between the networks",
    needs=EAST_WEST,
)
def test_needed_ports_are_reachable(mesh: Mesh, snapshot: Snapshot) -> None:
    """A blocked port is a timeout while ping works. Asked by a pod without a sidecar, so that nothing retries."""
    findings = Findings("needed ports")
    pairs = [(a, b) for a, b in mesh.pairs if needed_ports(mesh, a, b)]

    def probe(pair: tuple[Cluster, Cluster]) -> list[TcpAnswer]:
        client, server = pair
        addresses = snapshot.of(server).gateway_addresses
        targets = [(address, port) for address in addresses for port in needed_ports(mesh, client, server)]
        return tcp_from_pod(client.kube, snapshot.of(client).outside, targets) if targets else []

    for (client, server), answers in zip(pairs, together(probe, pairs), strict=True):
        ports = ", ".join(str(port) for port in needed_ports(mesh, client, server))
        findings.examine(f"{server} for {client}", [] if answers else [f"no external address for {ports}"])
        for answer in answers:
            findings.examine(f"{client} to {server}: {answer.port}", [] if answer.accepted else [str(answer)])
    findings.conclude()


@claim(
    "GATEWAYS-06",
    "every port that the topology needs is exposed; no other lets in callers who do not authenticate, and istiod's "
    "plain ports answer nowhere outside",
    promised_by="istio.io, Security best practices: 15010, 15014 and 8080 of istiod are for the cluster only",
    hint="remove the port from the gateway's Service; ports at which nothing listens, or where callers must "
    "authenticate, are no failures but notes of this claim",
)
def test_only_needed_ports_are_exposed(
    mesh: Mesh, snapshot: Snapshot, evidence: Evidence, runner_access: RunnerAccess
) -> None:
    """Every port beyond those may be an unauthenticated way in. Each address must answer on one port at that moment.

    A surplus port is no way in if nothing accepts connections there (Istio's script and chart for east-west gateways
    always list 15012, 15017 and 15443), or if `harmless` says so of who does.
    """
    findings = Findings("external addresses")
    services = [(f.cluster, s) for f in snapshot.facts for s in f.services if f.is_gateway(s)]
    for cluster, service in services:
        problems = spec_problems(cluster.spec, service, exposed_ports(mesh, cluster))
        findings.examine(f"{cluster} {service.name}", problems)
    places = [(cluster, service, address) for cluster, service in services for address in service.addresses]

    def ask(place: tuple[Cluster, ServiceFacts, str]) -> Seen:
        cluster, service, address = place
        allowed = allowed_ports(mesh, cluster, service)
        answers = ask_everywhere(snapshot, cluster, address, allowed | service.port_numbers)
        if address in runner_access.shut:
            del answers[RUNNER]
        return answers, knock(snapshot, answers, allowed)

    seen = {(c, str(s), a): found for (c, s, a), found in zip(places, together(ask, places), strict=True)}
    for cluster, service in services:
        allowed, needed = allowed_ports(mesh, cluster, service), exposed_ports(mesh, cluster)
        accepting, replied = set[int](), dict[int, Reply]()
        for address in service.addresses:
            answers, knocked = seen[cluster, str(service), address]
            for who, got in answers.items():
                findings.examine(f"{cluster} {service.name} from {who}", wire_problems(got, allowed, needed, knocked))
                accepting.update(answer.port for answer in got if answer.accepted)
            replied |= knocked
            told = {who: [str(answer) for answer in got] for who, got in answers.items()}
            replies = (
                {"without a certificate": {port: str(reply) for port, reply in knocked.items()}} if knocked else {}
            )
            evidence.attach(f"{cluster}-{service.name}-{address}", told | replies)
        if service.addresses:
            for note in port_notes(service, service.port_numbers - allowed, accepting, replied):
                findings.advise(f"{cluster}: {note}")
    findings.conclude()
    if len(mesh.clusters) == 1:  # with more, pods of the others have asked
        runner_access.require("what the gateways expose to this machine")


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
    service: ServiceFacts, surplus: frozenset[int], accepting: Set[int], knocked: Mapping[int, Reply]
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


def knock(snapshot: Snapshot, answers: Mapping[str, Sequence[TcpAnswer]], allowed: frozenset[int]) -> dict[int, Reply]:
    """Requests over TLS without a client certificate at ports that accept connections and are not `allowed`, but for
    istiod's plain ones; each from where a connection was seen: a client outside the mesh if one can. From here it is a
    handshake only, whose end says whether a certificate is demanded."""
    found: dict[int, Reply] = {}
    for who, got in sorted(answers.items(), key=lambda item: item[0] == RUNNER):
        wanted = [a for a in got if a.accepted and a.port not in allowed | ISTIOD_PLAIN | found.keys()]
        attempts = [Attempt(address=a.address, port=a.port, sni=_sni(a.port), alpn=_alpn(a.port)) for a in wanted]
        if who == RUNNER:
            tls = [tls_from_runner(each.address, each.port, sni=each.sni, alpn=each.alpn) for each in attempts]
            replies = [Reply(tls=each, status=0, reason=each.reason) for each in tls]
        else:
            facts = snapshot.of(snapshot.mesh.cluster(who))
            replies = call_from_pod(facts.cluster.kube, facts.outside, attempts) if attempts else []
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


def harmless(port: int, reply: Reply) -> str:
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
    if is_istiod or (reply.tls.asks_client and not reply.answered):
        return "whoever calls there must authenticate"
    return ""


_NO_ANSWER: Final = re.compile(r"errno=|unexpected.eof|no end within|reset|timed out|closed", re.IGNORECASE)
"""How a handshake ends if the other side has not sent a byte. What is no TLS in answer is another reason."""


def wire_problems(
    answers: Sequence[TcpAnswer],
    allowed: frozenset[int],
    needed: frozenset[int],
    knocked: Mapping[int, Reply] = MappingProxyType({}),
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
