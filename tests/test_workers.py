"""What `-n` is made of: how many labs fit, which topology goes to whom, and what workers report."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.parallel import TopologyScheduling, why_one_process
from meshproof.claims.results import ClaimResult, Ledger, Result
from meshproof.core.errors import BadInput
from meshproof.providers.lab import capacity, doctor
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab.capacity import fitting, must_fit
from meshproof.report.verdict import RunFacts, Tally, api_requests
from meshproof.run.settings import TOPOLOGY, Settings, read_settings
from meshproof.run.worker_labs import labs_of

LABS = ("default-1", "default-2", "default-3")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Room for two labs by memory and for three by cores; the labs in the list are up."""
    up: list[str] = []
    monkeypatch.setattr(doctor, "available_memory_gib", lambda: 2 * doctor.MEMORY_GIB + 0.5)
    monkeypatch.setattr(doctor, "free_inotify_instances", lambda most: min(most, 500))
    monkeypatch.setattr(remains, "taken_slots", set)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(3 * capacity.CORES_PER_LAB)))
    monkeypatch.setattr(capacity, "running", lambda name: name if name in up else None)
    return up


def test_as_many_labs_fit_as_the_scarcest_resource_allows(machine: list[str]) -> None:
    assert fitting(LABS) == 2
    must_fit(LABS[:2])
    with pytest.raises(BadInput) as caught:
        must_fit(LABS)
    assert str(caught.value) == (
        "-n 3: this machine can run 2 labs side by side:\n  8.5 GiB of memory available, 4 needed for each lab\n"
        "  repair: use -n 2\n  or stop other programs, or use a machine with more memory"
    )


def test_labs_that_are_up_need_nothing_more(machine: list[str]) -> None:
    machine += ["default-2"]
    assert fitting(LABS) == 3
    must_fit(LABS)
    machine[:] = ["default-3"]
    must_fit(LABS)


