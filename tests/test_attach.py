"""Attaching to a mesh that is there: which one it says it is, what is seen, and that nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import PullSecret
from meshproof.core.names import OUTSIDE_NAMESPACE
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.install import attach as attaching
from meshproof.install import steps as build
from meshproof.install.attach import (
    add_probes,
    attach_to_mesh,
    recognise,
    refuse_foreign_namespaces,
    remove_probes,
)
from meshproof.install.executor import run_plan
from meshproof.install.marker import is_marked, marked_topology, running_topology, write_markers
from meshproof.install.own_namespaces import PROBE_NAMESPACES
from meshproof.install.plan import plan_for
from meshproof.mesh.handles import Mesh
from meshproof.probes.admission import DryRun
from tests.install_fakes import FakeBuild, FakeKube, fake_mesh, fake_of, istiod_takes_over, three_clusters


def installed(mesh: Mesh) -> Mesh:
    run_plan(plan_for(mesh, FakeBuild(mesh)), Silent())
    write_markers(mesh)
    return mesh


def test_an_existing_mesh_is_read_and_not_written(tmp_path: Path) -> None:
    mesh = installed(fake_mesh(three_clusters(tmp_path)))
    before = [len(fake_of(cluster).writes) for cluster in mesh.clusters]
    recognise(mesh)
    (evidence,) = attach_to_mesh(mesh).remotes
    assert evidence.secret_was_there
    assert evidence.after.pod is DryRun.ACCEPTED
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
        recognise(other)


def test_clusters_without_a_mesh_are_refused() -> None:
    mesh = fake_mesh(load_topology("multi-primary-samenet"))
    with pytest.raises(BadInput, match="so there is no mesh to verify"):
        recognise(mesh)
    with pytest.raises(BadInput, match="it has no marker with its topology"):
        running_topology(cluster.kube for cluster in mesh.clusters)


def without(mesh: Mesh, *namespaces: str) -> Mesh:
    for cluster in mesh.clusters:
        for name in namespaces:
            cluster.kube.delete("Namespace", name)
    return mesh


def test_missing_probe_namespaces_are_made_and_removed(tmp_path: Path) -> None:
    mesh = without(installed(fake_mesh(three_clusters(tmp_path))), *PROBE_NAMESPACES)
    before = [set(fake_of(cluster).objects) for cluster in mesh.clusters]
    for cluster in mesh.clusters:
        take_care_of_new_namespaces(fake_of(cluster))
    made = add_probes(mesh, Silent())
    assert set(made) == set(mesh.clusters)
    assert set(made.values()) == {PROBE_NAMESPACES}
    remove_probes(made, Silent())
    assert [set(fake_of(cluster).objects) for cluster in mesh.clusters] == before


def test_lasting_ones_are_left_alone_by_later_runs(tmp_path: Path) -> None:
    mesh = without(installed(fake_mesh(three_clusters(tmp_path))), *PROBE_NAMESPACES)
    for cluster in mesh.clusters:
        take_care_of_new_namespaces(fake_of(cluster))
    assert set(add_probes(mesh, Silent(), lasting=True).values()) == {PROBE_NAMESPACES}
    assert add_probes(mesh, Silent()) == {}


def take_care_of_new_namespaces(kube: FakeKube) -> None:
    """As istiod does all the time: its root is there as soon as the namespace is."""
    patch = kube._patch

    def and_take_over(path: str, _: dict[str, str], body: Any) -> Json:
        new = patch(path, _, body)
        if body["kind"] == "Namespace":
            istiod_takes_over(kube)
        return new

    kube._patch = and_take_over  # type: ignore[method-assign]


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    mesh = installed(fake_mesh(three_clusters(tmp_path)))
    (first, *others) = mesh.clusters
    left = {"meshproof/made-for-a-run": "true"}
    namespace = {"kind": "Namespace", "metadata": {"name": "meshproof-clients", "annotations": left}}
    fake_of(first).put(namespace)
    made = add_probes(mesh, Silent())
    assert made == {first: ("meshproof-clients",)} | dict.fromkeys(others, ())
    assert left == fake_of(first).objects["/api/v1/namespaces/meshproof-clients"]["metadata"]["annotations"]
    remove_probes(made, Silent())
    assert first.kube.find("Namespace", "meshproof-clients") is None
    assert all(cluster.kube.find("Namespace", "meshproof-clients") for cluster in others)


def test_what_was_made_goes_if_not_all_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = without(installed(fake_mesh(three_clusters(tmp_path))), OUTSIDE_NAMESPACE)
    fake_of(mesh.clusters[0]).deployments_get_ready = False
    monkeypatch.setattr(build, "READY_S", 0.1)
    with pytest.raises(Broken, match="meshproof-outside"):
        add_probes(mesh, Silent())
    assert all(cluster.kube.find("Namespace", OUTSIDE_NAMESPACE) is None for cluster in mesh.clusters)


def test_whoever_still_waits_for_pods_gives_up_before_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt the process ends only when all of its threads do."""
    mesh = without(installed(fake_mesh(three_clusters(tmp_path))), OUTSIDE_NAMESPACE)
    waiting: list[bool] = []

    def interrupted(started: build.Build, _: object) -> None:
        monkeypatch.setattr(attaching, "remove_probes", lambda *_: waiting.append(not started.aborted.is_set()))
        raise KeyboardInterrupt

    monkeypatch.setattr(build.Build, "start_outside_client", interrupted)
    with pytest.raises(KeyboardInterrupt):
        add_probes(mesh, Silent())
    assert waiting == [False]


