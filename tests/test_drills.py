"""Drills: judgements, charts, figures, availability monitor, and meshes that do not recover."""

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
from meshproof.failover.availability import AvailabilityMonitor, CheckResult
from meshproof.failover.drill import DrillRunner
from meshproof.failover.drill_judgements import must_have_been_healthy
from meshproof.failover.losses import felt, must_have_been_loaded
from meshproof.faults import transient as transient_faults
from meshproof.faults.journal import Journal
from meshproof.faults.transient import FaultContext, TransientFault
from meshproof.load.generator import DEFAULT, EntryPoint, Load, Source
from meshproof.load.history import History, Mark, RequestOutcome, Response, Window
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from tests.fakes import mesh_of, snapshot_of
from tests.test_history import request

WINDOW = Window(begin_s=0, end_s=10)


@pytest.fixture(autouse=True)
def without_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """These meshes have no client that could have ejected an endpoint."""
    monkeypatch.setattr(drills, "must_have_no_ejections", lambda snapshot: None)


def test_a_fault_that_lasts_too_long_is_reported_with_its_last_request() -> None:
    requests = [request(1.0), request(4.0, RequestOutcome.LOST), request(9.0)]
    assert felt(requests, 1.0, 3.0) == []
    (problem,) = felt(requests, 1.0, 2.0)
    assert problem.startswith("requests were lost or slow for 3.0 s, bound 2 s; last ")
    assert felt([request(1.0, RequestOutcome.UNKNOWN)], 0.0, 9.0) == ["no request was sent, or no outcome is known"]


def test_a_load_that_was_hardly_sent_proves_nothing() -> None:
    load = Load({"a": lambda: Response(status=200)}, rate=10)
    for number in range(79):
        load.history.add(request(number / 10))
    with pytest.raises(Broken, match="load from a: only 79 of about 100 requests were sent"):
        must_have_been_loaded(load, WINDOW)
    load.history.add(request(9.0))
    must_have_been_loaded(load, WINDOW)


def test_the_availability_monitor_reports_the_longest_time_without_a_good_result() -> None:
    def checked(at_s: float, wrong: str = "") -> CheckResult:
        return CheckResult(at_s=at_s, took_s=0.1, wrong=wrong)

    availability_monitor = AvailabilityMonitor(
        results={"injection": [checked(1), checked(2, "refused"), checked(4, "refused again"), checked(5), checked(8)]}
    )
    longest, words = availability_monitor.gap("injection", WINDOW)
    assert (round(longest, 3), words) == (3.9, "refused again")
    assert round(availability_monitor.gap("injection", Window(begin_s=4.5, end_s=30))[0], 3) == 21.9
    assert availability_monitor.gap("nothing", WINDOW) == (10, "")


