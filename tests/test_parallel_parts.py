"""What runs over several processes are made of, each part by itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import stagehand
from fixtures.mesh import SNAPSHOTS
from fixtures.options import SETTINGS
from fixtures.parallel import pytest_xdist_auto_num_workers
from fixtures.report import FACTS
from fixtures.stagehand import Stagehand
from fixtures.worker import RunFolder, Worker
from meshproof.claims.results import ClaimResult, Result
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.install.executor import Step as InstallStep
from meshproof.install.executor import StepFailed
from meshproof.install.lifecycle import Installed
from meshproof.mesh.access import ClusterAccess
from meshproof.mesh.snapshot import Snapshot
from meshproof.report.verdict import RunFacts
from meshproof.run.clusters import Clusters
from meshproof.run.division import Lot, Phase, Step, divide, phases_of
from meshproof.run.gates import Gates, at_work, who_is_at_work
from meshproof.run.handover import Handover, handed_over, read_handover, write_handover
from meshproof.run.hearing import Ear, tell
from meshproof.run.settings import TOPOLOGY
from meshproof.workloads.cleanup import STALE
from tests.fakes import mesh_of, toolbox

# -- who proves what --------------------------------------------------------------------------------------------------


def lot(name: str, step: Step = Step.TOGETHER, *, place: int = 1, spreads: bool = False) -> Lot:
    """Its suite is the name's first letter."""
    return Lot(name=name, phase=Phase(place=place, topology=f"t{place}", step=step), suite=name[0], spreads=spreads)


def names(shares: list[list[Lot]]) -> list[list[str]]:
    return [[each.name for each in share] for share in shares]


def test_what_cannot_be_spread_stays_in_one_process_in_the_order_of_phases() -> None:
    lots = [lot("f1", Step.DISRUPTIVE), lot("g1", Step.ALONE), lot("t1"), lot("g2"), lot("f2", Step.DISRUPTIVE)]
    assert names(divide(lots, 2)) == [["g1", "t1", "g2", "f1", "f2"], []]


def test_suites_are_spread_and_not_torn_apart() -> None:
    kept = [lot(f"p{n}") for n in range(3)]
    spread = [lot(f"{suite}{n}", spreads=True) for suite, count in (("a", 2), ("b", 4), ("c", 1)) for n in range(count)]
    assert names(divide(kept + spread, 2)) == [
        ["p0", "p1", "p2", "a0", "a1"],
        ["b0", "b1", "b2", "b3", "c0"],
    ]
    assert names(divide(kept + spread, 5)) == [
        ["p0", "p1", "p2"],
        ["b0", "b1", "b2", "b3"],
        ["a0", "a1"],
        ["c0"],
        [],
    ]


def test_everything_of_one_mesh_comes_before_the_next() -> None:
    lots = [lot("b1", Step.DISRUPTIVE, place=2), lot("a2", place=2, spreads=True), lot("f1", Step.DISRUPTIVE), lot("x")]
    assert [phase.name for phase in phases_of(lots)] == [
        "1-t1-together",
        "1-t1-disruptive",
        "2-t2-together",
        "2-t2-disruptive",
    ]
    assert names(divide(lots, 1)) == [["x", "f1", "a2", "b1"]]


