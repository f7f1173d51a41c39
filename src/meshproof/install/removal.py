"""Fast and complete removal of a mesh, and the check for leftovers.

`istioctl uninstall --purge` keeps the CRDs' configuration, namespaces, secrets and what istiod wrote into other
namespaces, and the pods' grace period delays the namespaces. Here every namespace is deleted first (so that nothing
new starts in it), and its pods without a grace period.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube, label_selector, path_of
from meshproof.clients.kubernetes.manifests import NAMESPACES
from meshproof.clients.kubernetes.rollout import until
from meshproof.core.errors import NotReady
from meshproof.core.names import MANAGED_BY
from meshproof.mesh.handles import Mesh

GONE_S: Final = 90.0

WEBHOOKS: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
RIGHTS: Final = ("ClusterRoleBinding", "ClusterRole")

_OPERATOR_LABELS: Final = ("operator.istio.io/component", "install.operator.istio.io/owning-resource")
_ISTIO_NAME: Final = re.compile(r"istiod?-")
"""Names of Istio's cluster-wide objects: istioctl 1.31 labels all of them, Helm and older versions only some."""
_CRD_NAME: Final = re.compile(r"\.istio\.io$")
_WRITTEN_BY_ISTIOD: Final = "istio.io/config=true"
"""Label of the ConfigMaps (istio-ca-root-cert) that istiod writes into every namespace (namespacecontroller.go)."""


def remove_control_plane(kube: Kube) -> None:
    """Delete Istio's webhooks, rights and CRDs. Rights go early, so that a terminating istiod cannot recreate
    anything."""
    for kinds in (WEBHOOKS, RIGHTS, ("CustomResourceDefinition",)):
        _delete_all(kube, [(kind, meta["name"]) for kind, meta in _cluster_wide(kube, kinds)])


def remove_namespaces(kube: Kube, *, aborted: threading.Event) -> None:
    """Delete our mesh's namespaces, wait until they are gone, and delete what istiod wrote into other namespaces.

    Raises `NotReady` with what blocks the deletion after 90 s.
    """
    remove_these_namespaces(kube, _namespaces(kube), aborted=aborted)
    written = kube.list("ConfigMap", labels=_WRITTEN_BY_ISTIOD)
    for config in written:
        kube.delete("ConfigMap", config["metadata"]["name"], config["metadata"]["namespace"])


def _namespaces(kube: Kube) -> list[str]:
    """Those of every mesh, and all with our label, such as those of gateways: the topology is unknown."""
    ours = kube.list("Namespace", labels=label_selector(MANAGED_BY))
    labelled = [namespace["metadata"]["name"] for namespace in ours]
    return list(dict.fromkeys((*NAMESPACES, *labelled)))


def remove_these_namespaces(kube: Kube, namespaces: Iterable[str], *, aborted: threading.Event) -> None:
    """Delete namespaces and wait until they are gone. Raises `NotReady` with what blocks the deletion."""
    there = [name for name in namespaces if kube.delete("Namespace", name)]
    for name in there:
        _kill_pods(kube, name)
    for name in there:
        _await_end(kube, name, aborted)


def _await_end(kube: Kube, name: str, aborted: threading.Event) -> None:
    try:
        until(
            kube,
            "Namespace",
            name,
            None,
            lambda found: True if found is None else None,
            what=f"deletion of namespace {name}",
            timeout_s=GONE_S,
            aborted=aborted,
            look=partial(_kill_pods, kube, name),
            repair=f"kubectl --context {kube.context} get namespace {name} -o yaml",
        )
    except NotReady as problem:
        why = _deletion_blockers(kube.find("Namespace", name))
        raise NotReady(problem.what, f"{problem.reason}{why}", problem.repair) from None


def leftovers(mesh: Mesh) -> list[str]:
    """Descriptions of mesh objects that are still in its clusters; empty after an uninstall."""
    with ThreadPoolExecutor(max_workers=len(mesh.clusters)) as pool:
        return [text for found in pool.map(lambda cluster: leftovers_in(cluster.kube), mesh.clusters) for text in found]


def leftovers_in(kube: Kube) -> list[str]:
    """Mesh objects that are still in one cluster: `cluster1: ClusterRole istiod-clusterrole-istio-system`."""
    found = []
    for name in _namespaces(kube):
        if (namespace := kube.find("Namespace", name)) is not None:
            found.append(f"Namespace {name}{_deletion_blockers(namespace)}")
    kinds = (*WEBHOOKS, *RIGHTS, "CustomResourceDefinition")
    found += [f"{kind} {meta['name']}" for kind, meta in _cluster_wide(kube, kinds)]
    found += [
        f"ConfigMap {config['metadata']['namespace']}/{config['metadata']['name']}"
        for config in kube.list("ConfigMap", labels=_WRITTEN_BY_ISTIOD)
    ]
    return [f"{kube.name}: {text}" for text in found]


def is_istio(kind: str, meta: Json) -> bool:
    """Whether a cluster-wide object belongs to Istio, by its labels or its name."""
    name = meta["name"]
    if kind == "CustomResourceDefinition":
        return bool(_CRD_NAME.search(name))
    labels = meta.get("labels") or {}
    return any(label in labels for label in _OPERATOR_LABELS) or bool(_ISTIO_NAME.match(name))


def _cluster_wide(kube: Kube, kinds: tuple[str, ...]) -> Iterator[tuple[str, Json]]:
    for kind in kinds:
        for found in kube.list(kind):
            if is_istio(kind, found["metadata"]):
                yield kind, found["metadata"]


def _delete_all(kube: Kube, objects: list[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(max_workers=6) as pool:
        for _ in pool.map(lambda found: kube.delete(*found), objects):
            pass


def _kill_pods(kube: Kube, namespace: str) -> None:
    """Force-delete all pods of a namespace; the kubelet ends their containers within a second or two."""
    try:
        kube.request("DELETE", path_of("Pod", namespace), query={"gracePeriodSeconds": "0"})
    except ApiError as problem:
        if problem.status != 404:
            raise


def _deletion_blockers(namespace: Json | None) -> str:
    """Why a terminating namespace still exists, from its conditions."""
    if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
        return ""
    conditions = namespace.get("status", {}).get("conditions") or []
    reasons = [str(c.get("message", "")) for c in conditions if c.get("status") == "True"]
    return f" (being deleted{': ' if reasons else ''}{'; '.join(reasons)})"
