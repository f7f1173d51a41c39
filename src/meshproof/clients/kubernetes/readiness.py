"""Waiting for objects of a cluster: by watch, ending early at hopeless states and when the plan is aborted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from meshproof.clients.kubernetes.client import Json, Kube, label_selector
from meshproof.clients.kubernetes.deployments import is_current
from meshproof.core.errors import Aborted, NotReady

T = TypeVar("T")

SLICE_S: Final = 2.0
"""How long one watch lasts; between two of them the pods are looked at, and whether the plan was aborted."""
PATIENCE_S: Final = 10.0
"""How long a bad state that may still get better (a webhook that answers late, a registry's hiccup) is put up with."""

HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
STUCK: Final = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons of waiting containers (kubelet, `pkg/kubelet/container/sync_result.go` and `images/types.go`)."""


def until(
    kube: Kube,
    kind: str,
    name: str,
    namespace: str | None,
    check: Callable[[Json | None], T | None],
    *,
    what: str,
    timeout_s: float,
    aborted: threading.Event,
    look: Callable[[], None] | None = None,
    repair: str = "",
) -> T:
    """Watch one object until `check(object or None)` returns something, and return that.

    `look` is called every two seconds; it may raise to end the wait. Raises `NotReady` after `timeout_s` seconds and
    `Aborted` when another step has failed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if aborted.is_set():
            raise Aborted(f"{what} on {kube.name}", "given up, since another step had failed")
        seen = kube.find(kind, name, namespace)
        found = check(seen)
        if found is not None:
            return found
        if look is not None:
            look()
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotReady(f"{what} on {kube.name}", f"not within {timeout_s:g} s", repair)
        for changed in kube.changes_of(kind, name, namespace, seen, timeout_s=min(left, SLICE_S)):
            found = check(changed)
            if found is not None:
                return found


def deployment_ready(kube: Kube, namespace: str, name: str, *, timeout_s: float, aborted: threading.Event) -> None:
    """Wait until all replicas of a Deployment's newest version are ready.

    Raises `NotReady` with the state of its pods and the newest warnings: at once when it cannot get ready, else after
    `timeout_s` seconds.
    """
    what = f"Deployment {namespace}/{name}"
    stuck = _Stuck(kube, namespace, name)
    try:
        until(
            kube,
            "Deployment",
            name,
            namespace,
            rolled_out,
            what=what,
            timeout_s=timeout_s,
            aborted=aborted,
            look=stuck.look,
        )
    except NotReady as problem:
        raise NotReady(problem.what, f"{problem.reason}\n{stuck.report()}", problem.repair) from None


def external_address(kube: Kube, namespace: str, service: str, *, timeout_s: float, aborted: threading.Event) -> str:
    """Wait for the address (or host name) that a Service of type LoadBalancer gets, and return the first."""
    return until(
        kube,
        "Service",
        service,
        namespace,
        load_balancer_address,
        what=f"external address of Service {namespace}/{service}",
        timeout_s=timeout_s,
        aborted=aborted,
        repair="check that something assigns addresses to Services of type LoadBalancer (a cloud, MetalLB)",
    )


def load_balancer_address(service: Json | None) -> str | None:
    """The first external address of a Service, if it has one."""
    entries = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    return next((entry.get("ip") or entry.get("hostname") for entry in entries), None)


def rolled_out(deployment: Json | None) -> bool | None:
    """As `kubectl rollout status` decides: the newest generation seen, and every replica of it available."""
    if deployment is None:
        return None
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = [status.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas", "replicas")]
    return True if is_current(deployment) and counts == [wanted] * len(counts) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadState:
    """Something wrong with a pod or its making; `hopeless` if waiting cannot help."""

    text: str
    hopeless: bool = False


def bad_states(deployment: Json | None, pods: Iterable[Json]) -> list[BadState]:
    """What keeps a Deployment from getting ready, as far as its status and its pods say so."""
    found = [
        BadState(text=f"pods are not created: {condition.get('message', '')}")
        for condition in (deployment or {}).get("status", {}).get("conditions", [])
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    for pod in pods:
        for container in _container_states(pod):
            waiting = container.get("state", {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if reason in STUCK | HOPELESS:
                text = f"{pod['metadata']['name']}/{container['name']}: {reason}: {waiting.get('message', '')}"
                found.append(BadState(text=text.rstrip(": "), hopeless=reason in HOPELESS))
    return found


def _container_states(pod: Json) -> list[Json]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


class _Stuck:
    """Looks at a Deployment's pods and loses patience with bad states that last."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._since: float | None = None

    def look(self) -> None:
        problems = bad_states(self._deployment(), self._pods())
        if not problems:
            self._since = None
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if any(problem.hopeless for problem in problems) or now - self._since >= PATIENCE_S:
            where = f"Deployment {self._namespace}/{self._name} on {self._kube.name}"
            raise NotReady(where, "; ".join(problem.text for problem in problems)[:1500])

    def report(self) -> str:
        """The state of the pods and the newest warnings, for the text of a failure."""
        pods = [f"  pod      {pod_line(pod)}" for pod in self._pods()] or ["  pod      none was created"]
        events = self._kube.list("Event", self._namespace)
        warnings = sorted((e for e in events if e.get("type") == "Warning"), key=_event_time)[-5:]
        lines = [
            f"  warning  {e['involvedObject'].get('name', '?')}: {e.get('reason')}: {e.get('message', '')}"[:400]
            for e in warnings
        ]
        return "\n".join(pods + lines)

    def _deployment(self) -> Json | None:
        return self._kube.find("Deployment", self._name, self._namespace)

    def _pods(self) -> list[Json]:
        deployment = self._deployment()
        if deployment is None:
            return []
        labels = deployment["spec"]["selector"]["matchLabels"]
        return self._kube.list("Pod", self._namespace, labels=label_selector(labels))


def pod_line(pod: Json) -> str:
    """One pod in one line: its phase, and per container why it does not run or is not ready."""
    states = []
    for container in _container_states(pod):
        state = container.get("state", {})
        kind = next(iter(state), "unknown")
        detail = (state.get(kind) or {}).get("reason") or ("ready" if container.get("ready") else "not ready")
        states.append(f"{container['name']} {kind} ({detail})")
    phase = pod.get("status", {}).get("phase", "?")
    return f"{pod['metadata']['name']} {phase}: {', '.join(states) or 'no container yet'}"


def _event_time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
