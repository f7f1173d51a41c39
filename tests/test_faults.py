"""The journal of faults, and healing what a killed run left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshproof.clients.kube import Json, Kube
from meshproof.errors import Broken
from meshproof.faults.heal import heal_leftovers, stopped_by_a_killed_run
from meshproof.faults.istiod import STOP_ISTIOD, stop_istiod
from meshproof.faults.journal import Journal
from meshproof.mesh import Cluster, Mesh
from tests.fakes import mesh_of


class IstiodKube(Kube):
    """One istiod Deployment whose pods follow its replicas at once."""

    def __init__(self, replicas: int = 2, uid: str = "uid-1") -> None:
        super().__init__(Path("/nonexistent"), "fake")
        self.replicas = replicas
        self.uid = uid
        self.scaled: list[int] = []

    def _deployment(self) -> Json:
        return {
            "metadata": {"name": "istiod", "generation": 1},
            "spec": {"replicas": self.replicas},
            "status": {"observedGeneration": 1, "availableReplicas": self.replicas},
        }

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        if kind == "Deployment":
            return [self._deployment()]
        return [{"metadata": {"name": f"istiod-{n}"}} for n in range(self.replicas)]

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        return {"metadata": {"uid": self.uid}} if kind == "Namespace" else self._deployment()

    def merge_patch(self, kind: str, name: str, patch: Json, namespace: str | None = None, *, sub: str = "") -> None:
        assert (kind, sub) == ("Deployment", "scale")
        self.replicas = patch["spec"]["replicas"]
        self.scaled.append(self.replicas)


def with_kubes(mesh: Mesh, *kubes: Kube) -> Mesh:
    clusters = tuple(
        Cluster(spec=c.spec, access=c.access, kube=kube) for c, kube in zip(mesh.clusters, kubes, strict=True)
    )
    return Mesh(topology=mesh.topology, clusters=clusters, toolbox=mesh.toolbox)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "faults.jsonl")


def record(journal: Journal, **changes: Any) -> None:
    defaults: dict[str, Any] = {"cluster": "cluster1", "cluster_uid": "uid-1", "undo": {"replicas": {"istiod": 2}}}
    journal.record(fault=STOP_ISTIOD, **(defaults | changes))


def test_the_journal_remembers_what_nobody_healed_newest_first(journal: Journal) -> None:
    assert journal.unhealed() == ()
    healed = journal.record(fault="a", cluster="c", cluster_uid="u", undo={})
    journal.record(fault="b", cluster="c", cluster_uid="u", undo={"n": 1})
    journal.record(fault="c", cluster="c", cluster_uid="u", undo={})
    journal.healed(healed)
    assert [entry.fault for entry in journal.unhealed()] == ["c", "b"]
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_off_is_ignored_and_writing_goes_on(journal: Journal) -> None:
    record(journal)
    with journal.path.open("a") as file:
        file.write('{"key": "half')
    assert len(journal.unhealed()) == 1
    record(journal)
    text = journal.path.read_text().splitlines()
    assert json.loads(text[-1])["fault"] == STOP_ISTIOD
    with pytest.raises(Broken, match=r"faults.jsonl:2: not a line of a fault journal"):
        journal.unhealed()


def test_istiod_is_stopped_and_comes_back_as_it_was(journal: Journal) -> None:
    kube = IstiodKube(replicas=2)
    cluster = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube()).clusters[0]
    with stop_istiod(cluster, journal) as stopped:
        assert kube.replicas == 0
        assert len(journal.unhealed()) == 1
        assert stopped.gone is not None
    assert kube.scaled == [0, 2]
    assert stopped.back is not None
    assert journal.unhealed() == ()


def test_istiod_comes_back_whatever_happens_inside(journal: Journal) -> None:
    kube = IstiodKube()
    cluster = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube()).clusters[0]
    with pytest.raises(ZeroDivisionError), stop_istiod(cluster, journal):
        raise ZeroDivisionError
    assert kube.replicas == 2


def test_a_control_plane_that_is_down_already_is_not_broken_again(journal: Journal) -> None:
    cluster = with_kubes(mesh_of("multi-primary-samenet"), IstiodKube(replicas=0), IstiodKube()).clusters[0]
    with pytest.raises(Broken, match="not running already"), stop_istiod(cluster, journal):
        pass
    assert journal.unhealed() == ()


def test_leftovers_of_a_killed_run_are_healed_once(journal: Journal) -> None:
    kube = IstiodKube(replicas=0)
    mesh = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube())
    record(journal)
    assert heal_leftovers(mesh, journal) == ("healed stop_istiod on cluster1, left by a run that was killed",)
    assert kube.replicas == 2
    assert heal_leftovers(mesh, journal) == ()


def test_clusters_of_the_same_name_elsewhere_keep_their_entries(journal: Journal) -> None:
    kube = IstiodKube(replicas=0)
    mesh = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube())
    record(journal, cluster_uid="uid-of-another-lab")
    record(journal, cluster="elsewhere")
    assert heal_leftovers(mesh, journal) == ()
    assert kube.scaled == []
    assert [entry.cluster for entry in journal.unhealed()] == ["elsewhere", "cluster1"]


def test_an_istiod_that_a_killed_run_stopped_is_known_and_no_other(journal: Journal) -> None:
    mesh = with_kubes(mesh_of("multi-primary-multinet"), IstiodKube(0), IstiodKube(2, uid="uid-2"))
    assert stopped_by_a_killed_run(mesh, journal) == ()
    record(journal, cluster_uid="somebody else's")
    journal.record(fault="T4", cluster="cluster2", cluster_uid="uid-2", undo={})
    assert stopped_by_a_killed_run(mesh, journal) == ()
    record(journal)
    record(journal)
    assert stopped_by_a_killed_run(mesh, journal) == ("cluster1",)
