"""Scales the istiod Deployments of a cluster down and up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.rollout import deployment_ready
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster

LABELS: Final = "app=istiod"
ISTIOD_GRACE_S: Final = 3
"""Grace period of an istiod that is scaled down, in seconds: enough for it to give its leases back."""


def scale_istiod_down(cluster: Cluster, before: Callable[[Mapping[str, int]], object]) -> None:
    """Scale every istiod Deployment to zero and wait until no pod is left; first calls `before` with the replicas."""
    replicas = running_replicas(cluster)
    before(replicas)
    scale_to_zero(cluster.kube, replicas)


def running_replicas(cluster: Cluster) -> dict[str, int]:
    """Replicas by istiod Deployment of a cluster. Raises `Broken` if none is running."""
    replicas = _replicas(cluster.kube)
    if not any(replicas.values()):
        raise Broken(f"istiod of {cluster}", "it is already down", "start it: a fault needs a healthy mesh")
    return replicas


def start_istiod(kube: Kube, replicas: Mapping[str, int], leading: Callable[[], set[str]] = set) -> None:
    """Scale istiod's Deployments and wait until exactly these replicas are available; missing Deployments are ignored.

    When scaling down, pods that are `leading` stay. Raises `NotReady` with the reason that Kubernetes reports.
    """
    there = _replicas(kube)
    wanted = {name: count for name, count in replicas.items() if name in there}
    _scale(kube, wanted, leading)
    for name in wanted:
        deployment_ready(
            kube,
            names.SYSTEM_NAMESPACE,
            name,
            timeout_s=DEADLINES.istiod_back_s,
            patient=True,
            repair=f"kubectl -n {names.SYSTEM_NAMESPACE} describe deployment {name}",
        )
    await_gone(kube, names.SYSTEM_NAMESPACE, LABELS, but=sum(_replicas(kube).values()))


def _replicas(kube: Kube) -> dict[str, int]:
    found = kube.list("Deployment", names.SYSTEM_NAMESPACE, labels=LABELS)
    return {item["metadata"]["name"]: int(item["spec"].get("replicas", 1)) for item in found}


def _scale(kube: Kube, replicas: Mapping[str, int], leading: Callable[[], set[str]] = set) -> None:
    """Delete surplus pods with a grace period of `ISTIOD_GRACE_S`, then set the replicas before replacements start.

    Kubernetes would grant 30 s. An istiod with a connection from another network uses all of it, since a gateway keeps
    the connection open, and the kubelet never shortens a grace period that has begun.
    """
    for name, count in replicas.items():
        found = kube.list("Pod", names.SYSTEM_NAMESPACE, labels=LABELS)
        ours = [pod["metadata"] for pod in found if deployment_of(pod) == name]
        first = leading() if 0 < count < len(ours) else set()
        for meta in sorted(ours, key=lambda meta: (meta["name"] not in first, str(meta["creationTimestamp"])))[count:]:
            kube.delete("Pod", meta["name"], names.SYSTEM_NAMESPACE, grace_s=ISTIOD_GRACE_S)
        kube.merge_patch("Deployment", name, {"spec": {"replicas": count}}, names.SYSTEM_NAMESPACE, sub="scale")


def deployment_of(pod: Json) -> str:
    """From the pod's name: `<deployment>-<hash>-<five letters>`."""
    return str(pod["metadata"]["name"]).rsplit("-", 2)[0]


def scale_to_zero(kube: Kube, replicas: Mapping[str, int]) -> None:
    """Scale these Deployments to zero and wait until no pod is left."""
    _scale(kube, dict.fromkeys(replicas, 0))
    await_gone(kube, names.SYSTEM_NAMESPACE, LABELS)


def await_gone(kube: Kube, namespace: str, labels: str, *, but: int = 0) -> None:
    """Wait until no more than `but` pods with these labels are left."""

    def check() -> None:
        left = [pod["metadata"]["name"] for pod in kube.list("Pod", namespace, labels=labels)]
        if len(left) > but:
            raise NotYet(f"still there: {', '.join(left)}")

    what = f"pods {labels} in {namespace} on {kube.name} are gone"
    eventually(check, what=what, timeout_s=DEADLINES.pods_gone_s, poll_s=0.2)
