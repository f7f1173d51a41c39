"""Attaching to a mesh that is there: which one it says it is, what is seen, and that nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.errors import BadInput
from meshproof.install.attach import add_probes, attach
from meshproof.install.injection import PodOutcome
from meshproof.install.marker import is_marked, marked_topology, running_topology, write_markers
from meshproof.install.plan import plan_for
from meshproof.install.runner import run_plan
from meshproof.mesh import Mesh
from meshproof.progress import Silent
from meshproof.topology import load_topology
from tests.install_fakes import FakeBuild, fake_mesh, fake_of, three_clusters


def installed(mesh: Mesh) -> Mesh:
    run_plan(plan_for(mesh, FakeBuild(mesh)), Silent())
    write_markers(mesh)
    return mesh


def test_an_existing_mesh_is_read_and_not_written(tmp_path: Path) -> None:
    mesh = installed(fake_mesh(three_clusters(tmp_path)))
    before = [len(fake_of(cluster).writes) for cluster in mesh.clusters]
    (evidence,) = attach(mesh).remotes
    assert evidence.secret_was_there
    assert evidence.after.pod is PodOutcome.INJECTED
    assert add_probes(mesh, Silent()) == {}
    written = [fake_of(c).writes[n:] for c, n in zip(mesh.clusters, before, strict=True)]
    assert all(write.startswith("POST") for part in written for write in part), "a dry run of a pod is all"


def test_the_marker_tells_the_topology(tmp_path: Path) -> None:
    topology = three_clusters(tmp_path)
    mesh = installed(fake_mesh(topology))
    kubes = [cluster.kube for cluster in mesh.clusters]
    assert is_marked(mesh)
    assert marked_topology(kubes) == str(topology.source)
    assert running_topology(kubes) == topology


def test_another_mesh_than_the_one_that_was_named_is_refused() -> None:
    mesh = installed(fake_mesh(load_topology("multi-primary-samenet")))
    other = Mesh(topology=load_topology("multi-primary-multinet"), clusters=mesh.clusters, toolbox=mesh.toolbox)
    assert not is_marked(other)
    with pytest.raises(BadInput, match=r"the running mesh is multi-primary-samenet\n  repair: use --topology=multi"):
        attach(other)


def test_clusters_without_a_mesh_are_refused() -> None:
    mesh = fake_mesh(load_topology("multi-primary-samenet"))
    with pytest.raises(BadInput, match="so there is no mesh to verify"):
        attach(mesh)
    with pytest.raises(BadInput, match="no marker says which topology it has"):
        running_topology(cluster.kube for cluster in mesh.clusters)