def test_a_namespace_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    mesh = installed(fake_mesh(three_clusters(tmp_path)))
    refuse_foreign_namespaces(mesh)
    without(mesh, *PROBE_NAMESPACES)
    refuse_foreign_namespaces(mesh)
    fake_of(mesh.clusters[1]).put({"kind": "Namespace", "metadata": {"name": "meshproof-clients"}})
    with pytest.raises(
        BadInput, match=r"namespace meshproof-clients on west: it exists without the Deployment client that"
    ):
        refuse_foreign_namespaces(mesh)


SECRET = {
    "kind": "Secret",
    "metadata": {"name": "pull", "namespace": "ops"},
    "type": "kubernetes.io/dockerconfigjson",
    "data": {".dockerconfigjson": "e30="},
}


def with_pull_secret(mesh: Mesh) -> Mesh:
    clusters = []
    for cluster in mesh.clusters:
        fake_of(cluster).put(SECRET)
        access = replace(cluster.access, pull_secret=PullSecret(namespace="ops", name="pull"))
        clusters.append(replace(cluster, access=access))
    return replace(mesh, clusters=tuple(clusters))


def test_pods_of_our_namespaces_pull_with_the_secret_that_was_named(tmp_path: Path) -> None:
    mesh = with_pull_secret(without(installed(fake_mesh(three_clusters(tmp_path))), *PROBE_NAMESPACES))
    for cluster in mesh.clusters:
        take_care_of_new_namespaces(fake_of(cluster))
    made = add_probes(mesh, Silent())
    for cluster in mesh.clusters:
        objects = fake_of(cluster).objects
        for namespace in PROBE_NAMESPACES:
            copy = objects[f"/api/v1/namespaces/{namespace}/secrets/pull"]
            assert (copy["type"], copy["data"]) == (SECRET["type"], SECRET["data"])
            account = objects[f"/api/v1/namespaces/{namespace}/serviceaccounts/default"]
            assert account["imagePullSecrets"] == [{"name": "pull"}]
        account = objects["/api/v1/namespaces/meshproof-app/serviceaccounts/mockshop"]
        assert account["imagePullSecrets"] == [{"name": "pull"}], "the application has an account of its own"
    remove_probes(made, Silent())
    assert all("/api/v1/namespaces/ops/secrets/pull" in fake_of(cluster).objects for cluster in mesh.clusters)


def test_without_a_secret_none_is_made(tmp_path: Path) -> None:
    mesh = installed(fake_mesh(three_clusters(tmp_path)))
    objects = [found for cluster in mesh.clusters for found in fake_of(cluster).objects.values()]
    assert not any("imagePullSecrets" in found for found in objects)
