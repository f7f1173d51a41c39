"""Networks are what they claim to be: joined by gateways, and by nothing else."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress

from meshproof.claims.claim import ACROSS_NETWORKS, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import ClaimFailed, Unavailable
from meshproof.core.waiting import NotYet, eventually
from meshproof.gateways.paths import PORT_STATUS
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.http import app_url, http_from_pod, plain_http_from_pod
from meshproof.probes.mtls_clients import Attempt, Reply, call_from_pod
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod
from meshproof.probes.tls import ISTIO_ALPN, sni_of


@claim(
    "GATEWAYS-07",
    "every istiod knows exactly the real addresses and ports of the networks' gateways",
    promised_by="istio.io, Install Multicluster: label topology.istio.io/network makes a Service a network's gateway",
    hint="label the east-west gateway's Service with its network; an address that nobody has comes from meshNetworks "
    "or from another labelled Service: kubectl get services -A -l topology.istio.io/network",
)
def test_network_gateways_are_the_real_ones(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """What istiod puts into endpoints for other networks: a stale address is a timeout, a missing one a foreign pod's
    address. On one network there must be none, else clients would be led round by a gateway."""
    wanted = frozenset(real_gateways(snapshot))
    replicas = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.istiods]
    last: dict[str, list[str]] = {}

    def check() -> None:
        answers = together(lambda item: istiod.networkz(item[0].kube, item[1].name), replicas)
        for (cluster, pod), known in zip(replicas, answers, strict=True):
            last[f"{cluster} {pod.name}"] = gateway_problems(known, wanted)
        if any(last.values()):
            raise NotYet("it differs")

    findings = Findings("control planes")
    with suppress(ClaimFailed):  # told below, istiod by istiod
        eventually(check, what="networkz", timeout_s=DEADLINES.discovery, error=ClaimFailed)
    for who, problems in last.items():
        findings.examine(who, problems)
    evidence.attach("gateways", [shown(gateway) for gateway in sorted(wanted)])
    findings.conclude()


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
    """What an istiod has too little and too much."""
    has = frozenset(known)
    return [f"does not know {shown(gateway)}" for gateway in sorted(wanted - has)] + [
        f"knows {shown(gateway)}, which is not there" for gateway in sorted(has - wanted)
    ]


def shown(gateway: NetworkGateway) -> str:
    return f"{gateway.address}:{gateway.port} of {gateway.cluster} into {gateway.network}"


@claim(
    "GATEWAYS-09",
    "pods on another network cannot be reached directly",
    promised_by="istio.io, Deployment models: clusters on different networks communicate through gateways only",
    hint="a route or a tunnel joins the pod ranges: then they are one network, and the topology should say so",
    needs=ACROSS_NETWORKS,
)
def test_networks_are_apart(mesh: Mesh, snapshot: Snapshot, evidence: Evidence, provider_name: str) -> None:
    """Else everything that is proven about gateways is proven about nothing. Own pods, which must be reachable by the
    same probe, are the control. Outside of the lab a way round the gateway is told, not failed."""
    findings = Findings("clients")
    tried = list(together(lambda client: _reach(snapshot, client), mesh.clusters))
    for client, (near, far) in zip(mesh.clusters, tried, strict=True):
        evidence.attach(str(client), [str(answer) for answer in (*near, *far)])
        findings.examine(f"{client} {snapshot.of(client).outside}", isolation_problems(near, far))
    if provider_name != "lab" and any(answer.accepted for _, far in tried for answer in far):
        raise Unavailable("networks that are apart", "some foreign pods are reachable directly", "see the evidence")
    findings.conclude()


def _reach(snapshot: Snapshot, client: Cluster) -> tuple[list[TcpAnswer], list[TcpAnswer]]:
    """From the outside pod of a cluster: pods of its own cluster, and those on other networks."""
    near = _listening(snapshot.of(client))
    far = [
        target
        for facts in snapshot.facts
        if snapshot.mesh.crosses_network(client, facts.cluster)
        for target in _listening(facts)
        if target not in near  # pod ranges of different networks may be the same
    ]
    answers = tcp_from_pod(client.kube, snapshot.of(client).outside, [*near, *far])
    return answers[: len(near)], answers[len(near) :]


def _listening(facts: ClusterFacts) -> list[tuple[str, int]]:
    """What takes connections in a cluster for sure: the application's pods, and those of the ingress gateway."""
    gateways = [pod for pod in facts.ingress_pods if pod.ready]
    return [
        *((endpoint.address, endpoint.port) for endpoint in facts.ready_endpoints),
        *((pod.address, PORT_STATUS) for pod in gateways),
    ]


