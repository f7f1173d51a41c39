"""Changes in one cluster arrive in the others."""

from __future__ import annotations

from contextlib import ExitStack

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.discovery.headless import headless_problems, resolve_headless
from meshproof.discovery.propagation import Propagation, measure_propagation
from meshproof.run.claim_context import ClaimContext
from meshproof.workloads.canary_service import canary_endpoint, canary_services


@claim(
    "DISCOVERY-03",
    "endpoint changes in one cluster soon reach the proxies of every other cluster",
    promised_by="istio.io, Install Multicluster: each control plane watches the API servers of all clusters",
    hint="nothing arrives but DISCOVERY-01 reports synced: the remote secret's token is revoked or expired "
    "(DISCOVERY-04), or the network between istiod and that API server is cut; istiod never withdraws the status "
    "synced",
    isolation=Isolation.PUSHES_CONFIG,
)
def test_endpoint_changes_propagate(context: ClaimContext) -> None:
    """istiod never withdraws the status synced; only a change that arrives proves that its watch is alive. Covers an
    endpoint that appears and one that is removed."""
    mesh, snapshot = context.mesh, context.snapshot
    findings = Findings("directions")
    measured: list[Propagation] = [
        each for found in together(lambda c: measure_propagation(snapshot, c), mesh.clusters) for each in found
    ]
    for each in measured:
        findings.examine(f"from {each.server} to {each.viewer}", each.problems)
    context.evidence.attach(
        "canaries", {f"{m.server} to {m.viewer}": {"known after": m.known_s, "gone after": m.gone_s} for m in measured}
    )
    findings.conclude()


@claim(
    "DISCOVERY-09",
    "a headless service resolves to exactly the pods of all clusters on the client's network",
    promised_by="istio.io, DNS Proxying; ENABLE_MULTICLUSTER_HEADLESS: same-network endpoints in any cluster",
    hint="does the client's pod capture DNS (proxy.istio.io/config of its namespace)? does istiod see the endpoints "
    "(DISCOVERY-03)?",
    isolation=Isolation.PUSHES_CONFIG,
    settings="ENABLE_MULTICLUSTER_HEADLESS=false: pods of the own cluster only",
)
def test_headless_services_resolve(context: ClaimContext) -> None:
    """Resolved in a fresh pod with DNS capture; otherwise Kubernetes answers, which knows its own cluster only.

    With ENABLE_MULTICLUSTER_HEADLESS=false it must have the pods of the client's own cluster only. Across networks a
    headless service cannot be reached (istio/istio#38327): such clusters are reported, not failed.
    """
    mesh, snapshot, fresh_pods = context.mesh, context.snapshot, context.fresh_pods
    findings = Findings("clients")
    with ExitStack() as stack:
        name = stack.enter_context(canary_services(snapshot, headless=True))
        for cluster in mesh.clusters:
            stack.enter_context(canary_endpoint(cluster, snapshot.of(cluster).client, name))
        resolved = together(lambda c: resolve_headless(snapshot, fresh_pods, c, name), mesh.clusters)
    for cluster, (captured, _) in zip(mesh.clusters, resolved, strict=True):
        findings.examine(str(cluster), headless_problems(snapshot, cluster, captured))
    limits = [f"{a} does not resolve the pods of {b}, on another network" for a, b in mesh.pairs_across_networks]
    seen = {str(c): {"by Istio": i, "by Kubernetes": k} for c, (i, k) in zip(mesh.clusters, resolved, strict=True)}
    context.evidence.attach("headless", {"addresses": seen, "limits": limits})
    findings.conclude()
