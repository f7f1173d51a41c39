"""Which ports gateways expose to other clusters and to the runner."""

from __future__ import annotations

from typing import Final

from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.model import ClusterSpec
from meshproof.gateways.paths import PORT_STATUS, exposed_ports
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod, tcp_from_runner

ISTIOD_PLAIN: Final = frozenset({15010, 15014, 8080})
"""istiod's xDS without TLS, its monitoring and its debug port."""
CROSS_CLUSTER: Final = frozenset({names.PORT_SERVICES, names.PORT_XDS, names.PORT_WEBHOOK})
"""What only an east-west gateway may expose."""
RUNNER: Final = "the runner"


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
