"""Bodies of every size, and protocols other than plain HTTP/1.1, between clusters."""

from __future__ import annotations

from collections.abc import Callable

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.waiting import poll_until_clean
from meshproof.mesh.handles import Cluster
from meshproof.probes.http_batch import HttpCall, http_calls_from_pod
from meshproof.probes.http_bodies import BodyAnswer, bodies_from_pod
from meshproof.run.claim_context import ClaimContext
from meshproof.traffic.protocols import PROTOCOLS, body_problems, protocol_calls, protocol_problems
from meshproof.workloads.app import ECHO_PATH
from meshproof.workloads.testbed.configuration import KNOWN_PATHS
from meshproof.workloads.testbed.names import ALL, service_of


@claim(
    "TRAFFIC-05",
    "request and response bodies of 1 KiB to 1 MiB arrive unchanged between all clusters",
    promised_by="RFC 9110, Content; Istio passes bodies through unchanged",
    hint="only large ones fail: path MTU between the clusters (a tunnel that drops 'fragmentation needed'), or a "
    "buffer limit in an EnvoyFilter; another server answers: another route takes the host (TRAFFIC-08)",
    isolation=Isolation.PUSHES_CONFIG,
    settings="no usable ingress gateway: that part is skipped",
)
def test_bodies_arrive_unchanged(context: ClaimContext) -> None:
    """Small requests fit one packet and always work: on a bad path the first large one fails. Sent from each client
    and through each ingress gateway."""
    mesh, runner_access, test_bed = context.mesh, context.runner_access, context.test_bed
    servers = [server.name for server in mesh.clusters]

    def from_client(client: Cluster) -> list[list[str]]:
        pod, services = context.snapshot.of(client).client, [service_of(server) for server in mesh.clusters]
        calls = [HttpCall(url=test_bed.url(service)) for service in services]
        await_services(lambda: [replies[0].outcome for replies in http_calls_from_pod(client.kube, pod, calls)])
        return judged(bodies_from_pod(client.kube, pod, [test_bed.url(service, ECHO_PATH) for service in services]))

    def through_ingress(client: Cluster) -> list[list[str]]:
        facts, hosts = context.snapshot.of(client), [test_bed.host(service_of(server)) for server in mesh.clusters]
        await_services(
            lambda: [runner_access.http(facts, 1, host=host, path=KNOWN_PATHS[0])[0].outcome for host in hosts]
        )
        return judged(runner_access.bodies(facts, hosts, ECHO_PATH))

    def await_services(request: Callable[[], list[str]]) -> None:
        """Wait, within bounds, until proxies have these new services: bodies are sent only once."""
        poll_until_clean(
            lambda: [outcome for outcome, server in zip(request(), servers, strict=True) if outcome != server]
        )

    def judged(bodies: list[list[BodyAnswer]]) -> list[list[str]]:
        return [body_problems(answers, server) for answers, server in zip(bodies, servers, strict=True)]

    findings = Findings("paths")
    findings.skip(context.snapshot.without_ingress)
    ways = (
        ("the client", from_client, mesh.clusters),
        ("the ingress gateway", through_ingress, context.snapshot.with_ingress),
    )
    for name, send, sources in ways:
        for source, found in zip(sources, together(send, sources), strict=True):
            for server, problems in zip(mesh.clusters, found, strict=True):
                findings.examine(f"{name} of {source} to {server}", problems)
    findings.conclude()


@claim(
    "TRAFFIC-09",
    "HTTP/1.1, gRPC (HTTP/2) and TCP services answer clients of every cluster in their own protocol",
    promised_by="istio.io, Protocol Selection; Deployment models: Multiple networks",
    hint="name the Service's port after its protocol (grpc, tcp) in every cluster alike; TCP across networks needs "
    "mutual TLS, since the gateway finds the service by the server name",
    isolation=Isolation.PUSHES_CONFIG,
    settings="locality load balancing: none, its Services bring a DestinationRule",
)
def test_protocols_work_between_clusters(context: ClaimContext) -> None:
    """A port that one cluster calls http and another tcp works from one side only."""
    mesh, test_bed = context.mesh, context.test_bed
    findings = Findings("ways")

    def problems(client: Cluster) -> dict[str, list[str]]:
        pod = context.snapshot.of(client).client
        calls = [call for server in mesh.clusters for call in protocol_calls(test_bed, service_of(server)).values()]
        calls += protocol_calls(test_bed, ALL, SAMPLES.spread).values()
        last: dict[str, list[str]] = {}

        def request_all() -> list[str]:
            replies = iter(http_calls_from_pod(client.kube, pod, calls))
            for server in mesh.clusters:
                seen = {protocol: next(replies) for protocol in PROTOCOLS}
                last[f"{client} to {server}"] = protocol_problems(seen, {server.name})
            seen = {protocol: next(replies) for protocol in PROTOCOLS}
            last[f"{client} to all"] = protocol_problems(seen, {cluster.name for cluster in mesh.clusters})
            return [problem for found in last.values() for problem in found]

        poll_until_clean(request_all)
        return last

    for found in together(problems, mesh.clusters):
        for way, wrong in found.items():
            findings.examine(way, wrong)
    findings.conclude()
