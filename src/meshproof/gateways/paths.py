"""The path of requests from one cluster to another, followed by the counters of the proxies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.gateways.handshakes import DialledAddress, handshakes_with
from meshproof.mesh import gateways
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, sni_of
from meshproof.workloads.testbed.lifecycle import TestBed
from meshproof.workloads.testbed.names import LISTEN_HTTP, PORT_HTTP, path_service_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCount:
    """Requests from a client to a service that only the other cluster has, and what the proxies counted meanwhile.

    `targets` are the addresses that lead there. `sent_to` is requests per endpoint by the client's proxy; `handshakes`
    how many bare handshakes completed at the far gateway (None if it has no pods that count, as a load balancer of
    somebody else's that meshNetworks names), and `forwarded` how many connections that gateway opened to
    the service meanwhile.
    """

    targets: tuple[DialledAddress, ...]
    answers: tuple[HttpAnswer, ...]
    sent_to: Mapping[str, int]
    handshakes: int | None
    forwarded: int

    def answered_by(self, server: str) -> int:
        return sum(answer.ok and answer.version == server for answer in self.answers)

    @property
    def sent_there(self) -> int:
        """Requests that the client's proxy sent to the addresses that lead there."""
        return sum(self.sent_to.get(f"{address}:{port}", 0) for address, port in self.targets)


def targets_of(snapshot: Snapshot, test_bed: TestBed, client: Cluster, server: Cluster) -> tuple[DialledAddress, ...]:
    """What a client must dial for a service of the test bed in `server`: its gateways across networks, else its pod."""
    if snapshot.mesh.crosses_network(client, server):
        return snapshot.of(server).service_gateways
    return ((test_bed.addresses[server.name], LISTEN_HTTP),)


def counted_addresses(facts: ClusterFacts) -> frozenset[str]:
    """Addresses of a cluster's gateways whose pods' counters can be read."""
    return frozenset(a for service in facts.gateways_between_clusters for a in facts.addresses_of(service))


def follow(snapshot: Snapshot, test_bed: TestBed, client: Cluster, server: Cluster) -> PathCount:
    """Send requests from the in-mesh client to a service that only `server` has, and follow them.

    Requests to a service that both have cross only if no setting of the mesh prefers near endpoints. A passthrough
    gateway sees connections, not requests, and the client's proxy keeps its connections open, so the gateway's counters
    cannot rise by the number of requests. What is counted instead: each request by the client's proxy per endpoint that
    it chose, and bare handshakes, each a connection of its own, by the gateway.
    """
    pod, service = snapshot.of(client).client, path_service_of(server)
    url, sni = test_bed.url(service), sni_of(service, test_bed.namespace, PORT_HTTP)
    cluster = f"outbound|{PORT_HTTP}||{names.fqdn(service, test_bed.namespace)}"
    targets = targets_of(snapshot, test_bed, client, server)

    def arrives() -> None:
        (answer,) = http_from_pod(client.kube, pod, url, 1)
        if answer.outcome != server.name:
            raise NotYet(f"{answer.outcome}")

    def sent() -> dict[str, int]:
        hosts = envoy.host_counters(client.kube, pod.namespace, pod.name, cluster)
        return {host.key: host.rq_total for host in hosts if host.cluster == cluster}

    def forwarded() -> dict[str, int]:
        return {
            f"{gateway.name} {host.key}": host.cx_total
            for gateway in snapshot.of(server).service_gateway_pods
            for host in envoy.host_counters(server.kube, gateway.namespace, gateway.name, sni)
        }

    what = f"{client} reaches a service that only {server} has"
    eventually(arrives, what=what, timeout_s=DEADLINES.configuration_s, error=ClaimFailed)
    forwarded_before = forwarded()
    answers, sent_to = _counted(sent, lambda: http_from_pod(client.kube, pod, url, SAMPLES.path))
    crosses = snapshot.mesh.crosses_network(client, server)
    known = counted_addresses(snapshot.of(server))
    counted = [target for target in targets if crosses and target[0] in known]
    met = handshakes_with(snapshot, client, counted, [(sni, ISTIO_ALPN)] * SAMPLES.handshakes) if counted else []
    return PathCount(
        targets=targets,
        answers=tuple(answers),
        sent_to=sent_to,
        handshakes=sum(answer.completed for answers in met for answer in answers.values()) if counted else None,
        forwarded=sum(_risen(forwarded_before, forwarded()).values()),
    )


def gateway_connections(cluster: Cluster) -> int:
    """Connections that the east-west gateway's pods of now have carried to the application."""
    metas = [pod["metadata"] for pod in gateways.gateway_pods(cluster, cluster.spec.east_west)]
    found = together(lambda m: envoy.host_counters(cluster.kube, m["namespace"], m["name"], APP_SNI), metas)
    return sum(host.cx_total for hosts in found for host in hosts)


def path_problems(count: PathCount, server: str, *, crosses: bool) -> list[str]:
    """Where answers and counters disagree; `crosses` if the clusters are on different networks."""
    failed = [answer.outcome for answer in count.answers if not answer.ok]
    far, sent = count.answered_by(server), count.sent_there
    problems = [f"{len(failed)} of {len(count.answers)} requests failed: {failed[0]}"] if failed else []
    if elsewhere := len(count.answers) - len(failed) - far:
        problems.append(f"{elsewhere} of {len(count.answers)} answers did not come from {server}")
    if sent != far:
        problems.append(f"{far} answers came from {server}, but the client's proxy sent {sent} requests there")
    if crosses and count.handshakes is not None and not 0 < count.handshakes <= count.forwarded:
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
