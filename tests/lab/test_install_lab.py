"""A mesh made and taken away on real clusters: what was seen on the way, and that nothing at all is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import _KINDS, ApiError, Kube, path_of
from meshproof.core.progress import Narrator
from meshproof.core.topology import load_topology
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.install.removal import leftovers
from meshproof.mesh.handles import Mesh
from meshproof.probes.admission import DryRun
from meshproof.providers.lab.api import Lab

pytestmark = pytest.mark.lab

TOPOLOGY = """\
title: Primary-remote on different networks
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - {name: east, role: primary, network: network1, app_version: v1}
  - {name: west, role: remote, control_plane: east, network: network2, app_version: v2}
"""

COME_AND_GO = {"Event", "Endpoints", "EndpointSlice", "Pod"}


@pytest.fixture
def mesh(lab: Lab, tmp_path: Path) -> Mesh:
    path = tmp_path / "east-west.yaml"
    path.write_text(TOPOLOGY)
    topology = load_topology(str(path))
    lab.connect(topology)
    return Mesh.of(topology, lab.clusters, lab.toolbox)


def everything(kube: Kube) -> set[tuple[str, str, str, str]]:
    """Kind, namespace, name, labels of all that the API server holds, as far as it does not come and go by itself."""
    found = set()
    for kind in _KINDS.keys() - COME_AND_GO:
        try:
            items = kube.get(path_of(kind))["items"]
        except ApiError as problem:
            if problem.status != 404:
                raise
            continue  # Istio's kinds, while its CRDs are not there
        for meta in (item["metadata"] for item in items):
            found.add((kind, meta.get("namespace", ""), meta["name"], str(sorted((meta.get("labels") or {}).items()))))
    return found


def test_a_mesh_comes_and_goes_without_a_trace(mesh: Mesh, narrator: Narrator) -> None:
    at_first = [everything(cluster.kube) for cluster in mesh.clusters]
    try:
        installed = install_mesh(mesh, narrator)
        (evidence,) = installed.remotes
        assert (evidence.before.ca_bundles, evidence.before.pod) == ((), DryRun.REFUSED)
        assert (len(evidence.after.ca_bundles), evidence.after.pod) == (1, DryRun.ACCEPTED)
        assert leftovers(mesh)
    finally:
        uninstall_mesh(mesh, narrator)
    assert leftovers(mesh) == []
    assert [everything(cluster.kube) for cluster in mesh.clusters] == at_first
