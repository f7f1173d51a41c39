"""Shared parts of manifests, and the namespaces of a mesh."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.clients.kubernetes.client import Json
from meshproof.core.model import ClusterSpec, PullSecret, Role
from meshproof.core.names import (
    APP_NAMESPACE,
    CLIENT_NAMESPACE,
    CONTROL_PLANES_ANNOTATION,
    EXPORT_TO,
    MANAGED_BY,
    NETWORK_LABEL,
    OUTSIDE_NAMESPACE,
    SYSTEM_NAMESPACE,
)

INJECTED_NAMESPACES = (APP_NAMESPACE, CLIENT_NAMESPACE)
NAMESPACES = (SYSTEM_NAMESPACE, *INJECTED_NAMESPACES, OUTSIDE_NAMESPACE)
"""The namespaces that every install creates; gateways may have additional ones."""


def managed_by_meshproof(thing: Json) -> bool:
    """Whether meshproof created it."""
    return MANAGED_BY.items() <= (thing["metadata"].get("labels") or {}).items()


def metadata(
    name: str,
    namespace: str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    found: Json = {"name": name, "labels": {**MANAGED_BY, **(labels or {})}}
    if namespace:
        found["namespace"] = namespace
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def core(kind: str, meta: Json, **fields: object) -> Json:
    """An object of the core API group."""
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **fields}


def service(name: str, namespace: str, spec: Json, *, labels: Mapping[str, str] | None = None) -> Json:
    """A Service that every namespace of the mesh sees, whatever the mesh's `defaultServiceExportTo`."""
    return core("Service", metadata(name, namespace, labels=labels, annotations={EXPORT_TO: "*"}), spec=spec)


def pulls_with(secret: PullSecret | None) -> Json:
    """The ServiceAccount field for an image pull secret."""
    return {"imagePullSecrets": [{"name": secret.name}]} if secret else {}


def namespaces(cluster: ClusterSpec) -> tuple[Json, ...]:
    """The namespaces of a cluster; istio-system has the label of its network, and in a remote the annotation of its
    control plane."""
    annotations = {CONTROL_PLANES_ANNOTATION: cluster.control_plane} if cluster.role is Role.REMOTE else {}
    system = metadata(SYSTEM_NAMESPACE, labels={NETWORK_LABEL: cluster.network}, annotations=annotations)
    injected = [metadata(name, labels=cluster.injection_labels) for name in INJECTED_NAMESPACES]
    others = [metadata(name) for name in (*cluster.mesh_namespaces[1:], OUTSIDE_NAMESPACE)]
    return tuple(core("Namespace", meta) for meta in (system, *injected, *others))


def deployment(
    name: str,
    namespace: str,
    *,
    selector: Mapping[str, str],
    pod: Json,
    labels: Mapping[str, str] | None = None,
    pod_labels: Mapping[str, str] | None = None,
    pod_annotations: Mapping[str, str] | None = None,
) -> Json:
    """A Deployment with one replica; `pod` is its pod spec."""
    template: Json = {"metadata": {"labels": {**selector, **(pod_labels or {})}}, "spec": pod}
    if pod_annotations:
        template["metadata"]["annotations"] = dict(pod_annotations)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace, labels=labels),
        "spec": {"replicas": 1, "selector": {"matchLabels": dict(selector)}, "template": template},
    }
