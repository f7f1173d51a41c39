"""Mutual TLS and authorization policies between clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.clients.envoy_admin import Security, security_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.names import APP_CLUSTER
from meshproof.core.waiting import poll_until_clean
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import PodFacts
from meshproof.probes.http_batch import HttpCall, http_calls_from_pod
from meshproof.run.claim_context import ClaimContext
from meshproof.traffic.identity_policies import EXPECTED, guard_problems
from meshproof.traffic.mtls_policies import plain_problems, security_problems
from meshproof.workloads.testbed.names import GUARDED, service_of


@claim(
    "TRAFFIC-06",
    "under STRICT mutual TLS plain text from pods without a sidecar is rejected, from every cluster",
    promised_by="istio.io, Peer Authentication: STRICT; Mutual TLS Migration",
    hint="istioctl x describe pod; a PeerAuthentication must be applied in the control plane of the server's cluster",
    isolation=Isolation.PUSHES_CONFIG,
)
def test_plain_text_is_rejected(context: ClaimContext) -> None:
    """A policy that looks strict and is not lets every pod in the cluster network read and write. Positive control:
    mesh clients are served."""
    test_bed = context.test_bed
    findings = Findings("ways")
    ways = [(client, server) for client in context.mesh.clusters for server in context.mesh.clusters]
    found = together(lambda way: poll_until_clean(lambda: plain_problems(context.snapshot, test_bed, *way)), ways)
    for (client, server), problems in zip(ways, found, strict=True):
        findings.examine(f"{client} to {server}", problems)
    findings.conclude()


@claim(
    "TRAFFIC-07",
    "policies that allow or deny a workload identity are enforced between all clusters",
    promised_by="istio.io, Authorization Policy: source.principals; Security: Identity",
    hint="rejected where allowed: the client's SPIFFE ID (TRUST-04) and the trust domain in the policy; served where "
    "denied: the policy must be in the control plane of the server's cluster, and traffic must be mutual TLS",
    isolation=Isolation.PUSHES_CONFIG,
)
def test_identity_policies_are_enforced(context: ClaimContext) -> None:
    """Identity must survive the path between clusters, or a policy rejects the right clients and serves the wrong
    ones."""
    test_bed = context.test_bed
    findings = Findings("ways")
    ways = [(client, server) for client in context.mesh.clusters for server in context.mesh.clusters]

    def problems(way: tuple[Cluster, Cluster]) -> list[str]:
        client, server = way
        urls = [test_bed.url(service_of(server), f"{GUARDED}/{path}") for path in EXPECTED]
        calls = [HttpCall(url=url, count=SAMPLES.repeated) for url in urls]
        pod = context.snapshot.of(client).client
        return poll_until_clean(lambda: guard_problems(http_calls_from_pod(client.kube, pod, calls)))

    for (client, server), found in zip(ways, together(problems, ways), strict=True):
        findings.examine(f"{client} to {server}", found)
    findings.conclude()


@claim(
    "TRAFFIC-10",
    "clients and ingress gateways use mutual TLS to every endpoint of the application, and verify its identity",
    promised_by="istio.io, Mutual TLS: auto mutual TLS; Security: Secure naming",
    hint="a DestinationRule with tls.mode DISABLE or SIMPLE for the host, or a PeerAuthentication with DISABLE: "
    "istioctl x describe pod; endpoints without a sidecar",
    settings="trustDomainAliases: any of the domains",
)
def test_requests_use_mutual_tls(context: ClaimContext) -> None:
    """Under PERMISSIVE, Istio's default, plain text is answered as well: no other claim sees the difference."""
    evidence = context.evidence
    findings = Findings("proxies")
    findings.skip(context.snapshot.without_ingress)
    viewers = [(facts.cluster, pod) for facts in context.snapshot.facts for pod in facts.callers]
    account = f"/ns/{names.APP_NAMESPACE}/sa/"

    def security_in(viewer: tuple[Cluster, PodFacts]) -> Mapping[str, Security]:
        cluster, pod = viewer
        return security_of(cluster.kube, pod.namespace, pod.name, APP_CLUSTER)

    for (cluster, pod), seen in zip(viewers, together(security_in, viewers), strict=True):
        findings.examine(f"{cluster} {pod}", security_problems(seen, account))
        evidence.attach(f"{cluster}-{pod.name}", {endpoint: asdict(security) for endpoint, security in seen.items()})
    findings.conclude()