def test_requests_in_flight_at_injection_are_no_control(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = ended_fault()
    injected_s = drill.transient_fault.injected.monotonic_s
    drill.begin = replace(drill.begin, monotonic_s=injected_s - 2)
    for sent_s, outcome in ((injected_s - 1, RequestOutcome.ANSWERED), (injected_s - 0.01, RequestOutcome.LOST)):
        drill.history.add(replace(request(sent_s, outcome), source="a"))
    must_have_been_healthy(drill, ("a",))
    drill.history.add(replace(request(injected_s - 0.5, RequestOutcome.LOST), source="a"))
    with pytest.raises(Broken, match="requests were lost before the fault: 1 of 2 requests lost"):
        must_have_been_healthy(drill, ("a",))


def test_failures_under_a_starved_load_generator_are_in_doubt(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = ended_fault()
    drill.late_s = {"cluster1 client": 2.6, "cluster2 client": 0.9}
    for exempt, kind in (("cluster1", ClaimFailed), ("", Broken)):
        findings = Findings("loads")
        findings.examine("a")
        drill.report(findings, but=exempt)
        findings.conclude()
        findings.examine("b", ["a request was lost"])
        with pytest.raises(
            kind, match=r"1 of 2 loads are wrong\n  last seen   b: a request was lost\n  fault  "
        ) as failure:
            findings.conclude()
        assert ("(behind schedule by 2.6 s for cluster1 client): 1 of 2" in str(failure.value)) is (kind is Broken)


# -- an unhealthy mesh ------------------------------------------------------------------------------------------------


class Health:
    """Replaces the health check of a mesh: returns the given problem at each call."""

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
        fault_context=FaultContext(mesh=mesh, journal=Journal(tmp_path / "j"), machine_control=None), narrator=Silent()
    )
    drill_runner.rebuild = lambda: drill_runner.rebuilt.append("rebuilt")
    return drill_runner


def ended_fault() -> TransientFault:
    now = Mark.now()
    return TransientFault(what="a fault", injected=now, gone=now, heal=now, back=now)


def test_a_drill_on_an_unhealthy_mesh_is_void(drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("cluster1 has no istiod"))
    with (
        pytest.raises(Broken, match=r"before a fault: the mesh was unhealthy: cluster1 has no istiod"),
        drill_runner.drill("a fault"),
    ):
        pytest.fail("nothing must be broken then")
    assert drill_runner.rebuilt == []


def test_a_mesh_that_heals_is_left_as_it_is(drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", ""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = ended_fault()
    assert drill.unhealthy == []
    assert drill.healed_s is not None
    assert drill_runner.rebuilt == []


def test_a_mesh_that_does_not_recover_is_judged_and_reinstalled(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "a stale endpoint"))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = ended_fault()
    assert drill.unhealthy == ["the mesh did not recover: a stale endpoint"]
    assert drill_runner.rebuilt == ["a fault: a stale endpoint", "rebuilt"]


def test_a_component_that_does_not_recover_is_judged_without_a_further_wait(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health(""))
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = replace(ended_fault(), back=None, not_back="istiod: 0 of 1 pods ready")
    assert drill.unhealthy == ["the mesh did not recover: istiod: 0 of 1 pods ready"]
    assert drill.rebuilt
    assert not drill.leaves_unhealthy


def test_a_mesh_that_cannot_be_reinstalled_is_unfit_for_another_drill(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "a stale endpoint"))
    drill_runner.rebuild = None
    with drill_runner.drill("a fault") as drill:
        drill.transient_fault = ended_fault()
    assert drill.leaves_unhealthy


def test_a_component_that_does_not_recover_stays_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotReady("istiod", "not within 120 s")

    mesh = mesh_of("multi-primary-samenet")
    fault_context = FaultContext(mesh=mesh, journal=Journal(tmp_path / "j"), machine_control=None)
    monkeypatch.setattr(transient_faults, "cluster_uid", lambda kube: "uid")
    monkeypatch.setattr(transient_faults, "apply_undo", refuse)
    with transient_faults.transient_fault(
        fault_context, "a", "a fault", [(mesh.clusters[0], {"do": "ready"})], lambda: None
    ) as seen:
        pass
    assert (seen.back, seen.not_back) == (None, "istiod: not within 120 s")
    assert len(fault_context.journal.unhealed()) == 1


def test_a_drill_that_is_aborted_leaves_a_healthy_mesh(
    drill_runner: DrillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "must_be_healthy", Health("", "no endpoint"))
    with pytest.raises(ZeroDivisionError), drill_runner.drill("a fault"):
        raise ZeroDivisionError
    assert drill_runner.rebuilt == ["a fault: the mesh is healthy: no endpoint", "rebuilt"]


def test_sources_are_chosen_by_cluster_target_and_entry_point() -> None:
    mesh = mesh_of("multi-primary-samenet")
    snapshot = snapshot_of("multi-primary-samenet")
    sources = tuple(Source(cluster=c.name, entry_point=each) for c in mesh.clusters for each in EntryPoint)
    seen = drills.Drill(mesh=mesh, snapshot=snapshot, history=History(), sources=sources, begin=Mark.now())
    assert seen.of(cluster="cluster1") == ("cluster1 ingress new", "cluster1 ingress kept", "cluster1 client")
    assert seen.of(entry_points=(EntryPoint.CLIENT,), target=DEFAULT) == ("cluster1 client", "cluster2 client")
