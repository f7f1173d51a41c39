"""Common parts of variants: objects of somebody else, and changes of the mesh configuration that have arrived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from meshproof.clients.istio import istiod_debug
from meshproof.clients.kubernetes.client import Json, api_version
from meshproof.clients.kubernetes.rollout import names_of_pods
from meshproof.core import names
from meshproof.core.model import GatewayRef
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.undo import WORKLOADS
from meshproof.install.operator import merged
from meshproof.mesh.gateways import selector_of
from meshproof.mesh.handles import Cluster

SYSTEM: Final = names.SYSTEM_NAMESPACE
SECONDS: Final = 30.0


def thing(kind: str, name: str, namespace: str | None = None, /, **fields: Any) -> Json:
    """An object of somebody else, without our label."""
    meta: Json = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version(kind), "kind": kind, "metadata": meta, **fields}


def unlabelled(manifest: Json) -> Json:
    """One of our manifests without the label that says so, as somebody else would have written it."""
    labels = {k: v for k, v in (manifest["metadata"].get("labels") or {}).items() if k not in names.MANAGED_BY}
    return manifest | {"metadata": manifest["metadata"] | {"labels": labels}}


def add_everywhere(editor: JournalledEditor, clusters: Iterable[Cluster], *manifests: Json) -> None:
    for cluster in clusters:
        for manifest in manifests:
            editor.add(cluster, manifest)


def namespaces_of(cluster: Cluster) -> list[str]:
    """The names of all namespaces that are not being deleted."""
    found = (namespace["metadata"] for namespace in cluster.kube.list("Namespace"))
    return [str(meta["name"]) for meta in found if "deletionTimestamp" not in meta]


def set_mesh_config(editor: JournalledEditor, cluster: Cluster, changes: Mapping[str, object]) -> None:
    """Merge these fields into the mesh configuration of a primary, and wait until its istiods use them."""
    before = _in_use(cluster)

    def change(found: Json) -> None:
        mesh = yaml.safe_load(found["data"]["mesh"]) or {}
        found["data"]["mesh"] = yaml.safe_dump(merged(mesh, changes))

    editor.edit(cluster, *mesh_config_key(cluster), change)

    def check() -> None:
        old = [pod for pod, text in _in_use(cluster).items() if text == before.get(pod)]
        if old:
            raise NotYet(f"{', '.join(old)} still has the mesh configuration from before")

    eventually(check, what=f"new mesh configuration of {cluster}", timeout_s=SECONDS, poll_s=0.3)


def set_mesh_configs(editor: JournalledEditor, changes: Mapping[str, object]) -> None:
    """The same in every primary."""
    for primary in editor.mesh.primaries:
        set_mesh_config(editor, primary, changes)


def mesh_config_key(cluster: Cluster) -> tuple[str, str, str]:
    return "ConfigMap", names.of_revision(names.MESH_CONFIG, cluster.spec.revision), SYSTEM


def _in_use(cluster: Cluster) -> dict[str, str]:
    """The mesh configuration by istiod pod."""
    return {pod: istiod_debug.debug(cluster.kube, pod, "mesh") for pod in names_of_pods(cluster.kube, SYSTEM, "istiod")}


def restart_proxies(editor: JournalledEditor) -> None:
    """Gateways, and everything else with a proxy: some settings are read only when a pod starts."""
    editor.restart(editor.mesh.clusters, WORKLOADS)


def set_replicas(editor: JournalledEditor, cluster: Cluster, name: str, namespace: str, replicas: int) -> None:
    def change(found: Json) -> None:
        found["spec"]["replicas"] = replicas

    editor.edit(cluster, "Deployment", name, namespace, change)


def with_east_west(editor: JournalledEditor, clusters: Iterable[Cluster]) -> list[Cluster]:
    """Those of these clusters that have an east-west gateway."""
    return [cluster for cluster in clusters if editor.topology.needs_east_west_gateway(cluster.spec)]


def with_ingress(clusters: Iterable[Cluster]) -> list[tuple[Cluster, GatewayRef]]:
    return [(cluster, cluster.spec.ingress) for cluster in clusters if cluster.spec.ingress]


def east_west_selectors(editor: JournalledEditor, primary: Cluster) -> list[dict[str, str]]:
    """The pod selectors of the east-west gateways of all clusters that `primary` controls, without duplicates."""
    clusters = with_east_west(editor, editor.mesh.controlled_by(primary))
    found = [selector_of(cluster, cluster.spec.east_west) for cluster in clusters]
    return [selector for number, selector in enumerate(found) if selector not in found[:number]]
