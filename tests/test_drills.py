"""What is judged of a drill, and what is told of it: charts, figures, vigils, and meshes that do not heal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproof.claims.findings import Findings
from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.progress import Silent
from meshproof.failover import drill as drills
from meshproof.failover.availability import Asked, AvailabilityMonitor
from meshproof.failover.drill import DrillRunner, felt, must_have_been_healthy, must_have_been_loaded
from meshproof.faults import transient as transient_faults
from meshproof.faults.journal import Journal
from meshproof.faults.transient import FaultContext, TransientFault
from meshproof.load.generator import DEFAULT, Load, Source, Way
from meshproof.load.history import History, Mark, Outcome, Told, Window
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from tests.fakes import mesh_of, snapshot_of
from tests.test_history import request

WINDOW = Window(begin_s=0, end_s=10)


def test_a_fault_that_is_felt_too_long_is_told_with_its_last_request() -> None:
    requests = [request(1.0), request(4.0, Outcome.LOST), request(9.0)]
    assert felt(requests, 1.0, 3.0) == []
    (problem,) = felt(requests, 1.0, 2.0)
    assert problem.startswith("requests were lost or slow for 3.0 s, bound 2 s; last ")
    assert felt([request(1.0, Outcome.UNKNOWN)], 0.0, 9.0) == ["no request was sent, or nothing is known of any"]


def test_a_load_that_was_hardly_sent_proves_nothing() -> None:
    load = Load({"a": lambda: Told(status=200)}, rate=10)
    for number in range(79):
        load.history.add(request(number / 10))
    with pytest.raises(Broken, match="the load on a: 79 requests sent of about 100"):
        must_have_been_loaded(load, WINDOW)
    load.history.add(request(9.0))
    must_have_been_loaded(load, WINDOW)


def test_a_vigil_tells_the_longest_time_without_a_good_answer() -> None:
    def asked(at_s: float, wrong: str = "") -> Asked:
        return Asked(at_s=at_s, took_s=0.1, wrong=wrong)

    availability_monitor = AvailabilityMonitor(
        answers={"injection": [asked(1), asked(2, "refused"), asked(4, "refused again"), asked(5), asked(8)]}
    )
    longest, words = availability_monitor.gap("injection", WINDOW)
    assert (round(longest, 3), words) == (3.9, "refused again")
    assert round(availability_monitor.gap("injection", Window(begin_s=4.5, end_s=30))[0], 3) == 21.9
    assert availability_monitor.gap("nothing", WINDOW) == (10, "")


def test_what_is_on_its_way_when_the_fault_comes_is_no_control(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = struck()
    told = drill.transient_fault.told.monotonic_s
    drill.begin = replace(drill.begin, monotonic_s=told - 2)
    for sent_s, outcome in ((told - 1, Outcome.ANSWERED), (told - 0.01, Outcome.LOST)):
        drill.history.add(replace(request(sent_s, outcome), source="a"))
    must_have_been_healthy(drill, ("a",))
    drill.history.add(replace(request(told - 0.5, Outcome.LOST), source="a"))
    with pytest.raises(Broken, match="it was not healthy before the fault: 1 of 2 requests lost"):
        must_have_been_healthy(drill, ("a",))


def test_what_is_wrong_while_the_machine_has_no_time_is_not_the_meshs(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = struck()
    drill.late_s = {"cluster1 client": 2.6, "cluster2 client": 0.9}
    for struck_itself, kind in (("cluster1", ClaimFailed), ("", Broken)):
        findings = Findings("loads")
        findings.examine("a")
        drill.tell(findings, but=struck_itself)
        findings.conclude()
        findings.examine("b", ["a request was lost"])
        with pytest.raises(
            kind, match=r"1 of 2 loads are wrong\n  last seen   b: a request was lost\n  fault  "
        ) as told:
            findings.conclude()
        assert ("(behind schedule by 2.6 s for cluster1 client): 1 of 2" in str(told.value)) is (kind is Broken)


# -- a mesh that is not healthy
# ------------------------------------------------------------------------------------------


class Health:
    """Stands in for the real checks of a mesh: says what is wrong at each look."""

    def __init__(self, *looks: str) -> None:
        self.looks = list(looks)

    def __call__(self, mesh: Mesh, *, timeout_s: float) -> None:
        if wrong := self.looks.pop(0):
            raise NotReady("the mesh is healthy", wrong)


@pytest.fixture
def drill_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DrillRunner:
    snapshot = snapshot_of("multi-primary-samenet")
    mesh = mesh_of("multi-primary-samenet")
    monkeypatch.setattr(Snapshot, "take", classmethod(lambda cls, mesh: snapshot))
    monkeypatch.setattr(drills, "pause", lambda seconds: None)
    monkeypatch.setattr(drills, "must_have_been_loaded", lambda load, window: None)

    @contextmanager
    def no_load(*args: Any, **kwargs: Any) -> Iterator[Load]:
        yield Load({})

    monkeypatch.setattr(drills, "load_on", no_load)
    drill_runner = DrillRunner(
        fault_context=FaultContext(mesh=mesh, journal=Journal(tmp_path / "j"), links=None), narrator=Silent()
    )
    drill_runner.rebuild = lambda: drill_runner.rebuilt.append("rebuilt")
    return drill_runner


def struck() -> TransientFault:
    now = Mark.now()
    return TransientFault(what="a fault", told=now, gone=now, heal=now, back=now)


def test_a_drill_on_a_mesh_that_is_ill_already_is_void(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("cluster1 has no istiod"))
    with (
        pytest.raises(Broken, match=r"before a fault: the mesh was not healthy: cluster1 has no istiod"),
        drill_runner.drill("a fault"),
    ):
        pytest.fail("nothing must be broken then")
    assert drill_runner.rebuilt == []


def test_a_mesh_that_heals_is_left_as_it_is(drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = struck()
    assert drill.ill == []
    assert drill.healed_s is not None
    assert drill_runner.rebuilt == []


def test_a_mesh_that_does_not_heal_is_judged_and_made_anew(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "a stale endpoint"))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = struck()
    assert drill.ill == ["it did not get healthy: a stale endpoint"]
    assert drill_runner.rebuilt == ["a fault: a stale endpoint", "rebuilt"]


def test_a_part_that_does_not_come_back_is_judged_without_a_further_wait(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health(""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = replace(struck(), back=None, not_back="istiod: 0 of 1 pods ready")
    assert drill.ill == ["it did not get healthy: istiod: 0 of 1 pods ready"]
    assert drill.rebuilt
    assert not drill.leaves_unhealthy


def test_where_a_mesh_may_not_be_made_anew_a_next_drill_would_be_void(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "a stale endpoint"))
    drill_runner.rebuild = None
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = struck()
    assert drill.leaves_unhealthy


def test_a_part_that_does_not_come_back_stays_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotReady("istiod", "not within 120 s")

    mesh = mesh_of("multi-primary-samenet")
    fault_context = FaultContext(mesh=mesh, journal=Journal(tmp_path / "j"), links=None)
    monkeypatch.setattr(transient_faults, "cluster_uid", lambda kube: "uid")
    monkeypatch.setattr(transient_faults, "apply_undo", refuse)
    with transient_faults.transient_fault(
        fault_context, "a", "a fault", [(mesh.clusters[0], {"do": "ready"})], lambda: None
    ) as seen:
        pass
    assert (seen.back, seen.not_back) == (None, "istiod: not within 120 s")
    assert len(fault_context.journal.unhealed()) == 1


def test_a_drill_that_breaks_off_leaves_a_mesh_that_is_well(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "no endpoint"))
    with pytest.raises(ZeroDivisionError), drill_runner.drill("a fault"):
        raise ZeroDivisionError
    assert drill_runner.rebuilt == ["a fault: the mesh is healthy: no endpoint", "rebuilt"]


def test_sources_are_chosen_by_cluster_target_and_way() -> None:
    mesh = mesh_of("multi-primary-samenet")
    snapshot = snapshot_of("multi-primary-samenet")
    sources = tuple(Source(cluster=c.name, way=way) for c in mesh.clusters for way in Way)
    seen = drills.Drill(mesh=mesh, snapshot=snapshot, history=History(), sources=sources, begin=Mark.now())
    assert seen.of(cluster="cluster1") == ("cluster1 ingress new", "cluster1 ingress kept", "cluster1 client")
    assert seen.of(ways=(Way.CLIENT,), target=DEFAULT) == ("cluster1 client", "cluster2 client")
