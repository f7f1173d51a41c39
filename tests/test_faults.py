"""The journal of faults, and healing what a killed run left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.core.errors import Broken, NotReady, Unavailable
from meshproof.core.waiting import NotYet
from meshproof.faults.heal import heal, heal_leftovers, stopped_by_a_killed_run
from meshproof.faults.infrastructure import freeze_cluster, lose_cluster, stop_api_servers
from meshproof.faults.istiod import STOP_ISTIOD, stop_istiod
from meshproof.faults.istiod_replicas import start_istiod
from meshproof.faults.journal import Journal
from meshproof.faults.transient import FaultContext
from meshproof.health.mesh import rollouts
from meshproof.mesh.handles import Cluster, Mesh
from tests.fakes import FakeLinks, mesh_of, snapshot_of


class IstiodKube(Kube):
    """One istiod Deployment whose pods follow its replicas at once."""

    def __init__(self, replicas: int = 2, uid: str = "uid-1") -> None:
        super().__init__(Path("/nonexistent"), "fake")
        self.replicas = replicas
        self.uid = uid
        self.scaled: list[int] = []
        self.hurried: list[str] = []

    def _deployment(self) -> Json:
        kinds = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        return {
            "metadata": {"name": "istiod", "generation": 1},
            "spec": {"replicas": self.replicas},
            "status": {"observedGeneration": 1, **dict.fromkeys(kinds, self.replicas)},
        }

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        if kind == "Deployment":
            return [self._deployment()]
        return [
            {"metadata": {"name": f"istiod-7fdf777544-{n:05}", "creationTimestamp": f"2026-11-25T07:00:{n:02}Z"}}
            for n in range(self.replicas)
        ]

    def delete(self, kind: str, name: str, namespace: str | None = None, *, grace_s: int | None = None) -> bool:
        self.hurried.append(f"{kind} {name} {grace_s} s")
        return True

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


UNDO: Any = {"do": "scale", "replicas": {"istiod": 2}}


def fault_context(journal: Journal, kube: Kube) -> tuple[FaultContext, Cluster]:
    mesh = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube())
    return FaultContext(mesh=mesh, journal=journal, machine_control=None), mesh.clusters[0]


def record(journal: Journal, **changes: Any) -> None:
    defaults: dict[str, Any] = {"cluster": "cluster1", "cluster_uid": "uid-1", "undo": UNDO}
    journal.record(fault=STOP_ISTIOD, **(defaults | changes))


def test_the_journal_has_unhealed_entries_newest_first(journal: Journal) -> None:
    assert journal.unhealed() == ()
    healed = journal.record(fault="a", cluster="c", cluster_uid="u", undo={})
    journal.record(fault="b", cluster="c", cluster_uid="u", undo={"n": 1})
    journal.record(fault="c", cluster="c", cluster_uid="u", undo={})
    journal.healed(healed)
    assert [entry.fault for entry in journal.unhealed()] == ["c", "b"]
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_truncated_line_is_ignored_and_writing_continues(journal: Journal) -> None:
    record(journal)
    with journal.path.open("a") as file:
        file.write('{"key": "half')
    assert len(journal.unhealed()) == 1
    record(journal)
    text = journal.path.read_text().splitlines()
    assert json.loads(text[-1])["fault"] == STOP_ISTIOD
    with pytest.raises(Broken, match=r"faults.jsonl:2: this is not a line of a fault journal"):
        journal.unhealed()


def test_istiod_is_stopped_and_comes_back_as_it_was(journal: Journal) -> None:
    kube = IstiodKube(replicas=2)
    with stop_istiod(*fault_context(journal, kube)) as stopped:
        assert kube.replicas == 0
        assert len(journal.unhealed()) == 1
        assert stopped.gone is not None
    assert kube.scaled == [0, 2]
    assert kube.hurried == ["Pod istiod-7fdf777544-00000 3 s", "Pod istiod-7fdf777544-00001 3 s"]
    assert stopped.back is not None
    assert journal.unhealed() == ()


def test_scaling_down_keeps_leading_istiods() -> None:
    kube = IstiodKube(replicas=3)
    start_istiod(kube, {"istiod": 1}, lambda: {"istiod-7fdf777544-00001"})
    assert kube.hurried == ["Pod istiod-7fdf777544-00000 3 s", "Pod istiod-7fdf777544-00002 3 s"]


def test_istiod_comes_back_whatever_happens_inside(journal: Journal) -> None:
    kube = IstiodKube()
    with pytest.raises(ZeroDivisionError), stop_istiod(*fault_context(journal, kube)):
        raise ZeroDivisionError
    assert kube.replicas == 2


def test_a_control_plane_that_is_down_already_is_not_broken_again(journal: Journal) -> None:
    kube = IstiodKube(replicas=0)
    with pytest.raises(Broken, match="it is already down"), stop_istiod(*fault_context(journal, kube)):
        pass
    assert journal.unhealed() == ()


def test_leftovers_of_a_killed_run_are_healed_once(journal: Journal) -> None:
    kube = IstiodKube(replicas=0)
    mesh = with_kubes(mesh_of("multi-primary-samenet"), kube, IstiodKube())
    record(journal)
    assert heal_leftovers(mesh, journal) == ("healed stop_istiod on cluster1, left by a killed run",)
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


class Power(FakeLinks):
    """Machines whose API server responds only while they run."""

    def __init__(self, *kubes: SwitchedKube) -> None:
        super().__init__()
        self.kubes = {kube.name: kube for kube in kubes}

    def lose(self, cluster: object) -> None:
        super().lose(cluster)
        self.kubes[str(cluster)].on = False

    def revive(self, cluster: object) -> None:
        super().revive(cluster)
        self.kubes[str(cluster)].on = True


class DeployedKube(Kube):
    """A cluster with these Deployments."""

    def __init__(self, *deployments: Json) -> None:
        self.deployments = list(deployments)

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        assert (kind, namespace, labels) == ("Deployment", None, "")
        return self.deployments


def test_a_deployment_that_was_just_restored_is_not_ready_yet() -> None:
    """All its pods are ready, and they are those of before."""

    def named(namespace: str, name: str, generation: int = 1) -> Json:
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        meta = {"namespace": namespace, "name": name, "generation": generation}
        return {"metadata": meta, "spec": {"replicas": 1}, "status": {"observedGeneration": 1, **counts}}

    settled = DeployedKube(named("meshproof-app", "mockshop-v1"), named("shop-of-others", "till", generation=2))
    changed = DeployedKube(named("meshproof-app", "mockshop-v2", generation=2))
    snapshot = snapshot_of("primary-remote-samenet")
    kubes = zip(snapshot.facts, (settled, changed), strict=True)
    facts = tuple(replace(each, cluster=replace(each.cluster, kube=kube)) for each, kube in kubes)
    assert list(rollouts(replace(snapshot, facts=facts))) == ["cluster2 meshproof-app/mockshop-v2 is being rolled out"]


class SwitchedKube(IstiodKube):
    def __init__(self, name: str) -> None:
        super().__init__(uid=f"uid-{name}")
        self.name = name
        self.on = True

    def must_answer(self) -> None:
        if not self.on:
            raise NotYet("no answer")

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        if not self.on:
            raise NotReady(f"GET {name} on {self.name}", "no answer")
        return super().find(kind, name, namespace)


def test_a_lost_cluster_is_revived_and_its_journal_entry_closed(journal: Journal) -> None:
    kubes = SwitchedKube("cluster1"), SwitchedKube("cluster2")
    mesh = with_kubes(mesh_of("multi-primary-samenet"), *kubes)
    power = Power(*kubes)
    with lose_cluster(
        FaultContext(mesh=mesh, journal=journal, machine_control=power), mesh.clusters[1]
    ) as transient_fault:
        assert power.done == ["lose cluster2"]
        assert [entry.undo for entry in journal.unhealed()] == [{"do": "revive"}]
        assert transient_fault.gone is not None
    assert kubes[1].on
    assert journal.unhealed() == ()
    assert power.done == ["lose cluster2", "revive cluster2"]


def test_machines_that_a_killed_run_left_dead_are_healed_without_reading_them_first(journal: Journal) -> None:
    kubes = SwitchedKube("cluster1"), SwitchedKube("cluster2")
    mesh = with_kubes(mesh_of("multi-primary-samenet"), *kubes)
    power = Power(*kubes)
    power.lose("cluster2")
    record(journal, cluster="cluster1", cluster_uid="uid-cluster1")
    journal.record(fault="lose_cluster", cluster="cluster2", cluster_uid=power.identity, undo={"do": "revive"})
    journal.record(fault="lose_cluster", cluster="cluster2", cluster_uid="another lab", undo={"do": "revive"})
    assert heal(mesh, journal, power) == {"lose_cluster": ["cluster2"], STOP_ISTIOD: ["cluster1"]}
    assert kubes[1].on
    assert [entry.cluster_uid for entry in journal.unhealed()] == ["another lab"]


@pytest.mark.parametrize(
    "fault", [lose_cluster, freeze_cluster, lambda fault_context, cluster: stop_api_servers(fault_context, [cluster])]
)
def test_machines_of_others_are_not_touched(journal: Journal, fault: Any) -> None:
    mesh = mesh_of("multi-primary-samenet")
    with (
        pytest.raises(Unavailable, match="which only the lab has"),
        fault(FaultContext(mesh=mesh, journal=journal, machine_control=None), mesh.clusters[0]),
    ):
        pass
    assert journal.unhealed() == ()


def test_an_istiod_that_a_killed_run_stopped_is_known_and_no_other(journal: Journal) -> None:
    mesh = with_kubes(mesh_of("multi-primary-multinet"), IstiodKube(0), IstiodKube(2, uid="uid-2"))
    assert stopped_by_a_killed_run(mesh, journal) == ()
    record(journal, cluster_uid="somebody else's")
    journal.record(fault="T4", cluster="cluster2", cluster_uid="uid-2", undo={})
    assert stopped_by_a_killed_run(mesh, journal) == ()
    record(journal)
    record(journal)
    assert stopped_by_a_killed_run(mesh, journal) == ("cluster1",)
