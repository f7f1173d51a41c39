"""Which ports are open to other clusters, and that no others are."""

from __future__ import annotations

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
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod, tcp_from_runner
from suites.needs import EAST_WEST

ISTIOD_PLAIN: Final = frozenset({15010, 15014, 8080})
"""istiod's xDS without TLS, its monitoring and its debug port."""
CROSS_CLUSTER: Final = frozenset({names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK})
RUNNER: Final = "the runner"


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
    "exactly the ports that the topology needs are exposed, and istiod's plain ports answer nowhere outside",
    promised_by="istio.io, Security best practices: 15010, 15014 and 8080 of istiod are for the cluster only",
    hint="remove the surplus port from the Service of the gateway that is named above",
)
def test_only_needed_ports_are_exposed(
    mesh: Mesh, snapshot: Snapshot, evidence: Evidence, runner_access: RunnerAccess
) -> None:
    """Every port beyond those is an unauthenticated way in. Each address must answer on one port at that moment."""
    findings = Findings("external addresses")
    services = [(f.cluster, s) for f in snapshot.facts for s in f.services if f.is_gateway(s)]
    for cluster, service in services:
        problems = spec_problems(cluster.spec, service, exposed_ports(mesh, cluster))
        findings.examine(f"{cluster} {service.name}", problems)
    places = [(cluster, service, address) for cluster, service in services for address in service.addresses]

    def ask(place: tuple[Cluster, ServiceFacts, str]) -> dict[str, list[TcpAnswer]]:
        cluster, service, address = place
        return ask_everywhere(snapshot, cluster, address, allowed_ports(mesh, cluster, service))

    for (cluster, service, address), answers in zip(places, together(ask, places), strict=True):
        allowed, needed = allowed_ports(mesh, cluster, service), exposed_ports(mesh, cluster)
        for who, got in answers.items():
            if who == RUNNER and address in runner_access.shut:
                continue
            findings.examine(f"{cluster} {service.name} from {who}", wire_problems(got, allowed, needed))
        evidence.attach(
            f"{cluster}-{service.name}-{address}", {who: [str(a) for a in got] for who, got in answers.items()}
        )
    findings.conclude()
    if len(mesh.clusters) == 1:  # with more, pods of the others have asked
        runner_access.require("what the gateways expose to this machine")


def allowed_ports(mesh: Mesh, cluster: Cluster, service: ServiceFacts) -> frozenset[int]:
    """What may answer at a Service: what it exposes, without what nobody should."""
    return service.port_numbers - (CROSS_CLUSTER - exposed_ports(mesh, cluster)) - ISTIOD_PLAIN


def spec_problems(spec: ClusterSpec, service: ServiceFacts, needed: frozenset[int]) -> list[str]:
    """What the Service of a gateway exposes against what is needed."""
    ports = service.port_numbers
    if service.ref != spec.east_west:
        return [f"exposes {port}" for port in sorted(ports & (CROSS_CLUSTER | ISTIOD_PLAIN))]
    surplus, missing = ports - needed - {PORT_STATUS}, needed - ports
    return [f"exposes {port}, which nobody needs" for port in sorted(surplus)] + [
        f"does not expose {port}, which is needed" for port in sorted(missing)
    ]


def ask_everywhere(
    snapshot: Snapshot, owner: Cluster, address: str, allowed: frozenset[int]
) -> dict[str, list[TcpAnswer]]:
    """Connect to every interesting port of an address, from here and from the outside pods of the other clusters."""
    targets = [(address, port) for port in sorted(CROSS_CLUSTER | ISTIOD_PLAIN | {PORT_STATUS} | allowed)]
    others = [facts for facts in snapshot.facts if facts.cluster is not owner]
    answers = together(lambda facts: tcp_from_pod(facts.cluster.kube, facts.outside, targets), others)
    return {
        RUNNER: tcp_from_runner(targets),
        **{str(facts.cluster): got for facts, got in zip(others, answers, strict=True)},
    }


def wire_problems(answers: list[TcpAnswer], allowed: frozenset[int], needed: frozenset[int]) -> list[str]:
    """What answers and should not, or should and does not."""
    accepted = {answer.port for answer in answers if answer.accepted}
    problems = [f"port {port} accepts connections" for port in sorted(accepted - allowed)]
    problems += [f"port {port} does not answer" for port in sorted((needed & allowed) - accepted)]
    if not accepted & allowed:
        problems.append("no port answers at all, so silence of the others proves nothing")
    return problems
