"""Completing our namespaces for a run: what the mesh's settings call for now, whenever the namespaces were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from meshproof.clients.kubernetes.client import Json, label_selector
from meshproof.clients.kubernetes.manifests import INJECTED_NAMESPACES, managed_by_meshproof
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput
from meshproof.core.progress import Narrator
from meshproof.mesh.configuration import removed
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.workloads.discovery_selectors import labels_for
from meshproof.workloads.namespaces import OWN, MeshWideSettings, bring, is_like, objects_of

PROBE_NAMESPACES: Final = (*INJECTED_NAMESPACES, names.OUTSIDE_NAMESPACE)
OURS: Final = label_selector(names.MANAGED_BY)
OWN_KINDS: Final = ("Sidecar", "AuthorizationPolicy")
LABELS_OF_A_RUN: Final = "meshproof/labels-of-a-run"
"""Annotation of a namespace of ours: the labels that a run has added, to be removed with it."""
MADE_FOR_A_RUN: Final = "meshproof/made-for-a-run"
"""Annotation of what a run has made, to be removed with it or with the next."""
Place = tuple[Cluster, str]
"""A namespace of ours in one cluster."""


@contextmanager
def completed_namespaces(mesh: Mesh, settings: MeshWideSettings, narrator: Narrator) -> Iterator[bool]:
    """Our namespaces with labels and objects that these settings call for; yields whether any object was added.

    Afterwards everything that was added is removed, and so is what a killed run has added. What a namespace got when it
    was made stays, as long as it is needed. Namespaces of others, whatever their name, are not touched.
    """
    namespaces = _ours(mesh)
    ours = list(namespaces)
    before = _objects(mesh)
    needed = [(p, item) for p, namespace in ours if p.is_primary for item in settings.objects(p, namespace)]
    answered = together(lambda pair: _is_answered(*pair), needed)
    wanted = {_key(*pair): pair for pair, done in zip(needed, answered, strict=True) if not done}
    stale = [pair for key, pair in before.items() if key not in wanted]
    new = [(p, _of_a_run(item)) for key, (p, item) in wanted.items() if key not in before]
    of_runs = [*new, *(pair for pair in before.values() if MADE_FOR_A_RUN in _annotations(pair[1]))]
    labelled = _labels(namespaces, settings)
    left = [place for place, found in namespaces.items() if LABELS_OF_A_RUN in _annotations(found)]
    try:
        together(lambda pair: removed(*pair), stale)
        together(lambda item: _label(*item), labelled)
        if new:
            kinds = sorted({item["kind"] for _, item in new})
            with narrator.step(f"own {' and '.join(kinds)} in our namespaces"):
                together(lambda pair: bring(*pair), new)
        yield bool(new or labelled)
    finally:
        together(lambda pair: removed(*pair), of_runs)
        together(lambda place: _unlabel(*place), {*left, *((cluster, name) for cluster, name, _ in labelled)})


def _ours(mesh: Mesh) -> dict[Place, Json]:
    places = [(cluster, name) for cluster in mesh.clusters for name in PROBE_NAMESPACES]
    found = together(lambda place: place[0].kube.find("Namespace", place[1]), places)
    there = zip(places, found, strict=True)
    return {place: namespace for place, namespace in there if namespace and _is_ours(namespace)}


def _is_ours(namespace: Json) -> bool:
    return "deletionTimestamp" not in namespace["metadata"] and managed_by_meshproof(namespace)


def _key(cluster: Cluster, item: Json) -> tuple[str, str, str]:
    return cluster.name, item["kind"], item["metadata"]["namespace"]


def _of_a_run(item: Json) -> Json:
    return item | {"metadata": item["metadata"] | {"annotations": {MADE_FOR_A_RUN: "true"}}}


def _objects(mesh: Mesh) -> dict[tuple[str, str, str], tuple[Cluster, Json]]:
    """Our own objects in the probe namespaces."""

    pairs = [(cluster, kind) for cluster in mesh.primaries for kind in OWN_KINDS]
    return {
        (cluster.name, kind, item["metadata"]["namespace"]): (cluster, item | {"kind": kind})
        for (cluster, kind), items in zip(pairs, together(lambda p: objects_of(*p, labels=OURS), pairs), strict=True)
        for item in items
        if item["metadata"]["name"] == OWN and item["metadata"]["namespace"] in PROBE_NAMESPACES
    }


def _is_answered(primary: Cluster, item: Json) -> bool:
    """Whether somebody has put an object of that kind into our namespace: then theirs is the one that counts."""
    return any(is_like(found, item) for found in objects_of(primary, item["kind"], item["metadata"]["namespace"]))


def _annotations(found: Json) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def _labels(ours: Mapping[Place, Json], settings: MeshWideSettings) -> list[tuple[Cluster, str, dict[str, str]]]:
    """The labels that existing namespaces lack. Where no label helps, claims show what that means."""
    found = []
    for (cluster, name), namespace in ours.items():
        labels = namespace["metadata"].get("labels") or {}
        with suppress(BadInput):
            if lacking := labels_for(name, labels, settings.selectors):
                found.append((cluster, name, lacking))
    return found


def _label(cluster: Cluster, namespace: str, labels: dict[str, str]) -> None:
    annotations = {LABELS_OF_A_RUN: ",".join(labels)}
    cluster.kube.merge_patch("Namespace", namespace, {"metadata": {"labels": labels, "annotations": annotations}})


def _unlabel(cluster: Cluster, namespace: str) -> None:
    """Remove the labels that a run has added, where the namespace still exists."""
    found = cluster.kube.find("Namespace", namespace)
    added = _annotations(found).get(LABELS_OF_A_RUN, "") if found else ""
    if not added:
        return
    gone = {"labels": dict.fromkeys(added.split(",")), "annotations": {LABELS_OF_A_RUN: None}}
    cluster.kube.merge_patch("Namespace", namespace, {"metadata": gone})
