"""`sensitivity.md` and `sensitivity.json`: every mutant on every topology, and what a user would have read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from meshproof.errors import Broken
from meshproof.faults.fault import Fault
from meshproof.sensitivity.outcome import Fate, Outcome

SCHEMA: Final = "meshproof/sensitivity/1"
TEXT: Final = "sensitivity.md"
DATA: Final = "sensitivity.json"


def write_reports(folder: Path, faults: Sequence[Fault], outcomes: Sequence[Outcome]) -> tuple[Path, Path]:
    """Write both files into `folder`; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / TEXT, folder / DATA
    text.write_text(render_markdown(faults, outcomes))
    rows = [asdict(outcome) | {"told": outcome.told} for outcome in outcomes]
    data.write_text(json.dumps({"schema": SCHEMA, "counts": counts(outcomes), "mutants": rows}, indent=2) + "\n")
    return text, data


def read_report(folder: Path) -> list[Outcome]:
    """The outcomes of earlier runs into the same folder. Raises `Broken` if the file is not such a report."""
    path = folder / DATA
    if not path.exists():
        return []
    try:
        told = json.loads(path.read_text())
        if told["schema"] != SCHEMA:
            raise Broken(str(path), f"its schema is {told['schema']}, not {SCHEMA}", "move it away")
        return [_outcome(row) for row in told["mutants"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise Broken(str(path), f"it cannot be read: {problem}", "move it away") from problem


def _outcome(row: dict[str, Any]) -> Outcome:
    row.pop("told")
    lists = {key: tuple(row[key]) for key in ("red", "unwritten")}
    return Outcome(**(row | lists | {"fate": Fate(row["fate"])}))


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {str(fate): sum(outcome.fate is fate for outcome in outcomes) for fate in Fate}


def render_markdown(faults: Sequence[Fault], outcomes: Sequence[Outcome]) -> str:
    """A table of mutants and topologies, then each mutant that ran with its times, its evidence and its text."""
    topologies = list(dict.fromkeys(outcome.topology for outcome in outcomes))
    by_key = {(outcome.fault, outcome.topology): outcome for outcome in outcomes}
    shown = [fault for fault in faults if any(fault.id == outcome.fault for outcome in outcomes)]
    lines = [
        "# Sensitivity",
        "",
        "Each row is a mesh with one thing wrong. *Killed*: the claims that must notice it failed, and no others than",
        "those that it truly breaks.",
        "",
        ", ".join(f"{count} {fate}" for fate, count in counts(outcomes).items() if count) or "nothing ran",
        "",
        f"| mutant | what is wrong | must notice | {' | '.join(topologies)} |",
        f"|---|---|---|{'---|' * len(topologies)}",
    ]
    for fault in shown:
        cells = [_cell(by_key.get((fault.id, topology))) for topology in topologies]
        lines.append(f"| {fault.id} | {fault.sentence} | {', '.join(fault.kills)} | {' | '.join(cells)} |")
    for fault in shown:
        for topology in topologies:
            outcome = by_key.get((fault.id, topology))
            if outcome is not None and outcome.fate is not Fate.NOT_HERE:
                lines += _section(fault, outcome)
    unavailable = [outcome for outcome in outcomes if outcome.fate is Fate.NOT_HERE]
    if unavailable:
        lines += ["", "## Not available here", ""]
        lines += [f"- {outcome.fault} on {outcome.topology}: {outcome.reason}" for outcome in unavailable]
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    seconds = f" {outcome.inject_s + outcome.run_s + outcome.heal_s:.0f} s" if outcome.run_s else ""
    return f"{outcome.fate}{seconds}"


def _section(fault: Fault, outcome: Outcome) -> list[str]:
    lines = ["", f"## {fault.id} on {outcome.topology}: {outcome.fate}", "", f"{fault.sentence}. {_seen(fault)}", ""]
    if outcome.told:
        lines += [outcome.told, ""]
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
