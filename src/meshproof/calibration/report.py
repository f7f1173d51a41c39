"""`sensitivity.md` and `sensitivity.json`: every mutant on every topology, with the failure texts that users get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from meshproof.calibration.outcome import CleanPass, Fate, TrialOutcome
from meshproof.calibration.report_files import pass_of, read_data, write_files
from meshproof.faults.fault import Fault

SCHEMA: Final = "meshproof/sensitivity/1"
TEXT: Final = "sensitivity.md"
DATA: Final = "sensitivity.json"
EXPLANATION_KEY: Final = "told"
"""The key of an outcome's explanation in the JSON file; schema 1 has this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityReport:
    """The contents of a sensitivity report."""

    outcomes: Sequence[TrialOutcome] = ()
    passes: Sequence[CleanPass] = ()


def write_reports(folder: Path, faults: Sequence[Fault], report: SensitivityReport) -> tuple[Path, ...]:
    """Write both files into `folder`; returns them."""
    whole = {
        "schema": SCHEMA,
        "counts": fate_counts(report.outcomes),
        "mutants": [asdict(outcome) | {EXPLANATION_KEY: outcome.explanation} for outcome in report.outcomes],
        "passes": [asdict(clean) for clean in report.passes],
    }
    return write_files(folder, {TEXT: render_markdown(faults, report), DATA: whole})


def read_report(folder: Path) -> SensitivityReport:
    """The report of earlier runs in this folder. Raises `Broken` if the file is not such a report."""
    with read_data(folder, DATA, SCHEMA) as report:
        if report is None:
            return SensitivityReport()
        passes = [pass_of(row) for row in report.get("passes") or []]
        return SensitivityReport(outcomes=[_outcome(row) for row in report["mutants"]], passes=passes)


def _outcome(row: dict[str, Any]) -> TrialOutcome:
    row.pop(EXPLANATION_KEY)
    lists = {key: tuple(row[key]) for key in ("red", "unwritten")}
    return TrialOutcome(**(row | lists | {"fate": Fate(row["fate"])}))


def fate_counts(outcomes: Sequence[TrialOutcome]) -> dict[str, int]:
    return {str(fate): sum(outcome.fate is fate for outcome in outcomes) for fate in Fate}


def render_markdown(faults: Sequence[Fault], report: SensitivityReport) -> str:
    """A table of mutants and topologies, then each mutant that ran, with durations, evidence and failure text."""
    outcomes = report.outcomes
    lines = _summary(faults, report)
    for fault in _shown(faults, report):
        lines += [
            line
            for outcome in outcomes
            if outcome.fault == fault.id and outcome.fate is not Fate.NOT_HERE
            for line in _section(fault, outcome)
        ]
    unavailable = [outcome for outcome in outcomes if outcome.fate is Fate.NOT_HERE]
    if unavailable:
        lines += ["", "## Not available here", ""]
        lines += [f"- {outcome.fault} on {outcome.topology}: {outcome.reason}" for outcome in unavailable]
    return "\n".join(lines) + "\n"


def render_summary(faults: Sequence[Fault], report: SensitivityReport) -> str:
    """Only the tables: mutants by topology, and false alarms."""
    return "\n".join(_summary(faults, report)) + "\n"


def _shown(faults: Sequence[Fault], report: SensitivityReport) -> list[Fault]:
    return [fault for fault in faults if any(fault.id == outcome.fault for outcome in report.outcomes)]


def _summary(faults: Sequence[Fault], report: SensitivityReport) -> list[str]:
    outcomes = report.outcomes
    topologies = list(dict.fromkeys(outcome.topology for outcome in outcomes))
    by_key = {(outcome.fault, outcome.topology): outcome for outcome in outcomes}
    lines = [
        "# Sensitivity",
        "",
        "Each row is a mesh with one fault. *Killed*: the claims that must notice it failed, and no others except",
        "those that it also breaks.",
        "",
        ", ".join(f"{count} {fate}" for fate, count in fate_counts(outcomes).items() if count) or "nothing ran",
        "",
        f"| mutant | what is wrong | must notice | {' | '.join(topologies)} |",
        f"|---|---|---|{'---|' * len(topologies)}",
    ]
    for fault in _shown(faults, report):
        cells = [_cell(by_key.get((fault.id, topology))) for topology in topologies]
        lines.append(f"| {fault.id} | {fault.sentence} | {', '.join(fault.kills)} | {' | '.join(cells)} |")
    return lines + false_alarms(report.passes)


def false_alarms(passes: Sequence[CleanPass]) -> list[str]:
    """The table of runs on meshes without a fault; empty if there were none."""
    if not passes:
        return []
    lines = ["", "## False alarms", "", "Runs of the same claims on meshes without a fault.", ""]
    lines += ["| topology | passes | claims that held in each | red | seconds (median) |", "|---|---|---|---|---|"]
    for topology in dict.fromkeys(clean.topology for clean in passes):
        ours = [clean for clean in passes if clean.topology == topology]
        held = sorted({clean.held for clean in ours})
        red = [f"{code} ({clean.ran} UTC)" for clean in ours for code in clean.red]
        seconds = median(clean.seconds for clean in ours)
        shown = f"{held[0]} to {held[-1]}" if len(held) > 1 else str(held[0])
        lines.append(f"| {topology} | {len(ours)} | {shown} | {', '.join(red) or 'none'} | {seconds:.0f} |")
    return lines


def _cell(outcome: TrialOutcome | None) -> str:
    if outcome is None:
        return ""
    seconds = f" {outcome.inject_s + outcome.run_s + outcome.heal_s:.0f} s" if outcome.run_s else ""
    return f"{outcome.fate}{seconds}"


def _section(fault: Fault, outcome: TrialOutcome) -> list[str]:
    lines = ["", f"## {fault.id} on {outcome.topology}: {outcome.fate}", "", f"{fault.sentence}. {_seen(fault)}", ""]
    if outcome.explanation:
        lines += [outcome.explanation, ""]
    if outcome.run_s:
        lines.append(
            f"Injected in {outcome.inject_s:.1f} s, verified in {outcome.run_s:.1f} s, "
            f"healed in {outcome.heal_s:.1f} s; {outcome.ran} UTC. "
            f"Red: {', '.join(outcome.red) or 'nothing'}."
        )
    for text in outcome.texts.values():
        lines += ["", "```text", text.rstrip(), "```"]
    return lines


def _seen(fault: Fault) -> str:
    return f"A user sees: {fault.seen}."
