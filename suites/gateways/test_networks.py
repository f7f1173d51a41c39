"""Networks are joined by gateways only."""

from __future__ import annotations

from contextlib import suppress

from meshproof.claims.claim import ACROSS_NETWORKS, Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed, Unavailable
from meshproof.core.waiting import NotYet, eventually, poll_until_clean
from meshproof.gateways.anonymous_callers import anonymous_caller_problems, call_services_behind
from meshproof.gateways.handshakes import MESH_OFFER, handshakes_with
from meshproof.gateways.network_gateways import (
    gateway_problems,
    idle_gateways,
    real_gateways,
    shown,
    unproven_gateways,
)
from meshproof.gateways.network_isolation import isolation_problems, reach_pods
from meshproof.gateways.passthrough import plain_http_replies
from meshproof.mesh.handles import Cluster
from meshproof.probes.http import http_from_pod
from meshproof.probes.mtls_clients import Attempt, AttemptReply
from meshproof.run.claim_context import ClaimContext
from meshproof.workloads.testbed.names import service_of


@claim(
    "GATEWAYS-07",
    "every istiod knows exactly the actual addresses and ports of all network gateways",
    promised_by="istio.io, Install Multicluster: label topology.istio.io/network makes a Service a network's gateway",
    hint="label the east-west gateway's Service with its network; an address that no gateway has comes from "
    "meshNetworks or from another labelled Service: kubectl get services -A -l topology.istio.io/network",
    settings="labels of Services, meshNetworks, host names as in DISCOVERY-02; gateways for HBONE only: ignored",
)
def test_network_gateways_are_up_to_date(context: ClaimContext) -> None:
    """istiod puts these into endpoints for other networks: a stale address is a timeout, a missing one becomes a
    foreign pod's address.

    A network may have several, by labels of Services or by meshNetworks; one that the topology does not name must
    lead to the application. On one network those that exist may be known, since no request takes them.
    """
    wanted, idle = frozenset(real_gateways(context.snapshot)), idle_gateways(context.snapshot)
    replicas = [(facts.cluster, pod) for facts in context.snapshot.facts for pod in facts.istiods]
    last: dict[str, list[str]] = {}

    def check() -> None:
        answers = together(lambda item: istiod.networkz(item[0].kube, item[1].name), replicas)
        for (cluster, pod), known in zip(replicas, answers, strict=True):
            last[f"{cluster} {pod.name}"] = gateway_problems(known, wanted, idle)
        if any(last.values()):
            raise NotYet("the gateways differ")

    findings = Findings("control planes")
    with suppress(ClaimFailed):  # reported below for each istiod
        eventually(check, what="networkz", timeout_s=DEADLINES.discovery_s, error=ClaimFailed)
    for who, problems in last.items():
        findings.examine(who, problems)
    for client, server, gateway in unproven_gateways(context.snapshot):
        (met,) = handshakes_with(context.snapshot, client, [(gateway.address, gateway.port)], [MESH_OFFER])
        wrong = [str(answer) for answer in met.values() if not answer.completed]
        findings.examine(f"{shown(gateway)}, from {client} to the application in {server}", wrong)
    context.evidence.attach("gateways", [shown(gateway) for gateway in sorted(wanted)])
    findings.conclude()


@claim(
    "GATEWAYS-09",
    "pods on another network cannot be reached directly",
    promised_by="istio.io, Deployment models: clusters on different networks communicate through gateways only",
    hint="a route or a tunnel joins the pod ranges: then they are one network, and the topology should declare it",
    needs=ACROSS_NETWORKS,
    settings="routes between networks (VPN, peering): reported and skipped, outside the lab",
)
def test_networks_are_isolated(context: ClaimContext) -> None:
    """Otherwise the proofs about gateways prove nothing. Positive control: the same probe reaches pods of its own
    cluster.

    Outside the lab a path around the gateway is reported, not failed.
    """
    findings = Findings("clients")
    tried = list(together(lambda client: reach_pods(context.snapshot, client), context.mesh.clusters))
    for client, (near, far) in zip(context.mesh.clusters, tried, strict=True):
        context.evidence.attach(str(client), [str(answer) for answer in (*near, *far)])
        findings.examine(f"{client} {context.snapshot.of(client).outside}", isolation_problems(near, far))
    if context.provider_name != "lab" and any(answer.accepted for _, far in tried for answer in far):
        raise Unavailable("network isolation", "some foreign pods are reachable directly", "see the evidence")
    findings.conclude()


@claim(
    "GATEWAYS-10",
    "no service behind port 15443 answers a client without a mesh identity",
    promised_by="istio.io, Gateway, AUTO_PASSTHROUGH; pilot/pkg/xds/endpoints, EndpointsWithMTLSFilter: only endpoints "
    "with mutual TLS are behind it",
    hint="the service accepts clients without a certificate: look for a PeerAuthentication or DestinationRule for it, "
    "and for a Gateway on 15443 that terminates TLS",
    needs=ACROSS_NETWORKS,
    isolation=Isolation.PUSHES_CONFIG,
    settings="as GATEWAYS-08",
)
def test_services_behind_the_gateway_require_a_mesh_identity(context: ClaimContext) -> None:
    """15443 is open to everybody and knows every service of the mesh by name. Positive control: a mesh client is
    answered from there, by a service that only the far cluster has."""
    snapshot, evidence, test_bed = context.snapshot, context.evidence, context.test_bed
    findings = Findings("services behind gateways")
    pairs = list(context.mesh.pairs_across_networks)
    callers = {server: client for client, server in reversed(pairs)}

    def call_services(pair: tuple[Cluster, Cluster]) -> list[tuple[Attempt, AttemptReply]]:
        client, server = pair
        return call_services_behind(snapshot, client, server, everything=callers[server] is client)

    def from_mesh(client: Cluster, server: Cluster) -> list[str]:
        def control() -> list[str]:
            (answer,) = http_from_pod(client.kube, pod, test_bed.url(service_of(server)), 1)
            text = f"positive control failed: a mesh client is not answered ({answer.outcome})"
            return [] if answer.outcome == server.name else [text]

        pod = snapshot.of(client).client
        return poll_until_clean(control)

    for (client, server), replies in zip(pairs, together(call_services, pairs), strict=True):
        if not replies:
            findings.examine(f"{client} to {server}", ["the gateway has no external address"])
        for attempt, reply in replies:
            findings.examine(f"{client} to {server}: {attempt.sni}", anonymous_caller_problems(reply))
        evidence.attach(f"{client}-{server}", "\n".join(f"{attempt.sni}: {reply}" for attempt, reply in replies))
        findings.examine(f"{client} to {server} by the mesh", from_mesh(client, server))
    for client, server in pairs:
        for plain in plain_http_replies(snapshot, client, server).values():
            problems = [f"answers HTTP {plain.status}"] if plain.status else []
            findings.examine(f"{client} to {server} by plain HTTP", problems)
    findings.conclude()
