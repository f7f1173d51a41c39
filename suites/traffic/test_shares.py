"""Which versions answer, and in which shares."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import SAMPLES
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import NAME_AN_INGRESS
from meshproof.probes.http import app_url, http_from_pod
from meshproof.run.claim_context import ClaimContext
from meshproof.traffic.shares import Sample, judge_shares, sample_of


@claim(
    "TRAFFIC-01",
    "through each ingress gateway the versions of the highest priority answer without errors, in proportion to their "
    "endpoint weights",
    promised_by="istio.io, Verify the installation; Envoy, weighted load balancing (one fixed sample, alpha 1e-6)",
    hint="one version only: DISCOVERY-01 and 02; other shares: routes for the host (istioctl proxy-config routes); "
    "errors: the response flags in the ingress gateway's log",
    settings="outlierDetection (locality failover), trafficDistribution, zoneAwareLbSetting, failoverPriority, "
    "distribute: which versions, in which shares; no usable ingress gateway: skipped",
)
def test_ingress_traffic_is_balanced(context: ClaimContext) -> None:
    """What users see. One sample, tested once: repeating it until it fits would hide a lost third of the requests.

    All endpoints have one priority unless outlier detection or a traffic distribution prefers near ones: then the
    priorities must follow from the localities of the nodes, and the report says which versions are lower and why.
    """

    def sample(cluster: Cluster) -> Sample:
        facts = context.snapshot.of(cluster)
        return sample_of(
            context.snapshot, cluster, facts.ingress_pod, lambda: context.runner_access.http(facts, SAMPLES.shares)
        )

    findings = Findings("samples")
    findings.skip(context.snapshot.without_ingress, NAME_AN_INGRESS)
    judge_shares(context.mesh, context.snapshot.with_ingress, sample, findings, context.evidence)


@claim(
    "TRAFFIC-02",
    "to each cluster's mesh client the versions of the highest priority answer without errors, in proportion to their "
    "endpoint weights",
    promised_by="istio.io, Verify the installation; Envoy, weighted load balancing (one fixed sample, alpha 1e-6)",
    hint="one version only: DISCOVERY-01 and 02; other shares: routes for the host (istioctl proxy-config routes); "
    "errors: the response flags in the client's sidecar log",
    settings="as TRAFFIC-01",
)
def test_mesh_traffic_is_balanced(context: ClaimContext) -> None:
    """The same from pod to pod: mutual TLS all the way, through the sidecar's own endpoints."""

    def sample(cluster: Cluster) -> Sample:
        pod = context.snapshot.of(cluster).client
        return sample_of(
            context.snapshot, cluster, pod, lambda: http_from_pod(cluster.kube, pod, app_url(), SAMPLES.shares)
        )

    judge_shares(context.mesh, context.mesh.clusters, sample, Findings("samples"), context.evidence)
