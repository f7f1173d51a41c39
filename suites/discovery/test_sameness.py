"""Services and names that must be the same everywhere, and hosts that stay in their cluster."""

from __future__ import annotations

from contextlib import suppress

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Unavailable
from meshproof.discovery.cluster_local import KUBERNETES, local_problems, ready_keys
from meshproof.discovery.endpoints import app_endpoints, clusters_behind
from meshproof.discovery.naming import configured_names, identity_problems, of_remote_secrets
from meshproof.discovery.remote_secrets import remote_secrets
from meshproof.discovery.sameness import resolve_app, sameness_problems
from meshproof.discovery.service_visibility import hidden_from_client
from meshproof.mesh.handles import Cluster
from meshproof.mesh.objects import endpoint_facts
from meshproof.run.claim_context import ClaimContext


@claim(
    "DISCOVERY-06",
    "the application's Service has the same ports and type in every cluster, and resolves there",
    promised_by="Kubernetes SIG Multicluster, Namespace sameness; istio.io, Verify the multicluster installation",
    hint="apply the same Service in the deviating cluster, even if none of its pods run there",
)
def test_the_service_is_the_same_everywhere(context: ClaimContext) -> None:
    """istiod knows the Service from any cluster, but a client queries its own cluster's DNS first."""
    mesh = context.mesh
    findings = Findings("clusters")
    services = {c.name: context.snapshot.of(c).service(names.APP_NAMESPACE, names.APP_SERVICE) for c in mesh.clusters}
    for cluster, resolved in zip(
        mesh.clusters, together(lambda c: resolve_app(context.snapshot, c), mesh.clusters), strict=True
    ):
        problems = sameness_problems(services, cluster.name)
        problems += [] if resolved else [f"{names.APP_FQDN} does not resolve in the client's pod"]
        findings.examine(str(cluster), problems)
    findings.conclude()


@claim(
    "DISCOVERY-07",
    "cluster, network and mesh names agree wherever they are configured",
    promised_by="istio.io, Install Multicluster: meshID, multiCluster.clusterName and network of each cluster",
    hint="correct the deviating name; proxies and gateways take theirs from the injector, in a remote from "
    "istiodRemote.injectionPath: restart them afterwards",
    settings="meshNetworks with fromRegistry or gateways: the labels of the namespace and of the Service are "
    "optional; no meshID: the trust domain is the mesh's name",
)
def test_names_agree_everywhere(context: ClaimContext) -> None:
    """By these names istiod decides what an endpoint's address means: with one wrong name half of the requests time
    out.

    Compared: namespace label, istiod, injector, remote secrets, proxies and gateways.
    """
    mesh, snapshot = context.mesh, context.snapshot
    findings = Findings("places")
    for cluster, found in zip(
        mesh.clusters, together(lambda c: configured_names(snapshot, c), mesh.clusters), strict=True
    ):
        wrong = identity_problems(found, cluster.name, cluster.network, mesh.topology.mesh_id)
        for place, problems in wrong.items():
            findings.examine(f"{cluster} {place}", problems)
        context.evidence.attach(str(cluster), "\n".join(f"{each.place} ({each.what}): {each.value}" for each in found))
    clusters = {str(cluster) for cluster in mesh.clusters}
    with suppress(Unavailable):  # DISCOVERY-04 reports it
        for primary, secrets in zip(
            mesh.primaries, together(lambda c: remote_secrets(c.kube), mesh.primaries), strict=True
        ):
            for place, problems in of_remote_secrets(secrets, clusters, str(primary)).items():
                findings.examine(f"{primary} {place}", problems)
    findings.conclude()


@claim(
    "DISCOVERY-08",
    "clients reach a cluster-local host (kubernetes.default) in their own cluster only",
    promised_by="istio.io, Multi-cluster Traffic Management: serviceSettings.clusterLocal; kubernetes.default.svc and "
    "kube-system are so by default (pilot/pkg/model/cluster_local.go)",
    hint="does meshConfig.serviceSettings make that host global (clusterLocal: false)?",
    settings="serviceSettings with clusterLocal false for this host: red",
)
def test_cluster_local_hosts_stay_local(context: ClaimContext) -> None:
    """Requests that reach another cluster's API server are refused there at best. Positive control: the same client
    has other clusters' endpoints of the demonstration service."""
    snapshot = context.snapshot
    findings = Findings("clients")

    def endpoints_in(cluster: Cluster) -> tuple[frozenset[str], frozenset[str], int, str]:
        pod = snapshot.of(cluster).client
        seen = envoy.endpoints_of(cluster.kube, pod.namespace, pod.name, KUBERNETES)
        slices = cluster.kube.list("EndpointSlice", "default", labels="kubernetes.io/service-name=kubernetes")
        own = endpoint_facts(slices, "https")
        shared = {c.name for each in app_endpoints(cluster, pod) for c in clusters_behind(snapshot, each)}
        hidden = "" if seen else hidden_from_client(context.mesh, cluster, "kubernetes", "default")
        return frozenset(e.key for e in seen), ready_keys(own), len(shared), hidden

    for cluster, (seen, own, shared, hidden) in zip(
        context.mesh.clusters, together(endpoints_in, context.mesh.clusters), strict=True
    ):
        far = sum(bool(facts.ready_endpoints) for facts in snapshot.facts)
        problems = local_problems(seen, own, shared, far, hidden=bool(hidden))
        findings.examine(f"{cluster} {snapshot.of(cluster).client}", problems)
        if hidden:
            findings.advise(f"kubernetes.default is hidden from clients of {cluster} by {hidden}: they bypass the mesh")
        context.evidence.attach(str(cluster), sorted(seen))
    findings.conclude()
