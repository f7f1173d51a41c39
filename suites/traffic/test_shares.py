"""Who answers: both versions, in the shares that the endpoints' weights promise, and nobody fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.discovery.endpoints import app_endpoints, expected_versions
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import NAME_AN_INGRESS, Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import app_url, http_from_pod
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.traffic.shares import share_problems, told

Sample = tuple[dict[str, float], list[HttpAnswer]]


@claim(
    "TRAFFIC-01",
    "through each cluster's ingress gateway all versions answer, as evenly as endpoint weights say, without an error",
    promised_by="istio.io, Verify the installation; Envoy, weighted load balancing (one fixed sample, alpha 1e-6)",
    hint="one version only: DISCOVERY-01 and 02; other shares: routes for the host (istioctl proxy-config routes); "
    "errors: the response flags in the ingress gateway's log",
)
def test_ingress_traffic_is_even(
    mesh: Mesh, snapshot: Snapshot, evidence: Evidence, runner_access: RunnerAccess
) -> None:
    """What users see. One sample, tested once: asking again until it fits would hide a lost third of the requests."""

    def sample(cluster: Cluster) -> Sample:
        facts = snapshot.of(cluster)
        expected = expected_versions(snapshot, app_endpoints(cluster, facts.ingress_pod))
        return expected, runner_access.http(facts, SAMPLES.shares)

    findings = Findings("samples")
    findings.skip(snapshot.without_ingress, NAME_AN_INGRESS)
    judge(mesh, snapshot.with_ingress, sample, findings, evidence)


@claim(
    "TRAFFIC-02",
    "from an in-mesh client in each cluster all versions answer, as evenly as endpoint weights say, without an error",
    promised_by="istio.io, Verify the installation; Envoy, weighted load balancing (one fixed sample, alpha 1e-6)",
    hint="one version only: DISCOVERY-01 and 02; other shares: routes for the host (istioctl proxy-config routes); "
    "errors: the response flags in the client's sidecar log",
)
def test_mesh_traffic_is_even(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """The same from pod to pod: mutual TLS all the way, through the sidecar's own endpoints."""

    def sample(cluster: Cluster) -> Sample:
        pod = snapshot.of(cluster).client
        expected = expected_versions(snapshot, app_endpoints(cluster, pod))
        return expected, http_from_pod(cluster.kube, pod, app_url(), SAMPLES.shares)

    judge(mesh, mesh.clusters, sample, Findings("samples"), evidence)


def judge(
    mesh: Mesh,
    clusters: Sequence[Cluster],
    sample: Callable[[Cluster], Sample],
    findings: Findings,
    evidence: Evidence,
) -> None:
    """Take a sample in each of these clusters and judge each by itself; every version of the mesh must be promised a
    share."""
    versions = {cluster.spec.app_version for cluster in mesh.clusters}
    for cluster, (expected, answers) in zip(clusters, together(sample, clusters), strict=True):
        silent = sorted(versions - expected.keys())
        problems = [f"its proxy has no endpoint of version {', '.join(silent)}"] if silent else []
        findings.examine(f"from {cluster}", problems + share_problems(answers, expected))
        evidence.attach(f"from-{cluster}", {"counts": told(answers), "answers": [asdict(answer) for answer in answers]})
    findings.conclude()