def isolation_problems(near: list[TcpAnswer], far: list[TcpAnswer]) -> list[str]:
    """Reachable where it must not be, or not where it must be, without which silence proves nothing."""
    problems = [
        f"reaches {answer.address}:{answer.port} on another network directly" for answer in far if answer.accepted
    ]
    if not any(answer.accepted for answer in near):
        seen = "; ".join(str(answer) for answer in near) or "there is none"
        problems.append(f"reaches no pod of its own cluster either, so silence proves nothing ({seen})")
    return problems


@claim(
    "GATEWAYS-10",
    "behind 15443 nothing answers a caller without a mesh identity, whatever service it names",
    promised_by="istio.io, Gateway, AUTO_PASSTHROUGH; pilot/pkg/xds/endpoints, EndpointsWithMTLSFilter: only endpoints "
    "with mutual TLS are behind it",
    hint="the service that is named above takes callers without a certificate: look for a PeerAuthentication or "
    "DestinationRule about it, and for a Gateway on 15443 that terminates TLS",
    needs=ACROSS_NETWORKS,
)
def test_only_the_mesh_gets_behind_the_gateway(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """15443 is open to everybody and knows every service of the mesh by name. The control: a mesh client is answered
    from there."""
    findings = Findings("services behind gateways")
    pairs = list(mesh.pairs_across_networks)
    callers = {server: client for client, server in reversed(pairs)}

    def knock(pair: tuple[Cluster, Cluster]) -> list[tuple[Attempt, Reply]]:
        client, server = pair
        return _knock(snapshot, client, server, everything=callers[server] is client)

    for (client, server), replies in zip(pairs, together(knock, pairs), strict=True):
        if not replies:
            findings.examine(f"{client} to {server}", ["the gateway has no external address"])
        for attempt, reply in replies:
            findings.examine(f"{client} to {server}: {attempt.sni}", stranger_problems(reply))
        evidence.attach(f"{client}-{server}", "\n".join(f"{attempt.sni}: {reply}" for attempt, reply in replies))
        asked = http_from_pod(client.kube, snapshot.of(client).client, app_url(), SAMPLES.spread)
        versions = {answer.version for answer in asked if answer.ok}
        control = [] if server.spec.app_version in versions else ["a mesh client is not answered: this proves nothing"]
        findings.examine(f"{client} to {server} by the mesh", control)
    for client, server in pairs:
        for address in snapshot.of(server).gateway_addresses:
            plain = plain_http_from_pod(client.kube, snapshot.of(client).outside, address, names.PORT_SERVICES)
            problems = [f"answers HTTP {plain.status}"] if plain.status else []
            findings.examine(f"{client} to {server} by plain HTTP", problems)
    findings.conclude()


def _knock(snapshot: Snapshot, client: Cluster, server: Cluster, *, everything: bool) -> list[tuple[Attempt, Reply]]:
    """Ask for every port of every Service that any cluster has, offering Istio's ALPN and those that servers know.

    One caller asks a gateway for `everything`, the others for the application: it does not tell them apart, and with
    every pair the handshakes would grow with the square of the clusters.
    """
    asked = sorted(
        {
            sni_of(s.name, s.namespace, p.number)
            for f in snapshot.facts
            for s in f.services
            for p in s.ports
            if everything or (s.name, s.namespace) == (names.APP_SERVICE, names.APP_NAMESPACE)
        }
    )
    attempts = [
        Attempt(address=address, port=names.PORT_SERVICES, sni=sni, alpn=(ISTIO_ALPN, "h2", "http/1.1"))
        for address in snapshot.of(server).gateway_addresses
        for sni in asked
    ]
    return list(zip(attempts, call_from_pod(client.kube, snapshot.of(client).outside, attempts), strict=True))


def stranger_problems(reply: Reply) -> list[str]:
    """A handshake that asks for a certificate and then does not answer is a refusal."""
    if reply.answered:
        return [f"it answered HTTP {reply.status} without a client certificate"]
    if reply.tls.completed and not reply.tls.asks_client:
        return [f"{reply.tls}: it takes anybody"]
    return []
