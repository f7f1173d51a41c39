"""Judging mutants, choosing a day's slice, and the report, without a mesh."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from meshproof.calibration.daily_shard import part_of_day
from meshproof.calibration.outcome import CleanPass, Fate, TrialOutcome, judge_mutant
from meshproof.calibration.report import SensitivityReport, read_report, write_reports
from meshproof.claims import suite_run as suites
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun, _rows, _texts, run_claims, wrong_input
from meshproof.core.errors import BadInput, Broken
from meshproof.core.versions import next_release
from meshproof.faults.catalogue import FAULTS
from meshproof.faults.fault import Fault
from tools.docs.calibration import document

OK, FAILED, BROKEN, NA = Result.SUCCEEDED, Result.FAILED, Result.BROKEN, Result.NOT_APPLICABLE

FAULT = Fault(
    id="S1",
    sentence="the remote secret is gone",
    seen="only local answers",
    source="life",
    kills=("DISCOVERY-01", "DISCOVERY-04"),
    also=("TRAFFIC-01",),
    inject=lambda editor: None,
)


@pytest.mark.parametrize(
    ("results", "fate", "explanation"),
    [
        ({"DISCOVERY-01": FAILED, "DISCOVERY-04": FAILED, "TRUST-01": OK}, Fate.KILLED, ""),
        ({"DISCOVERY-01": FAILED, "DISCOVERY-04": FAILED, "TRAFFIC-01": FAILED}, Fate.KILLED, ""),
        ({"DISCOVERY-01": FAILED, "DISCOVERY-04": NA}, Fate.KILLED, ""),
        ({"DISCOVERY-01": FAILED}, Fate.KILLED, "not written yet: DISCOVERY-04"),
        ({"TRUST-01": OK}, Fate.UNWRITTEN, "not written yet: DISCOVERY-01, DISCOVERY-04"),
        (
            {"DISCOVERY-01": FAILED, "DISCOVERY-04": OK},
            Fate.SURVIVED,
            "DISCOVERY-04 stayed SUCCEEDED",
        ),
        (
            {"DISCOVERY-01": FAILED, "DISCOVERY-04": BROKEN},
            Fate.SURVIVED,
            "DISCOVERY-04 stayed BROKEN",
        ),
        (
            {"DISCOVERY-01": FAILED, "DISCOVERY-04": FAILED, "TRUST-01": BROKEN},
            Fate.SURVIVED,
            "TRUST-01 is red and should not be: BROKEN",
        ),
        (
            {"DISCOVERY-01": NA, "DISCOVERY-04": NA},
            Fate.SURVIVED,
            "no claim that should notice it applies to this topology",
        ),
    ],
)
def test_what_counts_as_killed(results: dict[str, Result], fate: Fate, explanation: str) -> None:
    outcome = judge_mutant(FAULT, "multi-primary-samenet", SuiteRun(results=results))
    assert (outcome.fate, outcome.explanation) == (fate, explanation)


def test_the_text_that_a_user_would_have_read_is_kept() -> None:
    texts = {"DISCOVERY-01": "DISCOVERY-01 …: it is wrong", "TRAFFIC-01": "TRAFFIC-01 …"}
    run = SuiteRun(results={"DISCOVERY-01": FAILED, "TRAFFIC-01": FAILED}, texts=texts)
    assert judge_mutant(FAULT, "t", run).texts == {"DISCOVERY-01": "DISCOVERY-01 …: it is wrong"}


def test_a_daily_shard_is_stable_and_all_mutants_get_their_turn() -> None:
    things = list(range(10))
    first = date(2026, 1, 1)
    assert part_of_day(things, 3, first) == part_of_day(things, 3, first)
    seen = {thing for day in range(4) for thing in part_of_day(things, 3, first + timedelta(days=day))}
    assert seen == set(things)
    assert part_of_day(things, 99, first) == tuple(things)


def test_the_reports(tmp_path: Path) -> None:
    killed = TrialOutcome(
        fault="S1",
        topology="multi-primary-samenet",
        fate=Fate.KILLED,
        red=("DISCOVERY-01",),
        texts={"DISCOVERY-01": "DISCOVERY-01 …: it is wrong\n  last seen   cluster1"},
        inject_s=1.0,
        run_s=20.0,
        heal_s=0.5,
        ran="2026-01-31T12:00+00:00",
    )
    absent = TrialOutcome(
        fault="S1", topology="primary-remote-samenet", fate=Fate.NOT_HERE, reason="there is no such thing"
    )
    text, data = write_reports(tmp_path, [FAULT], SensitivityReport(outcomes=[killed, absent]))
    assert text.read_text() == (
        "# Sensitivity\n\n"
        "Each row is a mesh with one fault. *Killed*: the claims that must notice it failed, and no others except\n"
        "those that it also breaks.\n\n"
        "1 killed, 1 not available here\n\n"
        "| mutant | what is wrong | must notice | multi-primary-samenet | primary-remote-samenet |\n"
        "|---|---|---|---|---|\n"
        "| S1 | the remote secret is gone | DISCOVERY-01, DISCOVERY-04 | killed 22 s | not available here |\n\n"
        "## S1 on multi-primary-samenet: killed\n\n"
        "the remote secret is gone. A user sees: only local answers.\n\n"
        "Injected in 1.0 s, verified in 20.0 s, healed in 0.5 s; 2026-01-31T12:00+00:00 UTC. Red: DISCOVERY-01.\n\n"
        "```text\nDISCOVERY-01 …: it is wrong\n  last seen   cluster1\n```\n\n"
        "## Not available here\n\n"
        "- S1 on primary-remote-samenet: there is no such thing\n"
    )
    read = json.loads(data.read_text())
    assert read["schema"] == "meshproof/sensitivity/1"
    assert read["counts"]["killed"] == 1
    assert [row["fate"] for row in read["mutants"]] == ["killed", "not available here"]


@pytest.mark.parametrize(
    ("run", "lines"),
    [
        (SuiteRun(results={"TRUST-01": OK, "TRUST-02": NA}), ()),
        (SuiteRun(results={"TRUST-01": FAILED}), ()),
        (SuiteRun(results={"TRUST-01": OK}, unfinished="exit code 2", missing=("m",)), ("exit code 2",)),
        (SuiteRun(results={"TRUST-01": OK}, missing=("nothing about TRAFFIC",)), ("nothing about TRAFFIC",)),
        (SuiteRun(results={"TRUST-02": NA}), ("nothing was asserted about the mesh",)),
    ],
)
def test_a_run_without_red_claims_may_still_know_nothing(run: SuiteRun, lines: tuple[str, ...]) -> None:
    assert run.unasked == lines


def test_a_run_is_read_back(tmp_path: Path) -> None:
    verdict = tmp_path / "verdict.yaml"
    verdict.write_text("topologies: {m: {claims: {TRUST-01: {result: FAILED}, TRUST-02: {result: SUCCEEDED}}}}")
    assert _rows(yaml.safe_load(verdict.read_text())) == {
        "TRUST-01": {"result": "FAILED"},
        "TRUST-02": {"result": "SUCCEEDED"},
    }
    junit = tmp_path / "junit.xml"
    junit.write_text(
        "<testsuites><testsuite><testcase name='a'><failure message='x'>TRUST-01 it holds: no</failure></testcase>"
        "<testcase name='b'><error message='x'>Traceback</error></testcase></testsuite></testsuites>"
    )
    assert _texts(junit) == {"TRUST-01": "TRUST-01 it holds: no"}
    assert _texts(tmp_path / "absent.xml") == {}


SUITE = """\
import pathlib, pytest