@pytest.mark.parametrize(("cores", "topology", "workers"), [(2, "all", 2), (64, "all", 6), (64, None, None)])
def test_as_many_workers_as_can_have_work(
    monkeypatch: pytest.MonkeyPatch, cores: int, topology: str | None, workers: int | None
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    config: Any = SimpleNamespace(getoption={TOPOLOGY.dest: topology}.get)
    assert pytest_xdist_auto_num_workers(config) == workers


@pytest.mark.parametrize(("workers", "width"), [(1, 12), (2, 6), (5, 2), (64, 1)])
def test_workers_together_prove_no_more_claims_at_once_than_one_process_does(
    tmp_path: Path, workers: int, width: int
) -> None:
    assert Worker("gw0", RunFolder(tmp_path), began=0.0, workers=workers).width == width


# -- gates and lines --------------------------------------------------------------------------------------------------


def test_a_gate_holds_until_it_is_opened(tmp_path: Path) -> None:
    kept, passed = Gates(tmp_path), list[bool]()
    kept.shut(["first", "second"])
    waiting = threading.Thread(target=lambda: passed.append(Gates(tmp_path).passes("first")))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    kept.open("first")
    waiting.join(10)
    assert passed == [True]
    assert Gates(tmp_path).passes("first")
    kept.call_off()
    assert not Gates(tmp_path).passes("second")
    assert not Gates(tmp_path).passes("first"), "it was called off"


def _shut_and_die(folder: Path) -> None:
    Gates(folder).shut(["gate"])


def test_nobody_waits_for_a_keeper_that_has_died(tmp_path: Path) -> None:
    keeper = get_context("spawn").Process(target=_shut_and_die, args=(tmp_path,))
    keeper.start()
    keeper.join()
    assert not Gates(tmp_path).passes("gate")


def test_who_is_at_work_is_known_until_it_ends(tmp_path: Path) -> None:
    mark = at_work(tmp_path / "mark")
    assert who_is_at_work(tmp_path / "mark") == os.getpid()
    mark.close()
    assert who_is_at_work(tmp_path / "mark") is None


def test_lines_of_several_are_heard_whole(tmp_path: Path) -> None:
    heard: list[str] = []
    with Ear(tmp_path / "told", heard.append):
        tellers = [threading.Thread(target=tell, args=(tmp_path / "told", f"{n} " + "é" * 3000)) for n in range(4)]
        for teller in tellers:
            teller.start()
        for teller in tellers:
            teller.join()
    assert sorted(line[0] for line in heard) == ["0", "1", "2", "3"]
    assert {line[2:].strip("é") for line in heard} <= {"", "\N{REPLACEMENT CHARACTER}"}
    tell(tmp_path / "told", "nobody hears this, and that is all right")


# -- what travels -----------------------------------------------------------------------------------------------------


def test_a_result_travels_as_plain_values() -> None:
    result = ClaimResult(
        topology="t", code="TRUST-01", sentence="s", hint="h", result=Result.BROKEN, figures={"x": {"a": 1, "b": 1.5}}
    )
    plain = result.as_plain()
    assert type(plain["result"]) is str
    assert ClaimResult.from_plain(plain) == result


def test_a_mesh_is_handed_over_without_what_is_open(tmp_path: Path) -> None:
    kube = Kube(Path("/nonexistent"), "c")
    access = ClusterAccess(
        name=mesh_of("multi-primary-samenet").clusters[0].name,
        kubeconfig=Path("/nonexistent"),
        context="c",
        server_for_peers="https://192.0.2.1",
        kube=kube,
    )
    handover = handed_over("lab", [access], toolbox(), Installed(remotes=(), steps_s={"a": 1.0}, elapsed_s=1.0))
    write_handover(tmp_path / "mesh", handover)
    read = read_handover(tmp_path / "mesh")
    assert read == handover
    assert read.clusters[0].kube is None


@pytest.mark.parametrize(
    ("problem", "kind", "text"),
    [
        (StepFailed(InstallStep(name="istiod", run=print), "refused"), Broken, "step 'istiod': refused"),
        (NotReady("istiod", "not there", "look"), Broken, "istiod: not there\n  repair: look"),
        (ClaimFailed("two roots"), ClaimFailed, "two roots"),
        (OSError("no space"), Broken, "the mesh could not be made: OSError: no space"),
    ],
)
def test_why_there_is_no_mesh_is_handed_over(tmp_path: Path, problem: Exception, kind: type, text: str) -> None:
    problem.add_note("and more")
    write_handover(tmp_path / "mesh", problem)
    with pytest.raises(kind) as caught:
        read_handover(tmp_path / "mesh")
    assert str(caught.value) == text
    assert caught.value.__notes__ == ["and more"]


# -- the mesh between topologies --------------------------------------------------------------------------------------


class Scene:
    """A stagehand whose doings are written down instead of done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ephemeral: bool = True) -> None:
        self.done: list[str] = []
        self.facts = RunFacts(started=datetime.now(UTC))
        self.well = True
        self.ephemeral = ephemeral
        config: Any = SimpleNamespace(
            stash={SETTINGS: SimpleNamespace(installs=True), SNAPSHOTS: {}, FACTS: self.facts}
        )
        self.stagehand = Stagehand(config, Silent())
        for name in ("heal_leftovers", "uninstall_mesh", "install_mesh"):
            monkeypatch.setattr(stagehand, name, self._doing(name))
        monkeypatch.setattr(stagehand, "open_clusters", self._open_clusters)
        monkeypatch.setattr(stagehand, "connected_mesh", lambda *given: mesh_of(given[2].name))
        monkeypatch.setattr(stagehand, "installed_mesh", self._installed)
        monkeypatch.setattr(stagehand, "must_be_well", self._look)
        monkeypatch.setattr(stagehand, "sweep", self._sweep)
        monkeypatch.setattr(Snapshot, "take", lambda mesh: mesh.topology.name)
        self.snapshots = config.stash[SNAPSHOTS]

    def make(self, name: str) -> Handover:
        return self.stagehand.make(load_topology(name))

    def _doing(self, name: str) -> Any:
        def do(*_: object) -> tuple[str, ...]:
            self.done.append(name)
            return ()

        return do

    def _look(self, mesh: object) -> None:
        self.done.append("look")
        if not self.well:
            raise NotReady("the mesh", "ill")

    def _sweep(self, mesh: object, older: timedelta = STALE) -> None:
        self.done.append("sweep what is stale" if older == STALE else "sweep all")

    @contextmanager
    def _open_clusters(self, *_: object) -> Iterator[Clusters]:
        self.done.append("open")
        provider: Any = SimpleNamespace(name="lab", clusters=(), toolbox=toolbox(), links=None)
        yield Clusters(provider=provider, ephemeral=self.ephemeral)
        self.done.append("closed")

    @contextmanager
    def _installed(self, clusters: Clusters, mesh: Any, *_: object) -> Iterator[Installed]:
        self.done.append(f"install {mesh.topology.name}")
        yield Installed(remotes=(), steps_s={}, elapsed_s=0.0)
        self.done.append(f"leave {mesh.topology.name}")


def test_one_mesh_after_the_other_on_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    assert scene.make("multi-primary-samenet").provider == "lab"
    scene.make("multi-primary-multinet")
    scene.stagehand.close(cut_short=False, disrupted=False)
    assert scene.done == [
        "open",
        "install multi-primary-samenet",
        "sweep what is stale",
        "leave multi-primary-samenet",
        "install multi-primary-multinet",
        "sweep what is stale",
        "leave multi-primary-multinet",
        "closed",
    ]
    assert list(scene.snapshots) == ["multi-primary-samenet", "multi-primary-multinet"]


def test_after_the_death_of_a_worker_faults_are_healed_and_its_probes_go_with_the_mesh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    scene.make("multi-primary-samenet")
    scene.stagehand.tidy(disrupted=False)
    del scene.done[:]
    scene.stagehand.tidy(disrupted=True)
    assert scene.done == ["heal_leftovers", "look"]
    scene.well = False
    scene.stagehand.tidy(disrupted=True)
    assert scene.done[2:] == ["heal_leftovers", "look", "uninstall_mesh", "install_mesh"]
    assert scene.facts.rebuilt == ["after the death of a worker: ill"]
    del scene.done[:]
    scene.make("multi-primary-multinet")
    assert scene.done[:2] == ["sweep all", "leave multi-primary-samenet"]


@pytest.mark.parametrize(
    ("ephemeral", "done"),
    [
        (True, ["leave multi-primary-samenet", "closed"]),
        (False, ["heal_leftovers", "look", "sweep all", "leave multi-primary-samenet", "closed"]),
    ],
)
def test_a_run_that_is_cut_short_heals_what_outlives_it(
    monkeypatch: pytest.MonkeyPatch, ephemeral: bool, done: list[str]
) -> None:
    scene = Scene(monkeypatch, ephemeral=ephemeral)
    scene.make("multi-primary-samenet")
    del scene.done[:]
    scene.stagehand.close(cut_short=True, disrupted=True)
    assert scene.done == done


def test_clusters_that_cannot_be_had_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)

    def refuse(*_: object) -> None:
        scene.done.append("open")
        raise Broken("lab x", "no room")

    monkeypatch.setattr(stagehand, "open_clusters", refuse)
    for name in ("multi-primary-samenet", "multi-primary-multinet"):
        with pytest.raises(Broken, match="no room"):
            scene.make(name)
    scene.stagehand.close(cut_short=False, disrupted=False)
    assert scene.done == ["open"]
