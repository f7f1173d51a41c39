"""The path of requests from one cluster to another, followed by the counters of the proxies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshproof.clients import envoy_admin as envoy
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.names import APP_CLUSTER
from meshproof.gateways.handshakes import (
    DialledAddress,
    completed_handshakes,
    dialled,
)
from meshproof.mesh import gateways
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import app_url, http_from_pod
from meshproof.probes.tls import APP_SNI


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCount:
    """Requests from a client, and what the proxies counted meanwhile.

    `sent_to` is requests per endpoint by the client's proxy; `handshakes` how many bare handshakes completed at the
    far gateway, and `forwarded` how many connections that gateway opened to the application meanwhile.
    """

    answers: tuple[HttpAnswer, ...]
    sent_to: Mapping[str, int]
    handshakes: int
    forwarded: int

    def answered_by(self, versions: frozenset[str]) -> int:
        return sum(answer.ok and answer.version in versions for answer in self.answers)

    def sent_to_any(self, targets: tuple[DialledAddress, ...]) -> int:
        """Requests that the client's proxy sent to any of these."""
        return sum(self.sent_to.get(f"{address}:{port}", 0) for address, port in targets)


def follow(snapshot: Snapshot, client: Cluster, server: Cluster) -> PathCount:
    """Send requests from the in-mesh client and follow them.

    A passthrough gateway sees connections, not requests, and the client's proxy keeps its connections open, so the
    gateway's counters cannot rise by the number of requests. What is counted instead: each request by the client's
    proxy per endpoint that it chose, and bare handshakes, each a connection of its own, by the gateway.
    """
    pod = snapshot.of(client).client
    crosses = snapshot.mesh.crosses_network(client, server)

    def sent() -> dict[str, int]:
        hosts = envoy.host_counters(client.kube, pod.namespace, pod.name, APP_CLUSTER)
        return {host.key: host.rq_total for host in hosts if host.cluster == APP_CLUSTER}

    def forwarded() -> dict[str, int]:
        return {
            f"{gateway.name} {host.key}": host.cx_total
            for gateway in snapshot.of(server).east_west_pods
            for host in envoy.host_counters(server.kube, gateway.namespace, gateway.name, APP_SNI)
        }

    forwarded_before = forwarded()
    answers, sent_to = _counted(sent, lambda: http_from_pod(client.kube, pod, app_url(), SAMPLES.path))
    shaken = completed_handshakes(snapshot, client, server) if crosses else 0
    return PathCount(
        answers=tuple(answers),
        sent_to=sent_to,
        handshakes=shaken,
        forwarded=sum(_risen(forwarded_before, forwarded()).values()),
    )


def gateway_connections(cluster: Cluster) -> int:
    """Connections that the east-west gateway's pods of now have carried to the application."""
    metas = [pod["metadata"] for pod in gateways.gateway_pods(cluster, cluster.spec.east_west)]
    found = together(lambda m: envoy.host_counters(cluster.kube, m["namespace"], m["name"], APP_SNI), metas)
    return sum(host.cx_total for hosts in found for host in hosts)


def path_problems(mesh: Mesh, snapshot: Snapshot, count: PathCount, client_name: str, server_name: str) -> list[str]:
    """Where answers and counters disagree."""
    client, server = mesh.cluster(client_name), mesh.cluster(server_name)
    crosses = mesh.crosses_network(client, server)
    # A gateway leads to every cluster on its network.
    behind = [c for c in mesh.clusters if c is server or (crosses and c.network == server.network)]
    targets = tuple(target for c in behind for target in dialled(snapshot, client, c))
    failed = [answer.outcome for answer in count.answers if not answer.ok]
    far = count.answered_by(frozenset(c.spec.app_version for c in behind))
    sent = count.sent_to_any(targets)
    problems = [f"{len(failed)} of {len(count.answers)} requests failed: {failed[0]}"] if failed else []
    if not far:
        problems.append(f"none of {len(count.answers)} answers came from {server}")
    if sent != far:
        problems.append(f"{far} answers came from {server}, but the client's proxy sent {sent} requests there")
    if crosses and not 0 < count.handshakes <= count.forwarded:
        problems.append(f"{count.handshakes} handshakes completed, the far gateway forwarded {count.forwarded}")
    if not crosses and count.forwarded:
        problems.append(f"the far gateway forwarded {count.forwarded} connections, although both are on one network")
    return problems


def _counted(
    count: Callable[[], dict[str, int]], act: Callable[[], list[HttpAnswer]]
) -> tuple[list[HttpAnswer], dict[str, int]]:
    before = count()
    answers = act()
    return answers, _risen(before, count())


def _risen(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
