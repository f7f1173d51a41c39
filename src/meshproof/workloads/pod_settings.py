"""What our pods need in one particular cluster: a user, tolerations, and resources of the sidecar.

The rest of a pod is the same everywhere (`meshproof.clients.kubernetes.pods`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json, Kube, path_of
from meshproof.clients.kubernetes.pods import NOT_INJECTED, sidecar_annotations
from meshproof.core import names
from meshproof.mesh.handles import Cluster, Mesh

USER: Final = 65532
"""The user of our containers where the cluster does not assign one.

The usual images (envoyproxy/envoy, Istio's proxyv2) run as root, and curlimages/curl names its user, which the kubelet
cannot verify to be another. It must not be 1337: what that user sends bypasses the sidecar.
"""
UID_RANGE: Final = "openshift.io/sa.scc.uid-range"
"""Annotation of every namespace on OpenShift, which accepts users of this range only, and assigns one."""
INJECTOR: Final = "istio-sidecar-injector"
"""istiod's ConfigMap with the values of the injection template (chart istio-discovery)."""
PAGE: Final = "20"
"""Nodes in one response."""
CONDITIONS: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "ToBeDeleted", "DeletionCandidate")
"""Prefixes of taints that state a node's condition (Kubernetes, cloud controllers, cluster autoscaler): a pod that
tolerated them would be scheduled to a node that is down or about to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """Settings for pods in one cluster; `sidecar` are annotations, empty where the mesh's own resources suffice."""

    user: int | None = USER
    sidecar: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Json, ...] = ()

    @classmethod
    def of(cls, mesh: Mesh, cluster: Cluster) -> PodSettings:
        """Read them. What may not be read counts as not set."""
        return cls(
            user=user_of(cluster.kube),
            sidecar=_sidecar_of(mesh.control_plane_of(cluster)),
            tolerations=tuple(tolerations_for(_nodes(cluster.kube))),
        )

    def applied_to(self, manifest: Json) -> Json:
        """A copy of a Pod, or of a Deployment with its pod template, with these settings."""
        wanted = copy.deepcopy(manifest)
        pod = wanted if wanted["kind"] == "Pod" else wanted["spec"]["template"]
        if self.user is not None:
            for container in pod["spec"]["containers"]:
                container["securityContext"] = container["securityContext"] | {"runAsUser": self.user}
        if self.tolerations:
            pod["spec"]["tolerations"] = list(self.tolerations)
        meta = pod.setdefault("metadata", {})
        if self.sidecar and not NOT_INJECTED.items() <= (meta.get("labels") or {}).items():
            meta["annotations"] = {**self.sidecar, **(meta.get("annotations") or {})}
        return wanted


def user_of(kube: Kube) -> int | None:
    """The user for our containers; None where the cluster assigns one."""
    namespace = kube.find("Namespace", "default") or {"metadata": {}}
    return None if UID_RANGE in (namespace["metadata"].get("annotations") or {}) else USER


def _sidecar_of(control_plane: Cluster) -> dict[str, str]:
    name = names.of_revision(INJECTOR, control_plane.spec.revision)
    try:
        found = control_plane.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE)
        values = json.loads((found or {})["data"]["values"])
        resources = values["global"]["proxy"].get("resources") or {}
    except (ApiError, KeyError, ValueError, AttributeError):
        return {}
    return sidecar_annotations(resources)


def tolerations_for(nodes: Iterable[Json]) -> list[Json]:
    """Tolerations of all taints, but only where every node has one that keeps pods away.

    Else the tainted nodes are not meant for us. Taints that state a condition are never tolerated.
    """
    found: dict[tuple[str, str], Json] = {}
    for node in nodes:
        taints = (node.get("spec") or {}).get("taints") or []
        repelling = [taint for taint in taints if taint.get("effect") in ("NoSchedule", "NoExecute")]
        if not repelling:
            return []
        for taint in repelling:
            if not str(taint["key"]).startswith(CONDITIONS):
                wanted = {"key": taint["key"], "operator": "Exists", "effect": taint["effect"]}
                found[taint["key"], taint["effect"]] = wanted
    return list(found.values())


def _nodes(kube: Kube) -> Iterator[Json]:
    """The nodes, in pages: the first that is free is enough, and there may be thousands. None without the right."""
    more = ""
    while True:
        try:
            page = kube.get(path_of("Node"), limit=PAGE, **({"continue": more} if more else {}))
        except ApiError as problem:
            if problem.status == FORBIDDEN:
                return
            raise
        yield from page["items"]
        more = (page.get("metadata") or {}).get("continue") or ""
        if not more:
            return
