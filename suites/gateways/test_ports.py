"""Which ports are open to other clusters, and that no others are."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.gateways.ports import exposed_ports, needed_ports
from meshproof.gateways.surplus_ports import (
    RUNNER,
    Seen,
    allowed_ports,
    connect_everywhere,
    port_notes,
    request_without_certificate,
    spec_problems,
    wire_problems,
)
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import ServiceFacts
from meshproof.probes.mtls_clients import AttemptReply
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod
from meshproof.run.claim_context import ClaimContext
from suites.needs import EAST_WEST


@claim(
    "GATEWAYS-01",
    "every required east-west port has an external address and accepts connections from other clusters",
    promised_by="istio.io, Install Multicluster: the east-west gateway must be reachable from the other clusters",
    hint="no address: which component assigns load balancer addresses? no connection: a firewall between the networks",
    needs=EAST_WEST,
)
def test_required_ports_are_reachable(context: ClaimContext) -> None:
    """A blocked port is a timeout while ping works. Probed from a pod without a sidecar, so that nothing retries."""
    mesh = context.mesh
    findings = Findings("needed ports")
    pairs = [(a, b) for a, b in mesh.pairs if needed_ports(mesh, a, b)]

    def probe(pair: tuple[Cluster, Cluster]) -> list[TcpAnswer]:
        client, server = pair
        addresses = context.snapshot.of(server).gateway_addresses
        targets = [(address, port) for address in addresses for port in needed_ports(mesh, client, server)]
        return tcp_from_pod(client.kube, context.snapshot.of(client).outside, targets) if targets else []

    for (client, server), answers in zip(pairs, together(probe, pairs), strict=True):
        ports = ", ".join(str(port) for port in needed_ports(mesh, client, server))
        findings.examine(f"{server} for {client}", [] if answers else [f"no external address for {ports}"])
        for answer in answers:
            findings.examine(f"{client} to {server}: {answer.port}", [] if answer.accepted else [str(answer)])
    findings.conclude()


@claim(
    "GATEWAYS-06",
    "gateways expose every required port, and no other port to unauthenticated clients",
    promised_by="istio.io, Security best practices: 15010, 15014 and 8080 of istiod are for the cluster only",
    hint="remove the port from the gateway's Service; surplus ports that are closed, or where clients must "
    "authenticate, are notes of this claim and not failures",
    settings="ports that nobody needs, closed or authenticated: a note; further ports of ingress gateways: "
    "allowed, except those of istiod",
)
def test_only_required_ports_are_exposed(context: ClaimContext) -> None:
    """Any other port may be an unauthenticated way in. istiod's plain ports must not accept connections at all.

    Each address must accept connections on one port at the same time. A surplus port is no way in if nothing accepts
    connections there (Istio's script and chart for east-west gateways always list 15012, 15017 and 15443), or if
    `harmless` gives a reason.
    """
    mesh, snapshot = context.mesh, context.snapshot
    findings = Findings("external addresses")
    services = [(f.cluster, s) for f in context.snapshot.facts for s in f.services if f.is_gateway(s)]
    for cluster, service in services:
        problems = spec_problems(cluster.spec, service, exposed_ports(mesh, cluster))
        findings.examine(f"{cluster} {service.name}", problems)
    places = [(c, service, address) for c, service in services for address in snapshot.of(c).addresses_of(service)]

    def probe_address(place: tuple[Cluster, ServiceFacts, str]) -> Seen:
        cluster, service, address = place
        allowed = allowed_ports(mesh, cluster, service)
        answers = connect_everywhere(snapshot, cluster, address, allowed | service.port_numbers)
        if address in context.runner_access.shut:
            del answers[RUNNER]
        return answers, request_without_certificate(snapshot, answers, allowed)

    seen = {(c, str(s), a): found for (c, s, a), found in zip(places, together(probe_address, places), strict=True)}
    for cluster, service in services:
        allowed, needed = allowed_ports(mesh, cluster, service), exposed_ports(mesh, cluster)
        accepting, replied = set[int](), dict[int, AttemptReply]()
        for address in snapshot.of(cluster).addresses_of(service):
            answers, surplus = seen[cluster, str(service), address]
            for who, got in answers.items():
                findings.examine(f"{cluster} {service.name} from {who}", wire_problems(got, allowed, needed, surplus))
                accepting.update(answer.port for answer in got if answer.accepted)
            replied |= surplus
            connections = {who: [str(answer) for answer in got] for who, got in answers.items()}
            replies = {port: str(reply) for port, reply in surplus.items()}
            context.evidence.attach(
                f"{cluster}-{service.name}-{address}",
                connections | ({"without a certificate": replies} if replies else {}),
            )
        if snapshot.of(cluster).addresses_of(service):
            for note in port_notes(service, service.port_numbers - allowed, accepting, replied):
                findings.advise(f"{cluster}: {note}")
    findings.conclude()
    if len(mesh.clusters) == 1:  # with more, pods of the others have probed them
        context.runner_access.require("what the gateways expose to this machine")
