"""Whether a Deployment is rolled out, why it is not, and waiting for it: the only definition of "ready".

Waits end early at states that Kubernetes does not recover from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from meshproof.clients.kubernetes.client import Json, Kube, label_selector
from meshproof.clients.kubernetes.refusals import is_refused_for_good, is_unavailable_for_good
from meshproof.core.errors import Aborted, Broken, NotReady
from meshproof.core.waiting import NotYet, eventually

T = TypeVar("T")

SLICE_S: Final = 2.0
"""Duration of one watch; between watches the pods, and whether the plan was aborted, are checked."""
PATIENCE_S: Final = 10.0
"""How long a bad state that may still recover (a slow webhook, a registry error) is tolerated."""
SCHEDULING_S: Final = 30.0
"""The same for an unschedulable pod: nodes that have just started take some seconds, an autoscaler gets
more time (`SCALE_UP`)."""
SCALE_UP: Final = "TriggeredScaleUp"
"""Reason of the cluster autoscaler's event that it is adding a node for a pod."""

HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
PULLING: Final = frozenset({"ImagePullBackOff", "ErrImagePull"})
STUCK: Final = frozenset(
    {
        *PULLING,
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons of waiting containers (kubelet, `pkg/kubelet/container/sync_result.go` and `images/types.go`)."""


# -- the definition ---------------------------------------------------------------------------------------------------


def rollout_problem(deployment: Json | None, pods: Iterable[Json] | None = None) -> str:
    """Why a Deployment is not rolled out; empty if it is.

    As `kubectl rollout status` decides: its controller has observed its latest change (before that its status is
    outdated), and every replica is updated, ready and available. A status may not reflect pods that were just
    deleted: with `pods` exactly these must exist, all ready and none terminating.
    """
    if deployment is None:
        return "it does not exist"
    status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 1):
        return "its controller has not observed its latest change"
    if pods is not None:
        there = list(pods)
        ready = sum(is_ready(pod) for pod in there if "deletionTimestamp" not in pod["metadata"])
        if ready != wanted or len(there) != wanted:
            return f"{ready} of {wanted} pods ready, {len(there)} exist"
    counts = {kind: status.get(f"{kind}Replicas", 0) for kind in ("updated", "ready", "available")}
    if {*counts.values(), status.get("replicas", 0)} != {wanted}:
        return f"{wanted} replicas: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    return ""


def is_ready(pod: Json) -> bool:
    """Whether the condition `Ready` of a pod holds."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def status_of(kube: Kube, namespace: str, name: str) -> Json:
    """The status of a Deployment; empty if it does not exist."""
    found = (kube.find("Deployment", name, namespace) or {}).get("status") or {}
    assert isinstance(found, dict)
    return found


def refusal_of(status: Json) -> str:
    """The ReplicaSet controller's message about pods that it could not create; empty if it could."""
    conditions = status.get("conditions") or []
    failures = (c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") != "False")
    return next((str(c.get("message", "")) for c in failures), "")


def pods_of(kube: Kube, deployment: Json) -> list[Json]:
    """The pods that a Deployment selects, including terminating ones."""
    labels = label_selector(deployment["spec"]["selector"]["matchLabels"])
    return kube.list("Pod", deployment["metadata"]["namespace"], labels=labels)


def names_of_pods(kube: Kube, namespace: str, app: str) -> tuple[str, ...]:
    """The names of the pods with this label `app`."""
    return tuple(pod["metadata"]["name"] for pod in kube.list("Pod", namespace, labels=f"app={app}"))


# -- waiting ----------------------------------------------------------------------------------------------------------


def until(
    kube: Kube,
    kind: str,
    name: str,
    namespace: str | None,
    check: Callable[[Json | None], T | None],
    *,
    what: str,
    timeout_s: float,
    aborted: threading.Event | None = None,
    look: Callable[[], None] | None = None,
    repair: str = "",
) -> T:
    """Watch one object until `check(object or None)` returns something, and return that.

    `look` is called every two seconds; it and `check` may raise to end the wait. Raises `NotReady` after `timeout_s`
    seconds, and `Aborted` when another step of a plan has failed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if aborted is not None and aborted.is_set():
            raise Aborted(f"{what} on {kube.name}", "cancelled because another step had failed")
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


def deployment_ready(
    kube: Kube,
    namespace: str,
    name: str,
    *,
    timeout_s: float,
    aborted: threading.Event | None = None,
    patient: bool = False,
    repair: str = "",
) -> None:
    """Wait until a Deployment is rolled out.

    Raises `NotReady` with the state of its pods and the newest warnings: early when it cannot become ready, else after
    `timeout_s` seconds. With `patient` it keeps waiting in states that may still recover, as after a fault was undone.
    """
    stuck = _Stuck(kube, namespace, name, patient=patient)
    try:
        until(
            kube,
            "Deployment",
            name,
            namespace,
            lambda deployment: None if rollout_problem(deployment) else True,
            what=f"Deployment {namespace}/{name}",
            timeout_s=timeout_s,
            aborted=aborted,
            look=stuck.look,
            repair=repair,
        )
    except NotReady as problem:
        raise NotReady(problem.what, f"{problem.reason}{stuck.report(problem.reason)}", problem.repair) from None


def pods_ready(
    kube: Kube, deployments: Iterable[tuple[str, str]], *, what: str, timeout_s: float, old: Collection[str] = ()
) -> None:
    """Wait until Deployments (namespace and name) whose pods were deleted or lost are rolled out, with just these pods.

    Pods with the UIDs `old` may still be terminating. Raises `NotReady` with the state of the others.
    """
    wanted = tuple(deployments)

    def lacks(namespace: str, name: str) -> str:
        deployment = kube.find("Deployment", name, namespace)
        if deployment is None:
            raise Broken(f"Deployment {namespace}/{name} on {kube.name}", "does not exist", "install the mesh again")
        pods = [pod for pod in pods_of(kube, deployment) if pod["metadata"].get("uid") not in old]
        why = rollout_problem(deployment, pods)
        return f"{namespace}/{name}: {why}{shortage(deployment, pods)}" if why else ""

    def check() -> None:
        if waiting := [why for each in wanted if (why := lacks(*each))]:
            raise NotYet("; ".join(waiting))

    eventually(check, what=what, timeout_s=timeout_s, poll_s=0.2)


def external_address(kube: Kube, namespace: str, service: str, *, timeout_s: float, aborted: threading.Event) -> str:
    """Wait for the external address (or host name) of a LoadBalancer Service, and return the first."""
    return until(
        kube,
        "Service",
        service,
        namespace,
        load_balancer_address,
        what=f"external address of Service {namespace}/{service}",
        timeout_s=timeout_s,
        aborted=aborted,
        repair="check that the cluster has a load balancer implementation (a cloud's, or MetalLB)",
    )


def load_balancer_address(service: Json | None) -> str | None:
    """The first external address of a Service, if it has one."""
    entries = ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    return next((entry.get("ip") or entry.get("hostname") for entry in entries), None)


# -- why it does not become ready
# -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BadState:
    """A problem of a pod or its creation, and how long it is tolerated; with 0 s waiting cannot help.

    `hopeless`: not even a fault that is being undone can be its cause.
    """

    text: str
    patience_s: float
    hopeless: bool = False


def bad_states(deployment: Json | None, pods: Iterable[Json]) -> list[BadState]:
    """What keeps a Deployment from becoming ready, from its status and its pods."""
    refusal = refusal_of((deployment or {}).get("status") or {})
    patience_s = 0.0 if is_refused_for_good(refusal) else PATIENCE_S
    found = [BadState(text=f"pods are not created: {refusal}", patience_s=patience_s)] if refusal else []
    for pod in pods:
        name = pod["metadata"]["name"]
        for condition in (pod.get("status") or {}).get("conditions") or []:
            if condition.get("reason") == "Unschedulable":
                text = f"{name} is not scheduled: {condition.get('message', '')}"
                found.append(BadState(text=text, patience_s=SCHEDULING_S))
        for container in container_states(pod):
            waiting = container.get("state", {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if reason in STUCK | HOPELESS:
                text = f"{name}/{container['name']}: {reason}: {waiting.get('message', '')}".rstrip(": ")
                if ended := (container.get("lastState") or {}).get("terminated"):
                    text += f" (before: {ended.get('reason', '?')}, exit code {ended.get('exitCode', '?')})"
                final = reason in HOPELESS or (reason in PULLING and is_unavailable_for_good(text))
                patience_s = 0.0 if final else PATIENCE_S
                found.append(BadState(text=text, patience_s=patience_s, hopeless=reason in HOPELESS))
    return found


def shortage(deployment: Json, pods: Iterable[Json]) -> str:
    """Suffix for a text: why a Deployment has too few ready pods (rejected, not scheduled, not started)."""
    return "".join(f"; {each.text}" for each in bad_states(deployment, pods))


def container_states(pod: Json) -> list[Json]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


class _Stuck:
    """Watches a Deployment's pods and raises for bad states that last too long."""

    def __init__(self, kube: Kube, namespace: str, name: str, *, patient: bool) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._patient = patient
        self._since: dict[float, float] = {}
        """Since when there has been a bad state, by its tolerance in seconds."""

    def look(self) -> None:
        problems = bad_states(self._deployment(), self._pods())
        now = time.monotonic()
        self._since = {each.patience_s: self._since.get(each.patience_s, now) for each in problems}
        over = {patience_s for patience_s, since in self._since.items() if now - since >= patience_s}
        if self._patient and not any(each.hopeless for each in problems):
            return
        if over == {SCHEDULING_S} and self._grows():
            return
        if over:
            where = f"Deployment {self._namespace}/{self._name} on {self._kube.name}"
            raise NotReady(where, "; ".join(problem.text for problem in problems)[:1500])

    def _grows(self) -> bool:
        """Whether the cluster autoscaler is adding a node for one of the pods."""
        mine = {pod["metadata"]["name"] for pod in self._pods()}
        events = self._kube.list("Event", self._namespace)
        return any(e.get("reason") == SCALE_UP and e["involvedObject"].get("name") in mine for e in events)

    def report(self, reason: str) -> str:
        """What `reason` lacks: bad states, the state of the pods, and the latest warnings."""
        found = self._pods()
        bad = "".join(
            f"; {each.text}" for each in bad_states(self._deployment(), found) if each.text[:99] not in reason
        )
        pods = [f"  pod      {pod_line(pod)}" for pod in found] or ["  pod      none was created"]
        events = self._kube.list("Event", self._namespace)
        warnings = sorted((e for e in events if e.get("type") == "Warning"), key=_event_time)[-5:]
        lines = [
            f"  warning  {e['involvedObject'].get('name', '?')}: {e.get('reason')}: {e.get('message', '')}"[:400]
            for e in warnings
        ]
        return "\n".join([bad, *pods, *lines])

    def _deployment(self) -> Json | None:
        return self._kube.find("Deployment", self._name, self._namespace)

    def _pods(self) -> list[Json]:
        deployment = self._deployment()
        return [] if deployment is None else pods_of(self._kube, deployment)


def pod_line(pod: Json) -> str:
    """One pod in one line: its phase, and per container why it does not run or is not ready."""
    states = []
    for container in container_states(pod):
        state = container.get("state", {})
        kind = next(iter(state), "unknown")
        detail = (state.get(kind) or {}).get("reason") or ("ready" if container.get("ready") else "not ready")
        states.append(f"{container['name']} {kind} ({detail})")
    phase = pod.get("status", {}).get("phase", "?")
    return f"{pod['metadata']['name']} {phase}: {', '.join(states) or 'no container yet'}"


def _event_time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
