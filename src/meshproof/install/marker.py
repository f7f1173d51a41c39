"""Which topology was installed: a ConfigMap in every cluster that says so, and goes with its namespace."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput
from meshproof.core.model import Topology
from meshproof.core.topology import load_topology
from meshproof.mesh.handles import Mesh

MARKER: Final = "meshproof-topology"


def write_markers(mesh: Mesh) -> None:
    """Say in every cluster which topology it has."""
    together(lambda cluster: cluster.kube.apply(marker(mesh.topology)), mesh.clusters)


def remove_markers(mesh: Mesh) -> None:
    """Take that back: whatever is there from now on is not what was installed."""
    together(lambda cluster: cluster.kube.delete("ConfigMap", MARKER, names.OUTSIDE_NAMESPACE), mesh.clusters)


def is_marked(mesh: Mesh) -> bool:
    """Whether every cluster says that it has this very topology."""
    digest = marker(mesh.topology)["data"]["digest"]
    found = [_data(cluster.kube) for cluster in mesh.clusters]
    return all(data.get("digest") == digest for data in found)


def marked_topology(kubes: Iterable[Kube]) -> str | None:
    """What the first cluster that has a marker says it is: a name, or the file of a topology of one's own."""
    for kube in kubes:
        data = _data(kube)
        if data:
            return _loadable(data)
    return None


def running_topology(kubes: Iterable[Kube]) -> Topology:
    """The topology that is installed, by its marker. Raises `BadInput` if there is none."""
    name = marked_topology(kubes)
    if name is None:
        raise BadInput(
            "the running mesh",
            "no marker says which topology it has",
            "name it with --topology, or install one: meshproof lab up --topology=NAME",
        )
    return load_topology(name)


def _loadable(data: dict[str, str]) -> str:
    source = Path(data.get("source", ""))
    try:
        load_topology(data["topology"])
    except BadInput:
        return str(source)
    return data["topology"]


def _data(kube: Kube) -> dict[str, str]:
    found = kube.find("ConfigMap", MARKER, names.OUTSIDE_NAMESPACE)
    return dict((found or {}).get("data") or {})


def marker(topology: Topology) -> Json:
    clusters = tuple(replace(cluster, context=None) for cluster in topology.clusters)
    facts = repr((topology.mesh_id, topology.trust_domain, clusters))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    data = {"topology": topology.name, "digest": digest, "source": str(topology.source)}
    return core("ConfigMap", metadata(MARKER, names.OUTSIDE_NAMESPACE), data=data)