def pytest_addoption(parser):
    parser.addoption("--mesh")
    parser.addoption("--report-dir")

@pytest.fixture
def images():
    pytest.exit("images: none\\n  repair: use --client-image=IMAGE", returncode=4)

def pytest_sessionfinish(session):
    if session.testscollected:
        rows = "{A-01: {result: BROKEN, reason: no client}, A-02: {result: NOT_APPLICABLE}}"
        file = pathlib.Path(session.config.getoption("--report-dir")) / "verdict.yaml"
        file.write_text(f"topologies: {{m: {{claims: {rows}}}}}") if "silent" not in session.config.args[0] else None
"""


def test_an_unfinished_run_is_reported(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(SUITE)
    for name, body in (("ends", "(): pass"), ("stops", "(images): pass"), ("hangs", "(): import time; time.sleep(60)")):
        (tmp_path / f"{name}.py").write_text(f"def test_it{body}")
    (tmp_path / "silent.py").write_text("def test_it(images): pass")
    ended = run_claims(tmp_path, ["ends.py"], tmp_path / "r")
    assert (ended.results, ended.unfinished) == ({"A-01": BROKEN, "A-02": NA}, "")
    assert ended.reasons == {"A-01": "no client"}
    assert run_claims(tmp_path, ["stops.py"], tmp_path / "r").unfinished == "images: none"
    with pytest.raises(BadInput) as failure:
        run_claims(tmp_path, ["silent.py"], tmp_path / "r")
    assert (failure.value.reason, failure.value.repair) == ("images: none", "use --client-image=IMAGE")
    with pytest.raises(Broken, match="the suites: exit code 5 and no verdict"):
        run_claims(tmp_path, ["-k", "nothing", "ends.py"], tmp_path / "r")
    with pytest.raises(Broken, match=r"the suites: did not finish within 1\.5 s"):
        run_claims(tmp_path, ["hangs.py"], tmp_path / "r", limit_s=1.5)


@pytest.mark.parametrize(
    ("printed", "wrong"),
    [
        ("ERROR: --topology=x: there is none\n  repair: use y\n\n", ("--topology=x: there is none", "use y")),
        ("..\n!! _pytest.outcomes.Exit: rights: missing\n    get pods\n  repair: ask !!\n1 passed\n",
         ("rights: missing\n    get pods", "ask")),
        ("!!! _pytest.outcomes.Exit: a file: unreadable !!!\n", ("a file: unreadable", "")),
        ("1 failed\n", None),
    ],
)  # fmt: skip
def test_a_wrong_input_is_found_in_what_pytest_prints(printed: str, wrong: tuple[str, str] | None) -> None:
    assert wrong_input(printed) == wrong


def test_the_report_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    run = SuiteRun(results={"DISCOVERY-01": FAILED, "DISCOVERY-04": OK}, texts={"DISCOVERY-01": "DISCOVERY-01: x"})
    outcomes = [
        judge_mutant(FAULT, "multi-primary-samenet", run),
        TrialOutcome(
            fault="S1", topology="primary-remote-samenet", fate=Fate.NOT_HERE, reason="there is only one primary"
        ),
    ]
    passes = [CleanPass.of("multi-primary-samenet", SuiteRun(results={"TRUST-01": OK, "TRUST-02": NA}, seconds=18.04))]
    write_reports(tmp_path, [FAULT], SensitivityReport(outcomes=outcomes, passes=passes))
    assert read_report(tmp_path) == SensitivityReport(outcomes=outcomes, passes=passes)
    assert read_report(tmp_path / "elsewhere") == SensitivityReport()


def test_a_report_of_another_schema_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "sensitivity.json").write_text('{"schema": "other/1"}')
    with pytest.raises(Broken, match="its schema is other/1"):
        read_report(tmp_path)


def test_false_alarms_are_counted(tmp_path: Path) -> None:
    clean = CleanPass(topology="t", held=40, red=(), seconds=18.0, ran="2026-01-31T12:00+00:00")
    alarm = CleanPass(topology="t", held=39, red=("TRUST-01",), seconds=20.0, ran="2026-01-31T12:01+00:00")
    text, _ = write_reports(tmp_path, [FAULT], SensitivityReport(passes=[clean, clean, alarm]))
    assert "| t | 3 | 39 to 40 | TRUST-01 (2026-01-31T12:01+00:00 UTC) | 18 |" in text.read_text()


def test_the_document_has_the_tables_and_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"it has no sensitivity.json\n  repair: run pytest tests/sensitivity"):
        document(tmp_path)
    run = SuiteRun(results={"DISCOVERY-01": FAILED, "DISCOVERY-04": FAILED}, seconds=59.0)
    killed = replace(judge_mutant(FAULT, "multi-primary-samenet", run), inject_s=1.0, ran="2026-01-31T12:00+00:00")
    clean = CleanPass(topology="multi-primary-samenet", held=40, red=(), seconds=18.0, ran="2026-01-31T12:09+00:00")
    write_reports(tmp_path, [FAULT], SensitivityReport(outcomes=[killed], passes=[clean]))
    text = document(tmp_path)
    assert "Measured from 2026-01-31T12:00 to 2026-01-31T12:09 UTC on: " in text
    assert "All mutants took 1 minutes" in text
    assert "killed 60 s |" in text
    assert "| multi-primary-samenet | 1 | 40 | none | 18 |" in text
    assert "## S1 on" not in text


def test_which_claims_a_mutant_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(suites, "run_claims", lambda root, arguments, report_dir: started.append(arguments))
    suites.run_suites(tmp_path, "t", "l", tmp_path)
    suites.run_suites(tmp_path, "t", "l", tmp_path, drills=("FAILOVER-01", "FAILOVER-02"))
    suites.run_suites(tmp_path, "t", "l", tmp_path, upgrade_to="1.32")
    where = ("--topology=t", "--lab-name=l")
    well = tuple(f"suites/{name}" for name in ("trust", "discovery", "gateways", "controlplane", "traffic"))
    assert started == [
        (*well, *where),
        ("suites/failover", "-k", "FAILOVER-01 or FAILOVER-02", *where),
        (*well, "suites/upgrade/test_check.py", "--upgrade-to=1.32", *where),
    ]
    assert {each.id for each in FAULTS if each.before_upgrade} >= {"U1", "U4", "U5", "U6", "U7"}
    assert next_release("1.30.4-abc") == "1.31"
    with pytest.raises(Broken, match="Istio latest: not a version"):
        next_release("latest")
