"""Rounds of soak runs: read from verdicts, added up, and shown with the causes of reds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproof.claims import suite_run
from meshproof.cli.main import main
from meshproof.core.errors import BadInput
from meshproof.report.reliability import (
    Round,
    merge,
    read_rounds,
    reliability_tables,
    rounds_in,
    verdicts_below,
    write_rounds,
)
from tools.docs import reliability as tool

LOST = "1 of 237 requests lost\n  first 12:00:01"


def verdict(path: Path, *, started: str = "2026-01-01T00:00:00+00:00", **claims: tuple[str, str]) -> Path:
    rows = {
        code.replace("_", "-"): {"result": result, "reason": reason, "duration_s": 1.0}
        for code, (result, reason) in claims.items()
    }
    document: dict[str, Any] = {
        "schema": "meshproof/verdict/1",
        "started": started,
        "istio": "1.31.0",
        "missing": [],
        "topologies": {"t": {"counts": {}, "claims": rows}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_round_has_what_held_and_what_was_red(tmp_path: Path) -> None:
    path = verdict(
        tmp_path / "verdict.yaml",
        TRUST_01=("SUCCEEDED", ""),
        TRAFFIC_01=("SKIPPED", "no ingress gateway"),
        FAILOVER_11=("FAILED", LOST),
    )
    (found,) = rounds_in(path)
    assert found == Round(
        started="2026-01-01T00:00:00+00:00",
        topology="t",
        failover=True,
        istio="1.31.0",
        held=1,
        red={"FAILOVER-11": "1 of 237 requests lost"},
    )
    assert str(found) == "t: 1 claims held; red: FAILOVER-11"


def test_a_run_without_drills_is_no_round_of_drills(tmp_path: Path) -> None:
    path = verdict(tmp_path / "verdict.yaml", TRUST_01=("SUCCEEDED", ""), FAILOVER_01=("SKIPPED", "not allowed"))
    assert [each.failover for each in rounds_in(path)] == [False]


def test_a_run_that_was_not_green_as_a_whole_is_red(tmp_path: Path) -> None:
    path = verdict(tmp_path / "verdict.yaml", TRUST_01=("SUCCEEDED", ""))
    path.write_text(path.read_text().replace("missing: []", "missing: [TRUST-02 has no result]"))
    assert [each.red for each in rounds_in(path)] == [{"run": "TRUST-02 has no result"}]


def test_rounds_add_up_and_causes_are_kept(tmp_path: Path) -> None:
    first = Round(started="2", topology="t", failover=True, istio="1", held=3, red={"TRUST-01": "why"})
    known = Round(started="2", topology="t", failover=True, istio="1", held=3, red=first.red, causes={"TRUST-01": "so"})
    other = Round(started="1", topology="t", failover=False, istio="1", held=4)
    path = tmp_path / "rounds.yaml"
    write_rounds(path, merge([known], [first, other]))
    assert read_rounds(path) == (other, known)
    write_rounds(path, [first])
    assert read_rounds(path)[0].causes == {"TRUST-01": "not known yet"}


def test_the_tables_count_by_topology_and_name_every_red() -> None:
    green = Round(started="2026-01-01T00:00:00", topology="t", failover=False, istio="1", held=41)
    red = Round(
        started="2026-01-02T10:11:12", topology="t", failover=True, istio="1", held=56, red={"FAILOVER-11": "a|b"}
    )
    assert reliability_tables([green]).endswith("| t | without | 1 | 41 | 0 | 0 |\n\nNo claim was red.")
    table = reliability_tables([green, red, red]).splitlines()
    assert "| t | with | 2 | 112 | 2 | 2 |" in table
    assert "| 2026-01-02 10:11 | t | FAILOVER-11 | a\\|b | not known yet |" in table


def test_a_damaged_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rounds.yaml"
    assert read_rounds(path) == ()
    path.write_text("schema: meshproof/reliability/1\nrounds: [{topology: t}]\n")
    with pytest.raises(BadInput, match="it is damaged"):
        read_rounds(path)
    with pytest.raises(BadInput, match=r"it has no verdict\.yaml"):
        verdicts_below(tmp_path)


def test_the_document_is_made_from_its_data() -> None:
    assert tool.DOCUMENT.read_text() == tool.document(read_rounds(tool.DATA))


class Runs:
    """Stands for pytest in a process of its own: each run has the next of these results."""

    def __init__(self, *results: str) -> None:
        self.results = list(results)
        self.commands: list[list[str]] = []

    def __call__(self, argv: list[str], **_: object) -> int:
        self.commands.append(argv)
        folder = Path(next(each for each in argv if each.startswith("--report-dir=")).partition("=")[2])
        if result := self.results.pop(0):
            verdict(folder / "verdict.yaml", started=str(len(self.commands)), TRUST_01=(result, "why"))
            (folder / "evidence").mkdir()
        return 0 if result == "SUCCEEDED" else 1


def test_a_soak_keeps_the_evidence_of_red_rounds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs("SUCCEEDED", "FAILED", "SUCCEEDED")
    monkeypatch.setattr(suite_run, "run_child", runs)
    chosen = ["soak", "--topology=multi-primary-samenet", "--without-failover", f"--report-dir={tmp_path}"]
    assert main([*chosen, "--rounds=2"]) == 1
    assert main([*chosen, "--rounds=1"]) == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["round-001", "round-002", "round-003"]
    assert [path.parent.name for path in tmp_path.glob("*/evidence")] == ["round-002"]
    assert len(list(tmp_path.glob("*/verdict.yaml"))) == 3
    assert runs.commands[0][:4] == [sys.executable, "-m", "pytest", "suites"]
    assert "--ignore=suites/failover" in runs.commands[0]
    assert "t: 0 claims held; red: TRUST-01" in capsys.readouterr().err


def test_a_round_without_a_verdict_ends_a_soak_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite_run, "run_child", Runs(""))
    assert main(["soak", "--rounds=1", f"--report-dir={tmp_path}"]) == 1
    assert "meshproof: round-001: exit code 1 and no verdict" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--rounds=0"], ["--rounds=1", "--topology=nowhere"]])
def test_wrong_input_starts_no_round(arguments: list[str], tmp_path: Path) -> None:
    assert main(["soak", f"--report-dir={tmp_path}", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []
