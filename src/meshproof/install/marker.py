"""The marker of the installed topology: a ConfigMap in every cluster, removed with its namespace."""

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
    """Write the topology's name into every cluster."""
    together(lambda cluster: cluster.kube.apply(marker(mesh.topology)), mesh.clusters)


def remove_markers(mesh: Mesh) -> None:
    """Remove the markers: from now on the mesh differs from what was installed."""
    together(lambda cluster: cluster.kube.delete("ConfigMap", MARKER, names.OUTSIDE_NAMESPACE), mesh.clusters)


def is_marked(mesh: Mesh) -> bool:
    """Whether every cluster is marked with exactly this topology."""
    digest = marker(mesh.topology)["data"]["digest"]
    found = [_data(cluster.kube) for cluster in mesh.clusters]
    return all(data.get("digest") == digest for data in found)


def marked_topology(kubes: Iterable[Kube]) -> str | None:
    """The content of the first marker found: a built-in topology's name, or the path of a file."""
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
            "it has no marker with its topology",
            "name it with --topology, or install a mesh: meshproof lab up --topology=NAME",
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
