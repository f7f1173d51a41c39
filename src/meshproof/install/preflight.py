"""Checks before `--mesh=install` on existing clusters: lists foreign objects in the way, and what will be created."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from meshproof.clients.kubernetes.manifests import managed_by_meshproof, namespaces
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterSpec, Topology
from meshproof.install.gateways import gateways_of
from meshproof.install.removal import leftovers_in
from meshproof.mesh.handles import Cluster, Mesh


def refuse_foreign(mesh: Mesh) -> None:
    """Raises `BadInput` with all foreign objects that have our names or are Istio's: they would be removed with our
    mesh."""
    found = [text for part in together(foreign_in, mesh.clusters) for text in part]
    if found:
        listed = "".join(f"\n  - {text}" for text in found)
        raise BadInput(
            "--mesh=install",
            f"objects that meshproof did not create are in the way:{listed}",
            "verify the existing mesh with --mesh=existing, or use clusters without a mesh; if these are leftovers of "
            "an Istio installation, remove them first",
        )


def foreign_in(cluster: Cluster) -> list[str]:
    """Mesh objects in a cluster that we did not create. Cluster-wide objects are ours if istio-system is."""
    kube = cluster.kube
    found = {name: kube.find("Namespace", name) for name in installed_namespaces(cluster.spec)}
    ours = {f"{kube.name}: Namespace {name}" for name, there in found.items() if there and managed_by_meshproof(there)}
    others = [
        f"{kube.name}: Namespace {name}" for name, there in found.items() if there and not managed_by_meshproof(there)
    ]
    if f"{kube.name}: Namespace {names.SYSTEM_NAMESPACE}" in ours:
        return others
    left = [text for text in leftovers_in(kube) if text.partition(" (being deleted")[0] not in ours]
    return list(dict.fromkeys((*others, *left)))


def installed_namespaces(spec: ClusterSpec) -> tuple[str, ...]:
    """All namespaces that an install creates in a cluster."""
    return tuple(manifest["metadata"]["name"] for manifest in namespaces(spec))


def must_be_dialled_from_elsewhere(mesh: Mesh) -> None:
    """Raises `BadInput` for an API server that only this machine can reach: its URL goes into remote secrets."""
    for cluster in mesh.clusters:
        server = cluster.access.server_for_peers
        host = urlsplit(server).hostname or ""
        if len(mesh.clusters) > 1 and (host in ("localhost", "::1") or host.startswith("127.")):
            raise BadInput(
                f"context {cluster.access.context} for {cluster}",
                f"its API server is {server}, which other clusters cannot reach",
                "use a kubeconfig with a server address that istiod in the other clusters can reach",
            )


def what_will_be_made(topology: Topology, *, keep: bool) -> Iterator[str]:
    """One line for each cluster, and one for what the clusters' owner must provide."""
    for cluster in topology.clusters:
        yield f"{cluster.name} gets {_made_in(topology, cluster)}"
    yield (
        "it is kept (--keep)" if keep else "everything is removed at the end, including all objects in these namespaces"
    )
    for network in topology.networks:
        there = [cluster.name for cluster in topology.clusters if cluster.network == network]
        if len(there) > 1:
            who = f"pods of {', '.join(there)} ({network})"
            yield f"{who} must reach each other by address: meshproof creates no routes there"


def _made_in(topology: Topology, cluster: ClusterSpec) -> str:
    gateways = ", ".join(gateway.name for gateway in gateways_of(topology, cluster))
    balancers = f"load balancers for {gateways}" if gateways else "no gateway"
    return (
        f"the namespaces {', '.join(installed_namespaces(cluster))}; Istio's CRDs, cluster roles and webhooks; "
        f"a ConfigMap with istiod's root in every namespace; {balancers}"
    )
