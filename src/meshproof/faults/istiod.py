"""Stopping a control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from meshproof import names
from meshproof.clients.kube import Json, Kube
from meshproof.deadlines import DEADLINES
from meshproof.errors import Broken
from meshproof.faults.journal import Journal
from meshproof.mesh import Cluster
from meshproof.traffic import Mark
from meshproof.wait import NotYet, eventually

STOP_ISTIOD: Final = "stop_istiod"
LABELS: Final = "app=istiod"


@dataclass(slots=True, kw_only=True)
class Stopped:
    """When a control plane was told to stop, was gone, was told to start (`heal`), and was available again."""

    cluster: Cluster
    replicas: Mapping[str, int]
    told: Mark
    gone: Mark | None = None
    heal: Mark | None = None
    back: Mark | None = None


@contextmanager
def stop_istiod(cluster: Cluster, journal: Journal) -> Iterator[Stopped]:
    """Scale every istiod Deployment of a cluster to zero; yields when no pod is left; heals on the way out.

    Healing scales back to the old numbers and waits until they are available, whatever happened inside; it raises
    `NotReady` if they do not come back. Yields the moments, which it completes as they pass.
    """
    replicas = _running_replicas(cluster)
    entry = journal.record(
        fault=STOP_ISTIOD, cluster=cluster.name, cluster_uid=cluster_uid(cluster.kube), undo={"replicas": replicas}
    )
    stopped = Stopped(cluster=cluster, replicas=replicas, told=Mark.now())
    try:
        _scale(cluster.kube, dict.fromkeys(replicas, 0))
        _wait_gone(cluster.kube)
        stopped.gone = Mark.now()
        yield stopped
    finally:
        stopped.heal = Mark.now()
        start_istiod(cluster.kube, replicas)
        stopped.back = Mark.now()
        journal.healed(entry)


def scale_istiod_down(cluster: Cluster, before: Callable[[Mapping[str, int]], object]) -> None:
    """Scale every istiod Deployment to zero and wait until no pod is left; `before` is told the numbers first."""
    replicas = _running_replicas(cluster)
    before(replicas)
    _scale(cluster.kube, dict.fromkeys(replicas, 0))
    _wait_gone(cluster.kube)


def _running_replicas(cluster: Cluster) -> dict[str, int]:
    replicas = _replicas(cluster.kube)
    if not any(replicas.values()):
        raise Broken(f"istiod of {cluster}", "it is not running already", "start it: a fault needs a healthy mesh")
    return replicas


def start_istiod(kube: Kube, replicas: Mapping[str, int]) -> None:
    """Scale istiod's Deployments to these numbers and wait until they are available; missing ones are left out."""
    there = _replicas(kube)
    wanted = {name: count for name, count in replicas.items() if name in there}
    _scale(kube, wanted)
    for name, count in wanted.items():
        kube.wait_for(
            "Deployment",
            name,
            names.SYSTEM_NAMESPACE,
            _available(count),
            what=f"{count} available replicas of {names.SYSTEM_NAMESPACE}/{name}",
            timeout_s=DEADLINES.istiod_back,
            repair=f"kubectl -n {names.SYSTEM_NAMESPACE} describe deployment {name}",
        )


def cluster_uid(kube: Kube) -> str:
    """What tells a cluster from others: the UID of kube-system (as OpenTelemetry's `k8s.cluster.uid`)."""
    namespace = kube.find("Namespace", "kube-system")
    if namespace is None:
        raise Broken(f"namespace kube-system on {kube.name}", "is not there", "is this a Kubernetes cluster?")
    return str(namespace["metadata"]["uid"])


def _replicas(kube: Kube) -> dict[str, int]:
    found = kube.list("Deployment", names.SYSTEM_NAMESPACE, labels=LABELS)
    return {item["metadata"]["name"]: int(item["spec"].get("replicas", 1)) for item in found}


def _scale(kube: Kube, replicas: Mapping[str, int]) -> None:
    for name, count in replicas.items():
        kube.merge_patch("Deployment", name, {"spec": {"replicas": count}}, names.SYSTEM_NAMESPACE, sub="scale")


def _wait_gone(kube: Kube) -> None:
    def check() -> None:
        left = [pod["metadata"]["name"] for pod in kube.list("Pod", names.SYSTEM_NAMESPACE, labels=LABELS)]
        if left:
            raise NotYet(f"still there: {', '.join(left)}")

    eventually(check, what=f"istiod of {kube.name} is gone", timeout_s=DEADLINES.pods_gone, poll_s=0.25)


def _available(count: int) -> Callable[[Json | None], bool | None]:
    def check(deployment: Json | None) -> bool | None:
        if deployment is None:
            return None
        status = deployment.get("status") or {}
        current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
        return True if current and status.get("availableReplicas", 0) >= count else None

    return check
