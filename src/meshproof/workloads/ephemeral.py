"""New pods in new namespaces: they show what injection does now, not what it did earlier."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube
from meshproof.clients.kubernetes.rollout import bad_states, container_states, pod_line, until
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed, NotReady
from meshproof.core.names import PROXY, ROOT_MAP
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts, pod_facts
from meshproof.workloads.namespaces import make_namespaces
from meshproof.workloads.pod_settings import PodSettings

PREFIX: Final = "meshproof-fresh-"


@contextmanager
def fresh_namespace(mesh: Mesh, cluster: Cluster) -> Iterator[str]:
    """The name of a new namespace labelled for injection; deleted afterwards with its contents."""
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    try:
        make_namespaces(mesh, [cluster], namespace)
        yield namespace
    finally:
        cluster.kube.delete("Namespace", namespace)


def ready_pod(mesh: Mesh, cluster: Cluster, namespace: str, manifest: Json) -> PodFacts:
    """Create a pod in a new namespace once that has a root certificate, and wait until it is ready.

    Raises `ClaimFailed` if istiod writes no root certificate, the pod is refused, or it is not ready in time.
    """
    kube = cluster.kube

    until(
        kube, "ServiceAccount", "default", namespace, _present, what=f"ServiceAccount {namespace}/default", timeout_s=20
    )
    try:
        await_root_map(kube, namespace, timeout_s=DEADLINES.root_config_map_s)
    except NotReady:
        raise ClaimFailed(
            f"{cluster}: istiod wrote no {ROOT_MAP} into a new namespace within {DEADLINES.root_config_map_s:g} s\n"
            "  repair      in a remote cluster: annotate istio-system with topology.istio.io/controlPlaneClusters;\n"
            "              after an istiod was killed: its lease expires within half a minute "
            "(ConfigMap istio-namespace-controller-election)"
        ) from None
    try:
        kube.create(PodSettings.of(mesh, cluster).applied_to(manifest))
    except ApiError as problem:
        raise ClaimFailed(f"{cluster}: a new pod is refused\n  last seen   {problem.reason}") from None
    return _ready(cluster, namespace, manifest["metadata"]["name"])


def await_root_map(kube: Kube, namespace: str, *, timeout_s: float) -> None:
    """Wait until istiod has written the root certificate into a namespace; without it no proxy there starts."""
    until(kube, "ConfigMap", ROOT_MAP, namespace, _present, what=ROOT_MAP, timeout_s=timeout_s)


def _present(thing: Json | None) -> bool | None:
    return True if thing is not None else None


def _ready(cluster: Cluster, namespace: str, name: str) -> PodFacts:
    """Wait for the sidecar to run (images may have to be pulled), then, with a shorter timeout, for readiness."""
    last = "no status yet"
    stuck: list[str] = []

    def ready(pod: Json | None) -> PodFacts | None:
        nonlocal last, stuck
        if pod is None:
            return None
        last = pod_line(pod)
        if stuck := [each.text for each in bad_states(None, [pod]) if not each.patience_s]:
            raise NotReady(f"pod {namespace}/{name} on {cluster}", "; ".join(stuck))
        facts = pod_facts(pod)
        return facts if facts.ready else None

    def ready_or_runs(pod: Json | None) -> PodFacts | None:
        return ready(pod) or (pod_facts(pod) if pod is not None and _sidecar_runs(pod) else None)

    def wait(check: Callable[[Json | None], PodFacts | None], what: str, timeout_s: float) -> PodFacts:
        try:
            return until(cluster.kube, "Pod", name, namespace, check, what=what, timeout_s=timeout_s)
        except NotReady:
            if stuck:
                raise
            text = f"{cluster}: {what}: not within {timeout_s:g} s\n  last seen   {last}"
            raise ClaimFailed(text) from None

    wait(ready_or_runs, "the sidecar of a new pod runs, or the pod is ready", DEADLINES.fresh_pod_s)
    return wait(ready, "a new pod with a running sidecar is ready", DEADLINES.fresh_sidecar_s)


def _sidecar_runs(pod: Json) -> bool:
    return any(c["name"] == PROXY and "running" in (c.get("state") or {}) for c in container_states(pod))
