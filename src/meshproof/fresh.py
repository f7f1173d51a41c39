"""A new pod in a new namespace: what injection does to it now, not what it did once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from meshproof import names
from meshproof.clients.kube import ApiError, Json
from meshproof.deadlines import DEADLINES
from meshproof.errors import Broken, ClaimFailed, NotReady
from meshproof.facts import PodFacts, pod_facts
from meshproof.mesh import Cluster
from meshproof.snapshot import ROOT_MAP

PREFIX: Final = "meshproof-fresh-"
INJECTION_LABELS: Final = ("istio-injection", "istio.io/rev")


@contextmanager
def fresh_pod(
    cluster: Cluster, image: str, *, annotations: Mapping[str, str] = MappingProxyType({})
) -> Iterator[PodFacts]:
    """A ready pod in a namespace of its own, labelled for injection as the client's namespace is; removed afterwards.

    Raises `ClaimFailed` if the pod is refused, or does not get ready in time.
    """
    with fresh_namespace(cluster) as namespace:
        yield ready_pod(cluster, namespace, _manifest(namespace, image, annotations))


@contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a new namespace that is labelled for injection; removed afterwards with all that is in it."""
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    cluster.kube.create(namespace_for_probes(cluster, namespace))
    try:
        yield namespace
    finally:
        cluster.kube.delete("Namespace", namespace)


def namespace_for_probes(cluster: Cluster, name: str) -> Json:
    """A Namespace labelled for injection as the client's is. Raises `Broken` if that one is not."""
    model = cluster.kube.find("Namespace", names.CLIENT_NAMESPACE)
    labels = (model or {}).get("metadata", {}).get("labels") or {}
    chosen = {key: value for key, value in labels.items() if key in INJECTION_LABELS}
    if not chosen:
        raise Broken(
            f"namespace {names.CLIENT_NAMESPACE} on {cluster}",
            "it is not labelled for injection",
            "install the mesh again",
        )
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": chosen}}


def ready_pod(cluster: Cluster, namespace: str, manifest: Json) -> PodFacts:
    """Make a pod in a new namespace as soon as that is fit for it, and wait until it is ready.

    Raises `ClaimFailed` if istiod does not serve the namespace, refuses the pod, or it does not get ready in time.
    """
    kube = cluster.kube

    def present(thing: Json | None) -> bool | None:
        return True if thing is not None else None

    kube.wait_for(
        "ServiceAccount", "default", namespace, present, what=f"ServiceAccount {namespace}/default", timeout_s=20
    )
    try:
        kube.wait_for("ConfigMap", ROOT_MAP, namespace, present, what=ROOT_MAP, timeout_s=DEADLINES.root_config_map)
    except NotReady:
        raise ClaimFailed(
            f"{cluster}: istiod wrote no {ROOT_MAP} into a new namespace within {DEADLINES.root_config_map:g} s\n"
            "  repair      in a remote cluster: annotate istio-system with topology.istio.io/controlPlaneClusters"
        ) from None
    try:
        kube.create(manifest)
    except ApiError as problem:
        raise ClaimFailed(f"{cluster}: a new pod is refused\n  last seen   {problem.reason}") from None
    return _ready(cluster, namespace, manifest["metadata"]["name"])


def _ready(cluster: Cluster, namespace: str, name: str) -> PodFacts:
    last = "no status yet"

    def check(pod: Json | None) -> PodFacts | None:
        nonlocal last
        if pod is None:
            return None
        facts = pod_facts(pod)
        last = _state(pod)
        return facts if facts.ready else None

    try:
        return cluster.kube.wait_for(
            "Pod", name, namespace, check, what="a fresh pod is ready", timeout_s=DEADLINES.fresh_pod
        )
    except NotReady:
        text = f"{cluster}: a new pod was not ready within {DEADLINES.fresh_pod:g} s\n  last seen   {last}"
        raise ClaimFailed(text) from None


def _state(pod: Json) -> str:
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting = []
    for container in containers:
        for kind, how in (container.get("state") or {}).items():
            if not container.get("ready"):
                waiting.append(f"{container['name']}: {kind} {(how or {}).get('reason', '')}".rstrip())
    return f"{status.get('phase', 'no phase')}; {'; '.join(waiting) or 'no container status'}"


def _manifest(namespace: str, image: str, annotations: Mapping[str, str]) -> Json:
    meta = {"name": names.CLIENT_POD, "namespace": namespace, "labels": {"app": names.CLIENT_POD}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta | {"annotations": dict(annotations)},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": names.CLIENT_POD,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "2147483647"],
                }
            ],
        },
    }
