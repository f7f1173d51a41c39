"""The scheduler of spread runs, with workers that only write down what they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.scheduling import MeshScheduling
from meshproof.core.errors import Broken
from meshproof.run.division import Lot, Phase, Step


def lots(*names: str) -> list[Lot]:
    """`t` is proven together with others, `s` so and in any worker, `d` disrupts; the digit is the topology's place."""
    steps = {"t": Step.TOGETHER, "s": Step.TOGETHER, "d": Step.DISRUPTIVE}
    return [
        Lot(
            name=name,
            phase=Phase(place=int(name[1]), topology=f"mesh{name[1]}", step=steps[name[0]]),
            suite=name,
            spreads=name[0] == "s",
        )
        for name in names
    ]


class Worker:
    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class Run:
    """A run with its workers, and what the scheduler had done."""

    def __init__(self, *names: str, workers: int = 2, restarts: int | None = None, joined: int | None = None) -> None:
        self.done: list[str] = []
        self.stopped = ""
        option = SimpleNamespace(maxworkerrestart=restarts, numprocesses=workers)
        config: Any = SimpleNamespace(option=option)
        self.names = list(names)
        self.scheduling = MeshScheduling(config, self, lots(*names), workers)
        self.workers = [self.join(f"gw{number}") for number in range(workers if joined is None else joined)]

    def join(self, name: str) -> Worker:
        worker = Worker(name)
        self.scheduling.add_node(worker)
        self.scheduling.add_node_collection(worker, self.names)
        if self.scheduling.collection_is_completed:
            self.scheduling.schedule()
        return worker

    def end(self, worker: Worker, name: str) -> None:
        self.scheduling.mark_test_complete(worker, self.names.index(name))

    def die(self, worker: Worker) -> None:
        self.scheduling.note_death(worker, "killed")
        self.scheduling.remove_node(worker)

    def sent_to(self, worker: Worker) -> list[str]:
        return [self.names[index] for index in worker.sent]

    def hand_out(self, worker: str, lots: Sequence[Lot]) -> None:
        self.done.append(f"{worker} has {' '.join(lot.name for lot in lots)}")

    def begin(self, phase: Phase) -> None:
        self.done.append(f"begin {phase.name}")

    def lost(self, lot: Lot, problem: Broken) -> None:
        self.done.append(f"lost {lot.name}: {problem}")

    def tidy(self, phase: Phase) -> None:
        self.done.append(f"tidy {phase.name}")


def test_a_phase_begins_when_those_before_it_have_ended() -> None:
    run = Run("t1", "s1", "d1", "t2")
    first, second = run.workers
    assert run.done == ["gw0 has t1 d1 t2", "gw1 has s1", "begin 1-mesh1-together"]
    assert (run.sent_to(first), run.sent_to(second)) == (["t1", "d1", "t2"], ["s1"])
    run.end(first, "t1")
    assert len(run.done) == 3
    run.end(second, "s1")
    assert run.done[3:] == ["begin 1-mesh1-disruptive"]
    run.end(first, "d1")
    assert run.done[4:] == ["begin 2-mesh2-together"]
    assert run.scheduling.has_pending
    run.end(first, "t2")
    assert run.scheduling.tests_finished
    for worker in run.workers:
        run.scheduling.remove_node(worker)
    assert len(run.done) == 5


def test_what_a_dead_worker_has_left_goes_to_the_one_in_its_place() -> None:
    run = Run("t1", "d1", "d1b", "s1")
    first, second = run.workers
    run.end(first, "t1")
    run.end(second, "s1")
    run.die(first)
    assert run.done[-2:] == [
        "lost d1: worker gw0: it died (killed) while it was proving this",
        "tidy 1-mesh1-disruptive",
    ]
    other = run.join("gw2")
    assert run.sent_to(other) == ["d1b"]
    run.end(other, "d1b")
    assert run.scheduling.tests_finished


def test_a_worker_that_dies_waiting_loses_nothing() -> None:
    run = Run("t1", "s1", "s2", "t2")
    second = run.workers[1]
    run.end(second, "s1")
    assert run.sent_to(second) == ["s1", "s2"]
    run.die(second)
    assert not any("lost" in line or "tidy" in line for line in run.done)
    assert run.sent_to(run.join("gw2")) == ["s2"]


def test_a_worker_may_die_before_it_has_anything() -> None:
    run = Run("t1", "s1", workers=2, joined=0)
    run.scheduling.add_node(early := Worker("gw0"))
    run.die(early)
    second = run.join("gw1")
    assert run.done == []
    third = run.join("gw2")
    assert (run.sent_to(second), run.sent_to(third)) == (["t1"], ["s1"])


def test_where_nobody_comes_in_its_place_all_that_it_had_is_lost() -> None:
    run = Run("t1", "d1", "s1", "t2", restarts=0)
    run.die(run.workers[0])
    reasons = "worker gw0: it died (killed) before it could prove this, and no other takes its place"
    assert [line for line in run.done if line.startswith("lost")] == [
        "lost t1: worker gw0: it died (killed) while it was proving this",
        f"lost d1: {reasons}",
        f"lost t2: {reasons}",
    ]
    run.end(run.workers[1], "s1")
    assert run.scheduling.tests_finished


def test_a_worker_that_ends_by_itself_is_not_replaced() -> None:
    run = Run("t1", "t1b", workers=1)
    run.scheduling.remove_node(run.workers[0])
    assert [line.partition(",")[0] for line in run.done if line.startswith("lost")] == [
        "lost t1: worker gw0: it ended while it was proving this",
        "lost t1b: worker gw0: it ended before it could prove this",
    ]


def test_a_run_that_was_stopped_begins_and_loses_nothing_more() -> None:
    run = Run("t1", "d1", workers=1)
    run.stopped = "stopping after 1 failures"
    run.end(run.workers[0], "t1")
    run.die(run.workers[0])
    assert run.done == ["gw0 has t1 d1", "begin 1-mesh1-together"]


def test_a_worker_that_has_collected_other_tests_ends_the_run() -> None:
    run = Run("t1", workers=1)
    run.scheduling.add_node(stranger := Worker("gw1"))
    with pytest.raises(pytest.exit.Exception, match="worker gw1 has collected 2 tests"):
        run.scheduling.add_node_collection(stranger, ["t1", "t2"])
