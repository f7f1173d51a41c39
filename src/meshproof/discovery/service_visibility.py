"""Whether the mesh's settings hide a Service from a client: exports, and namespaces that istiod ignores."""

from __future__ import annotations

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.mesh_config import mesh_config
from meshproof.workloads.discovery_selectors import selected


def hidden_by(config: Json, service: Json, namespace: Json, client: str) -> str:
    """The setting that hides a Service from clients in the namespace `client`; empty if none does.

    `config` is the mesh configuration of the client's istiod, `namespace` that of the Service.
    """
    own = namespace["metadata"]["name"]
    if not selected(config.get("discoverySelectors") or [], namespace["metadata"].get("labels") or {}):
        return f"discoverySelectors, which do not select namespace {own}"
    annotated = (service["metadata"].get("annotations") or {}).get(names.EXPORT_TO, "")
    exports = [each.strip() for each in annotated.split(",") if each.strip()]
    setting = f"annotation {names.EXPORT_TO}: {annotated}"
    if not exports:
        exports = config.get("defaultServiceExportTo") or ["*"]
        setting = f"defaultServiceExportTo: {', '.join(exports)}"
    if "*" in exports or client in exports or ("." in exports and client == own):
        return ""
    return setting


def hidden_from_client(mesh: Mesh, cluster: Cluster, service: str, namespace: str) -> str:
    """The setting that hides a Service from our client in this cluster; empty if none does, or it does not exist."""
    found = cluster.kube.find("Service", service, namespace)
    place = cluster.kube.find("Namespace", namespace)
    if found is None or place is None:
        return ""
    return hidden_by(mesh_config(mesh.control_plane_of(cluster)), found, place, names.CLIENT_NAMESPACE)
