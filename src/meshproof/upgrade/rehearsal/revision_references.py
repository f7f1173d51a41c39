"""Finds objects that still refer to a control plane, by its revision or by the name of its istiod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.install.removal import RIGHTS, WEBHOOKS
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import labels_of
from meshproof.upgrade.rehearsal.control_plane import ControlPlane

OF_ISTIOD: Final = ("Deployment", "Service", "ConfigMap", "ServiceAccount", "Role", "RoleBinding")
"""Kinds of the objects of a revision in istio-system (chart istio-discovery)."""
ROUTES: Final = ("VirtualService", "DestinationRule", "Gateway", "EnvoyFilter")


def pointing_at(mesh: Mesh, plane: ControlPlane) -> list[str]:
    """One text per reference, cluster by cluster; empty once the control plane is completely removed.

    Pods count by the annotation from injection (istio.io/rev), webhooks by the Service that they call and by their
    revision, namespaces by their label unless a tag of that name refers to another revision.
    """
    found = together(lambda cluster: list(_in(cluster, plane)), plane.mesh_of(mesh).clusters)
    return [f"{cluster}: {text}" for cluster, texts in zip(mesh.clusters, found, strict=True) for text in texts]


def _in(cluster: Cluster, plane: ControlPlane) -> Iterator[str]:
    kube, istiod = cluster.kube, cluster.spec.istiod
    tags: dict[str, str] = {}
    for kind in WEBHOOKS:
        for webhook in kube.list(kind):
            labels = labels_of(webhook)
            if names.TAG_LABEL in labels:
                tags[labels[names.TAG_LABEL]] = labels.get(names.REVISION_LABEL, "")
            if istiod in _services(webhook) or labels.get(names.REVISION_LABEL) == plane.revision:
                tag = f" (tag {labels[names.TAG_LABEL]})" if names.TAG_LABEL in labels else ""
                yield f"{kind} {_name(webhook)}{tag} calls {', '.join(sorted(_services(webhook))) or 'a URL'}"
    for namespace in kube.list("Namespace"):
        label = labels_of(namespace).get(names.REVISION_LABEL)
        if label == plane.revision and tags.get(label, plane.revision) == plane.revision:
            yield f"namespace {_name(namespace)} is labelled {names.REVISION_LABEL}={label}"
    for pod in kube.list("Pod"):
        if (pod["metadata"].get("annotations") or {}).get(names.REVISION_LABEL) == plane.revision:
            yield f"pod {pod['metadata']['namespace']}/{_name(pod)} has a proxy of revision {plane.revision}"
    for kind in OF_ISTIOD:
        for thing in kube.list(kind, names.SYSTEM_NAMESPACE):
            if labels_of(thing).get(names.REVISION_LABEL) == plane.revision:
                yield f"{kind} {names.SYSTEM_NAMESPACE}/{_name(thing)} is of revision {plane.revision}"
    for kind in RIGHTS:
        for thing in kube.list(kind):
            if labels_of(thing).get(names.REVISION_LABEL) == plane.revision and istiod in json.dumps(thing):
                yield f"{kind} {_name(thing)} is of revision {plane.revision}"
    host = f"{istiod}.{names.SYSTEM_NAMESPACE}.svc"
    for kind in ROUTES:
        for thing in kube.list(kind):
            if _names_host(thing.get("spec"), host):
                yield f"{kind} {thing['metadata']['namespace']}/{_name(thing)} names {host}"


def _names_host(value: object, host: str) -> bool:
    """Whether a text in a spec is this host, in full or without the cluster's domain."""
    if isinstance(value, dict):
        return any(_names_host(each, host) for each in value.values())
    if isinstance(value, list):
        return any(_names_host(each, host) for each in value)
    return isinstance(value, str) and (value == host or value.startswith(f"{host}."))


def _services(webhook: Json) -> set[str]:
    services = [(hook.get("clientConfig") or {}).get("service") or {} for hook in webhook.get("webhooks") or []]
    return {s["name"] for s in services if s.get("namespace") == names.SYSTEM_NAMESPACE and "name" in s}


def _name(thing: Json) -> str:
    return str(thing["metadata"]["name"])
