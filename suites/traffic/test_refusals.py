"""Hosts and paths without a route."""

from __future__ import annotations

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.waiting import poll_until_clean
from meshproof.gateways.catch_all import catch_all_gateways
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import NAME_AN_INGRESS
from meshproof.run.claim_context import ClaimContext
from meshproof.traffic.unknown_hosts import refusal_problems, request_each_kind


@claim(
    "TRAFFIC-08",
    "ingress gateways answer 404 to hosts and paths without a route, and serve those with one",
    promised_by="istio.io, Ingress Gateways: other hosts and paths get HTTP 404",
    hint="a VirtualService or Gateway with host '*' matches what no other does: istioctl proxy-config routes",
    isolation=Isolation.PUSHES_CONFIG,
    settings="no usable ingress gateway: skipped",
)
def test_unknown_hosts_and_paths_are_rejected(context: ClaimContext) -> None:
    """A catch-all route publishes services by accident. One that somebody else set on purpose is a note."""
    snapshot, runner_access, test_bed = context.snapshot, context.runner_access, context.test_bed
    findings = Findings("gateways")

    def problems_of(cluster: Cluster) -> list[str]:
        others = catch_all_gateways(context.mesh, snapshot.of(cluster))
        if others:
            findings.skip({f"unknown hosts at {cluster}": f"{', '.join(others)} accepts every host on port 80"})

        def look() -> list[str]:
            replies = request_each_kind(runner_access, snapshot, test_bed, cluster)
            return refusal_problems(replies, open_to_all=bool(others))

        return poll_until_clean(look)

    findings.skip(snapshot.without_ingress, NAME_AN_INGRESS)
    found = together(problems_of, snapshot.with_ingress)
    for cluster, problems in zip(snapshot.with_ingress, found, strict=True):
        findings.examine(f"ingress gateway of {cluster}", problems)
    findings.conclude()
