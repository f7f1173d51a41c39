"""Which ports are open to other clusters, and that no others are."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.gateways.exposed_ports import RUNNER, allowed_ports, ask_everywhere, spec_problems, wire_problems
from meshproof.gateways.paths import exposed_ports, needed_ports
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import ServiceFacts
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod
from meshproof.run.claim_context import ClaimContext
from suites.needs import EAST_WEST


@claim(
    "GATEWAYS-01",
    "each east-west port that a topology needs has an external address and accepts connections from the other cluster",
    promised_by="istio.io, Install Multicluster: the east-west gateway must be reachable from the other clusters",
    hint="no address: what assigns load balancer addresses? no connection: a firewall between the networks",
    needs=EAST_WEST,
)
def test_needed_ports_are_reachable(context: ClaimContext) -> None:
    """A blocked port is a timeout while ping works. Asked by a pod without a sidecar, so that nothing retries."""
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
    "exactly the ports that the topology needs are exposed, and istiod's plain ports answer nowhere outside",
    promised_by="istio.io, Security best practices: 15010, 15014 and 8080 of istiod are for the cluster only",
    hint="remove the surplus port from the Service of the gateway that is named above",
)
def test_only_needed_ports_are_exposed(context: ClaimContext) -> None:
    """Every port beyond those is an unauthenticated way in. Each address must answer on one port at that moment."""
    mesh = context.mesh
    findings = Findings("external addresses")
    services = [(f.cluster, s) for f in context.snapshot.facts for s in f.services if f.is_gateway(s)]
    for cluster, service in services:
        problems = spec_problems(cluster.spec, service, exposed_ports(mesh, cluster))
        findings.examine(f"{cluster} {service.name}", problems)
    places = [(cluster, service, address) for cluster, service in services for address in service.addresses]

    def ask(place: tuple[Cluster, ServiceFacts, str]) -> dict[str, list[TcpAnswer]]:
        cluster, service, address = place
        return ask_everywhere(context.snapshot, cluster, address, allowed_ports(mesh, cluster, service))

    for (cluster, service, address), answers in zip(places, together(ask, places), strict=True):
        allowed, needed = allowed_ports(mesh, cluster, service), exposed_ports(mesh, cluster)
        for who, got in answers.items():
            if who == RUNNER and address in context.runner_access.shut:
                continue
            findings.examine(f"{cluster} {service.name} from {who}", wire_problems(got, allowed, needed))
        context.evidence.attach(
            f"{cluster}-{service.name}-{address}", {who: [str(a) for a in got] for who, got in answers.items()}
        )
    findings.conclude()
    if len(mesh.clusters) == 1:  # with more, pods of the others have asked
        context.runner_access.require("what the gateways expose to this machine")
