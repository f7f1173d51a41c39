"""The course of a variant's trial, with the mesh and the suites replaced by notes of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from meshproof.calibration import variant_trial
from meshproof.calibration.specificity import VariantOutcome, Verdict
from meshproof.calibration.variant_trial import VariantTrial
from meshproof.calibration.variants.variant import Variant
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.core.errors import BadInput, NotReady
from meshproof.core.progress import Silent
from meshproof.faults.editor import Prevented
from meshproof.faults.fault import Fault
from meshproof.faults.journal import Journal
from tests.fakes import mesh_of

OK, FAILED = Result.SUCCEEDED, Result.FAILED
GREEN = SuiteRun(results={"DISCOVERY-01": OK, "TRUST-01": OK}, seconds=40.0)
RED = SuiteRun(results={"DISCOVERY-01": FAILED, "TRUST-01": OK}, reasons={"DISCOVERY-01": "one cluster"})
VARIANT = Variant(id="strict", sentence="mutual TLS is required", legal="istio.io, Security", apply=lambda editor: None)
S1 = Fault(
    id="S1",
    sentence="no remote secret",
    seen="local answers",
    source="life",
    kills=("DISCOVERY-01",),
    inject=lambda editor: None,
)
DRILL = replace(S1, id="D1", kills=("FAILOVER-01",))


class Course:
    """What was done, in order; `runs` are the results of the suites, one after the other."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.runs: list[SuiteRun] = []
        self.problems: dict[str, Exception] = {}

    def note(self, what: str) -> None:
        self.done.append(what)
        if problem := self.problems.get(what):
            raise problem


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    made = Course()

    def run_suites(*_: object, where: Sequence[str], **__: object) -> SuiteRun:
        assert any(option.startswith("--kubeconfig=") for option in where)
        made.note("suites")
        return made.runs.pop(0)

    def heal(*_: object, only: Sequence[str] = ()) -> None:
        made.note(f"heal {', '.join(only) or 'all'}")

    def add_probes(*_: object, lasting: bool) -> dict[object, tuple[str, ...]]:
        assert lasting
        made.note("app added")
        return {}

    monkeypatch.setattr(variant_trial, "run_suites", run_suites)
    monkeypatch.setattr(variant_trial, "apply_variant", lambda variant, *_: made.note(f"apply {variant.id}"))
    monkeypatch.setattr(variant_trial, "inject", lambda fault, *_: made.note(f"inject {fault.id}"))
    monkeypatch.setattr(variant_trial, "heal", heal)
    monkeypatch.setattr(variant_trial, "settle", lambda mesh: made.note("settle"))
    monkeypatch.setattr(variant_trial, "add_probes", add_probes)
    monkeypatch.setattr(variant_trial, "remove_probes", lambda *_: made.note("app removed"))
    monkeypatch.setattr(variant_trial, "uninstall_mesh", lambda *_: made.note("uninstall"))
    monkeypatch.setattr(variant_trial, "install_mesh", lambda *_: made.note("install"))
    return made


def trial(tmp_path: Path, *mutants: Fault, variant: Variant = VARIANT) -> VariantOutcome:
    return VariantTrial(
        variant,
        mesh_of("multi-primary-samenet"),
        Journal(tmp_path / "journal"),
        None,
        Silent(),
        usual=GREEN.results,
        mutants=mutants,
        lab_name="default",
        report_dir=tmp_path,
        root=tmp_path,
    ).run()


def test_a_variant_is_applied_verified_and_undone(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN]
    outcome = trial(tmp_path)
    assert (outcome.verdict, outcome.held, outcome.run_s) == (Verdict.GREEN, 2, 40.0)
    assert course.done == ["apply strict", "suites", "heal all", "app removed", "settle"]


def test_a_variant_of_the_demonstration_service_finds_it_there(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN]
    trial(tmp_path, variant=replace(VARIANT, with_app=True))
    assert course.done[:3] == ["app added", "apply strict", "suites"]


def test_mutants_are_injected_on_top_and_healed_alone(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN, RED]
    outcome = trial(tmp_path, S1, DRILL)
    assert (outcome.verdict, outcome.mutants) == (Verdict.GREEN, {"S1": "killed"})
    assert course.done[2:8] == ["app added", "inject S1", "suites", "heal S1", "app removed", "settle"]
    assert course.done[8] == "heal all"


def test_a_suite_that_tolerates_the_mutant_too_is_blind(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN, GREEN]
    outcome = trial(tmp_path, S1)
    assert outcome.verdict is Verdict.BLIND
    assert not outcome.verdict.good
    assert outcome.reason == "S1 survived (DISCOVERY-01 stayed SUCCEEDED)"


def test_trouble_with_a_mutant_leaves_the_result_of_the_variant(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN]
    course.problems["inject S1"] = BadInput("the suites", "the topology does not match")
    outcome = trial(tmp_path, S1)
    assert (outcome.verdict, outcome.held) == (Verdict.BLIND, 2)
    assert outcome.reason == "S1 run went wrong (the suites: the topology does not match)"
    assert course.done[-4:] == ["settle", "heal all", "app removed", "settle"]


def test_a_mutant_is_not_killed_by_a_claim_that_the_variant_turns_red(course: Course, tmp_path: Path) -> None:
    course.runs = [RED, RED]
    outcome = trial(tmp_path, S1)
    assert outcome.verdict is Verdict.RED
    assert outcome.explanation == "DISCOVERY-01 is FAILED (one cluster)"
    assert "killed" not in outcome.mutants["S1"]


def test_a_variant_that_is_rejected_is_not_legal(course: Course, tmp_path: Path) -> None:
    course.problems["apply strict"] = Prevented("the API server rejected it: no")
    outcome = trial(tmp_path)
    assert (outcome.verdict, outcome.reason) == (
        Verdict.TROUBLE,
        "it is not legal: the API server rejected it: no",
    )
    assert course.done[1:] == ["heal all", "app removed", "settle"]


def test_where_undoing_fails_the_mesh_is_installed_again(course: Course, tmp_path: Path) -> None:
    course.runs = [GREEN]
    course.problems["settle"] = NotReady("the mesh is healthy", "no")
    outcome = trial(tmp_path)
    assert outcome.verdict is Verdict.TROUBLE
    assert outcome.reason.startswith("undoing failed, so the mesh was reinstalled: the mesh is healthy: no")
    assert course.done[-3:] == ["uninstall", "install", "app removed"]
