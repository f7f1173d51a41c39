"""Whether pods on another network can be reached without a gateway."""

from __future__ import annotations

from meshproof.gateways.ports import PORT_STATUS
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.tcp import TcpAnswer, tcp_from_pod


def reach_pods(snapshot: Snapshot, client: Cluster) -> tuple[list[TcpAnswer], list[TcpAnswer]]:
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
    """Addresses that accept connections in a cluster: the application's pods, and those of the ingress gateway."""
    gateways = [pod for pod in facts.ingress_pods if pod.ready]
    return [
        *((endpoint.address, endpoint.port) for endpoint in facts.ready_endpoints),
        *((pod.address, PORT_STATUS) for pod in gateways),
    ]


def isolation_problems(near: list[TcpAnswer], far: list[TcpAnswer]) -> list[str]:
    """Foreign pods that are reachable, or no reachable pod of the own cluster (the positive control)."""
    problems = [
        f"reaches {answer.address}:{answer.port} on another network directly" for answer in far if answer.accepted
    ]
    if not any(answer.accepted for answer in near):
        seen = "; ".join(str(answer) for answer in near) or "none found"
        problems.append(f"positive control failed: it reaches no pod of its own cluster either ({seen})")
    return problems
