"""Weighted routes and locality failover over probes in all clusters."""

from __future__ import annotations

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.clients.istio.configuration import config_objects, is_probe, place_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.statistics import expected_shares
from meshproof.mesh.handles import Cluster
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod
from meshproof.run.claim_context import ClaimContext
from meshproof.traffic.locality_failover import (
    detects_outliers_everywhere,
    drill_failover,
    failover_without_outlier_detection,
)
from meshproof.traffic.shares import count_summary, share_problems
from meshproof.traffic.weighted_routes import must_have_weights
from meshproof.workloads.testbed.configuration import weights
from meshproof.workloads.testbed.names import PORT_HTTP, WEIGHTED


@claim(
    "TRAFFIC-03",
    "weighted routes over subsets in different clusters (80:20) split requests as configured, without errors",
    promised_by="istio.io, Traffic Shifting; Destination Rule: subsets (one fixed sample, alpha 1e-6)",
    hint="other weights in the proxies: was the VirtualService changed, or does istiod no longer follow (CONTROL-03)? "
    "all from one cluster: DISCOVERY-02; subsets need the pods' labels in every cluster",
    isolation=Isolation.PUSHES_CONFIG,
    settings="no usable ingress gateway: that part is skipped",
)
def test_weighted_routes_hold(context: ClaimContext) -> None:
    """A canary with another weight than configured goes to more users than it should, or to none. Sampled from each
    client and through each ingress gateway."""
    test_bed = context.test_bed
    expected = expected_shares(weights(context.mesh))

    def sample(source: tuple[Cluster, bool]) -> list[HttpAnswer]:
        cluster, through_ingress = source
        facts = context.snapshot.of(cluster)
        if through_ingress:
            must_have_weights(test_bed, cluster, facts.ingress_pod, facts.ingress_route, test_bed.host(WEIGHTED))
            return context.runner_access.http(facts, SAMPLES.weights, host=test_bed.host(WEIGHTED))
        host = names.fqdn(WEIGHTED, test_bed.namespace)
        must_have_weights(test_bed, cluster, facts.client, str(PORT_HTTP), host)
        return http_from_pod(cluster.kube, facts.client, test_bed.url(WEIGHTED), SAMPLES.weights)

    findings = Findings("samples")
    findings.skip(context.snapshot.without_ingress)
    usable = context.snapshot.with_ingress
    sources = [(c, through) for c in context.mesh.clusters for through in (False, True) if not through or c in usable]
    for (cluster, through), answers in zip(sources, together(sample, sources), strict=True):
        name = f"{'through the ingress gateway of' if through else 'from the client of'} {cluster}"
        findings.examine(name, share_problems(answers, expected))
        context.evidence.attach(f"{cluster}-{'ingress' if through else 'client'}", count_summary(answers))
    findings.conclude()


@claim(
    "TRAFFIC-04",
    "with outlier detection another cluster serves while a client's local endpoints answer 5xx, and only then",
    promised_by="istio.io, Locality Load Balancing: Failover; Destination Rule: outlierDetection",
    hint="without outlierDetection failover never happens while endpoints look healthy: add it to the DestinationRule; "
    "never local: are proxies and endpoints labelled with cluster and network (DISCOVERY-07)?",
    isolation=Isolation.PUSHES_CONFIG,
    settings="defaultTrafficPolicy with outlierDetection: DestinationRules need none of their own",
)
def test_failing_local_endpoints_are_replaced(context: ClaimContext) -> None:
    """Pods that answer with errors stay in the registry: only the errors that clients see can eject them.

    Before and after the errors the client's own cluster serves all its requests (locality load balancing).
    """
    mesh, test_bed = context.mesh, context.test_bed
    findings = Findings("clients and configuration objects")
    drills = together(lambda cluster: drill_failover(context.snapshot, test_bed, cluster), mesh.clusters)
    for cluster, problems in zip(mesh.clusters, drills, strict=True):
        findings.examine(f"client of {cluster}", problems)
    for primary in mesh.primaries:
        if detects_outliers_everywhere(primary):
            continue
        for rule in config_objects(primary.kube, ["DestinationRule"]):
            findings.examine(
                f"{primary} {place_of(rule)}", [] if is_probe(rule) else failover_without_outlier_detection(rule)
            )
    findings.conclude()