def test_without_room_for_two_the_repair_is_one_process(machine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_inotify_instances", lambda most: doctor.INOTIFY_INSTANCES + 1)
    with pytest.raises(BadInput, match=r"can run 1 labs(?s:.)*41 inotify instances free(?s:.)*repair: omit -n"):
        must_fit(LABS[:2])


def test_each_limit_is_counted_in_whole_labs(machine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remains, "taken_slots", lambda: {0, 3})
    assert [limit.labs for limit in capacity.limits(3)] == [3, 2, 3, 14]
    assert all(limit.repair for limit in capacity.limits(3))


def settings(topology: str, tmp_path: Any) -> Settings:
    return read_settings({TOPOLOGY.dest: topology}, root=tmp_path)


def test_one_process_where_there_is_one_topology_one_worker_or_one_set_of_clusters(tmp_path: Any) -> None:
    everything = settings("all", tmp_path)
    assert why_one_process(everything, 2) == ""
    assert why_one_process(everything, 1) == "one worker"
    assert why_one_process(settings("multi-primary-samenet", tmp_path), 2) == "one topology"
    assert why_one_process(replace(everything, provider="kind"), 2) == "--provider=kind has one set of clusters"


def test_labs_are_named_after_that_of_the_run(tmp_path: Any) -> None:
    assert labs_of(replace(settings("all", tmp_path), lab_name="ci"), 2) == ("ci-1", "ci-2")
    with pytest.raises(BadInput, match="choose another --lab-name"):
        labs_of(replace(settings("all", tmp_path), lab_name="fifteen-letters"), 2)


# -- which topology goes to whom ---------------------------------------------------------------------------------------


class Node:
    """A worker that only keeps what it is sent."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


TESTS = [f"{topology}{number}" for topology in "abcd" for number in range(4)]


class Run:
    def __init__(self, workers: int) -> None:
        self.lost: list[tuple[str, list[str]]] = []
        option = SimpleNamespace(loadscopereorder=True)
        config: Any = SimpleNamespace(option=option, getvalue={"tx": [f"{workers}*popen"]}.get)
        log = SimpleNamespace(loadscopesched=lambda *_: None)
        places = {name: name[0] for name in TESTS}
        self.scheduling = TopologyScheduling(config, log, places, lambda who, tests: self.lost.append((who, tests)))
        self.nodes = [self.join(f"gw{number}") for number in range(workers)]

    def join(self, name: str) -> Node:
        node = Node(name)
        self.scheduling.add_node(node)
        self.scheduling.add_node_collection(node, TESTS)
        if self.scheduling.collection_is_completed:
            self.scheduling.schedule()
        return node

    def has(self, node: Node) -> list[str]:
        return [TESTS[index] for index in node.sent]

    def prove(self, node: Node, *names: str) -> None:
        for name in names:
            self.scheduling.begun.add(name)
            self.scheduling.mark_test_complete(node, TESTS.index(name))


def test_topologies_go_to_workers_as_a_whole_and_in_order() -> None:
    run = Run(2)
    first, second = run.nodes
    assert run.has(first) == TESTS[:4]
    assert run.has(second) == TESTS[4:8]
    run.prove(first, *TESTS[:2])
    assert run.has(first) == TESTS[:4] + TESTS[8:12], "the next one before the last two, since it asks ahead"


def test_what_a_dead_worker_had_begun_is_lost_and_what_it_had_not_goes_to_another() -> None:
    run = Run(2)
    first, second = run.nodes
    run.prove(first, *TESTS[:3])
    run.scheduling.begun.add("a3")
    run.scheduling.remove_node(first)
    assert run.lost == [("gw0", ["a3"])]
    third = run.join("gw2")
    assert run.has(third) == ["d0", "d1", "d2", "d3"]
    run.prove(second, *TESTS[4:7])
    assert run.has(second) == [*TESTS[4:8], "c0", "c1", "c2", "c3"]
    assert not run.scheduling.tests_finished


def test_of_a_worker_that_ended_as_it_should_nothing_is_lost() -> None:
    run = Run(4)
    run.prove(run.nodes[0], *TESTS[:4])
    run.scheduling.remove_node(run.nodes[0])
    assert [tests for _, tests in run.lost if tests] == []
    assert not run.scheduling.workqueue


# -- what workers report -----------------------------------------------------------------------------------------------


class Client:
    """A client with something that no other process can have."""

    name = "cluster1"

    def __init__(self) -> None:
        self.requests = {"GET": 1}
        self.connection = lambda: None


def facts() -> RunFacts:
    return RunFacts(started=datetime(2026, 1, 31, tzinfo=UTC))


def test_facts_of_workers_are_added_up() -> None:
    client, worker = Client(), facts()
    worker.count([client])
    worker.provider, worker.istio, worker.kubernetes = "lab", "1.31.0", {"cluster1": "v1"}
    worker.rebuilt.append("why")
    sent = pickle.loads(pickle.dumps(worker.detached()))
    client.requests["GET"] = 5
    assert sent.kubes == [Tally(name="cluster1", requests={"GET": 1})], "as it was then"
    whole = facts()
    whole.add(sent)
    whole.add(replace(sent, rebuilt=["why"], asked_from_pods=["here"]))
    assert (whole.provider, whole.istio, whole.kubernetes) == ("lab", "1.31.0", {"cluster1": "v1"})
    assert whole.rebuilt == ["why", "why"]
    assert api_requests(whole.kubes) == {"total": 2, "clusters": {"cluster1": 2}, "verbs": {"GET": 2}}


def test_a_result_travels_as_plain_values() -> None:
    result = ClaimResult(
        topology="t", code="TRUST-01", sentence="s", hint="h", result=Result.BROKEN, figures={"x": {"a": 1, "b": 1.5}}
    )
    plain = result.as_plain()
    assert type(plain["result"]) is str
    assert ClaimResult.from_plain(plain) == result


def test_topologies_stand_in_the_order_of_the_run_whoever_was_first() -> None:
    ledger = Ledger(["a", "b", "c"])
    for name in ("c", "x", "b"):
        ledger.add(ClaimResult(topology=name, code="TRUST-01", sentence="s", hint="h", result=Result.SUCCEEDED))
    assert ledger.topologies == ("b", "c", "x")
