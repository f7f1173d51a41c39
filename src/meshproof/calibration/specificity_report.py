"""`specificity.md` and `specificity.json`: every variant on every topology, and what is red or skipped there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from meshproof.calibration.outcome import CleanPass, Fate
from meshproof.calibration.report import false_alarms
from meshproof.calibration.report_files import pass_of, read_data, write_files
from meshproof.calibration.specificity import VariantOutcome, Verdict
from meshproof.calibration.variants.legal_mesh import LegalMesh
from meshproof.claims.references import linked

SCHEMA: Final = "meshproof/specificity/1"
TEXT: Final = "specificity.md"
DATA: Final = "specificity.json"
TITLE: Final = "# Specificity\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecificityReport:
    """The contents of a specificity report; `passes` are runs on the same meshes without a variant."""

    outcomes: Sequence[VariantOutcome] = ()
    passes: Sequence[CleanPass] = ()


def write_specificity(folder: Path, variants: Sequence[LegalMesh], report: SpecificityReport) -> tuple[Path, ...]:
    """Write both files into `folder`; returns them."""
    whole = {
        "schema": SCHEMA,
        "counts": Counter(str(outcome.verdict) for outcome in report.outcomes),
        "variants": [asdict(outcome) | {"explanation": outcome.explanation} for outcome in report.outcomes],
        "passes": [asdict(clean) for clean in report.passes],
    }
    text = "\n".join([*_summary(variants, report), *_details(report.outcomes)]) + "\n"
    return write_files(folder, {TEXT: text, DATA: whole})


def read_specificity(folder: Path) -> SpecificityReport:
    """The report of earlier runs in this folder. Raises `Broken` if the file is not such a report."""
    with read_data(folder, DATA, SCHEMA) as report:
        if report is None:
            return SpecificityReport()
        outcomes = [_outcome(row) for row in report["variants"]]
        return SpecificityReport(outcomes=outcomes, passes=[pass_of(row) for row in report["passes"]])


def _outcome(row: dict[str, Any]) -> VariantOutcome:
    row.pop("explanation")
    return VariantOutcome(**(row | {"verdict": Verdict(row["verdict"])}))


def render_specificity(variants: Sequence[LegalMesh], report: SpecificityReport) -> str:
    """Only the tables: variants by topology, what is skipped on them, and runs without a variant."""
    return "\n".join(_summary(variants, report)) + "\n"


def _summary(variants: Sequence[LegalMesh], report: SpecificityReport) -> list[str]:
    outcomes = report.outcomes
    topologies = list(dict.fromkeys(outcome.topology for outcome in outcomes))
    shown = [each for each in variants if any(each.id == outcome.variant for outcome in outcomes)]
    by_key = {outcome.key: outcome for outcome in outcomes}
    counts = Counter(outcome.verdict for outcome in outcomes)
    lines = [
        TITLE,
        "Each row is a legal mesh that differs from ours. *Green*: no claim failed or broke, and none was skipped but",
        "for the reason in the record. *Still kills*: faults that were detected on top of it.",
        "",
        ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "nothing ran",
        "",
        f"| variant | what differs | legal because | skips | still kills | {' | '.join(topologies)} |",
        f"|---|---|---|---|---|{'---|' * len(topologies)}",
    ]
    for each in shown:
        cells = [_cell(by_key.get((each.id, topology))) for topology in topologies]
        skips = "; ".join(f"{', '.join(skip.codes)}: {skip.reason}" for skip in each.skips)
        killed = _killed(outcome for outcome in outcomes if outcome.variant == each.id)
        row = (each.id, each.sentence, linked(each.legal), skips, ", ".join(killed), *cells)
        lines.append(f"| {' | '.join(row)} |")
    return lines + false_alarms(report.passes)


def _killed(outcomes: Iterable[VariantOutcome]) -> list[str]:
    """The faults that were detected on top of a variant wherever they were injected."""
    fates: dict[str, list[str]] = {}
    for outcome in outcomes:
        for fault, fate in outcome.mutants.items():
            fates.setdefault(fault, []).append(fate)
    return [fault for fault, seen in fates.items() if all(fate.startswith(Fate.KILLED) for fate in seen)]


def _cell(outcome: VariantOutcome | None) -> str:
    if outcome is None:
        return ""
    seconds = f" {outcome.apply_s + outcome.run_s + outcome.heal_s:.0f} s" if outcome.run_s else ""
    codes = ", ".join([*outcome.red, *outcome.unexpected])
    return f"{outcome.verdict}{f': {codes}' if codes else ''}{seconds}"


def _details(outcomes: Sequence[VariantOutcome]) -> list[str]:
    lines: list[str] = []
    for outcome in outcomes:
        if outcome.verdict is Verdict.NOT_HERE:
            continue
        lines += ["", f"## {outcome.variant} on {outcome.topology}: {outcome.verdict}", ""]
        lines += [outcome.reason, ""] if outcome.reason else []
        lines.append(
            f"Applied in {outcome.apply_s:.1f} s, verified in {outcome.run_s:.1f} s, undone in {outcome.heal_s:.1f} s; "
            f"{outcome.ran} UTC. {outcome.held} claims held."
        )
        rows = [f"- {code}: {text}" for code, text in {**outcome.red, **outcome.unexpected}.items()]
        rows += [f"- {code} was skipped: {text}" for code, text in outcome.skipped.items()]
        rows += [f"- mutant {fault}: {text}" for fault, text in outcome.mutants.items()]
        lines += ["", *rows] if rows else []
    unavailable = [outcome for outcome in outcomes if outcome.verdict is Verdict.NOT_HERE]
    if unavailable:
        lines += ["", "## Not available here", ""]
        lines += [f"- {outcome.variant} on {outcome.topology}: {outcome.reason}" for outcome in unavailable]
    return lines
