"""What a Deployment says of itself: whether its status is of today, which pods it has, and why it gets none."""

from __future__ import annotations

from meshproof.clients.kubernetes.client import Json, Kube


def status_of(kube: Kube, namespace: str, name: str) -> Json:
    """Its status; empty where it is not there."""
    found = (kube.find("Deployment", name, namespace) or {}).get("status") or {}
    assert isinstance(found, dict)
    return found


def is_current(deployment: Json) -> bool:
    """Whether its controller has seen its newest change: before that its status tells of the one before."""
    seen = (deployment.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 1))


def refusal_of(status: Json) -> str:
    """What the ReplicaSet controller says about pods that it could not create; empty if it could."""
    conditions = status.get("conditions") or []
    return next((str(c.get("message", "")) for c in conditions if c.get("type") == "ReplicaFailure"), "")


def pods_of(kube: Kube, namespace: str, app: str) -> tuple[str, ...]:
    """The names of the pods with this label `app`."""
    return tuple(pod["metadata"]["name"] for pod in kube.list("Pod", namespace, labels=f"app={app}"))
