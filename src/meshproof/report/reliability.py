"""Reliability: what many runs on healthy meshes have reported. Every red in one is a false alarm until its cause is
known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from meshproof.claims.results import FILE_NAME, RED, Result
from meshproof.core.errors import BadInput
from meshproof.core.path_options import read_text
from meshproof.report.verdict import read_verdict

SCHEMA: Final = "meshproof/reliability/1"
WHOLE_RUN: Final = "run"
"""Stands for the claim where the run as a whole was not green, although no claim was red."""
UNKNOWN: Final = "not known yet"
PROVEN: Final = (Result.SUCCEEDED, *RED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of the claims on one topology. `red` has the reason by claim, `causes` what was found to be behind it."""

    started: str
    topology: str
    failover: bool
    istio: str
    held: int
    red: Mapping[str, str] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.started, self.topology

    def __str__(self) -> str:
        red = f"; red: {', '.join(self.red)}" if self.red else ""
        return f"{self.topology}: {self.held} claims held{red}"


def rounds_in(verdict_file: Path) -> tuple[Round, ...]:
    """The rounds of one run, one for each topology. Raises `BadInput` if the file is no verdict."""
    verdict = read_verdict(verdict_file)
    found = []
    for topology, proofs in verdict.topologies.items():
        red = {proof.code: proof.text.splitlines()[0] if proof.text else "" for proof in proofs if proof.result in RED}
        if not red and verdict.missing:
            red = {WHOLE_RUN: "; ".join(verdict.missing)}
        held = [proof.code for proof in proofs if proof.result is Result.SUCCEEDED]
        drilled = [proof for proof in proofs if proof.code.startswith("FAILOVER-") and proof.result in PROVEN]
        found.append(
            Round(
                started=verdict.started,
                topology=topology,
                failover=bool(drilled),
                istio=verdict.istio,
                held=len(held),
                red=red,
            )
        )
    return tuple(found)


def verdicts_below(folder: Path) -> list[Path]:
    """Every verdict in a folder. Raises `BadInput` if there is none."""
    found = [folder] if folder.is_file() else sorted(folder.rglob(FILE_NAME))
    if not found:
        raise BadInput(f"folder {folder}", f"it has no {FILE_NAME}", "name the report folder of `meshproof soak`")
    return found


def merge(known: Iterable[Round], new: Iterable[Round]) -> tuple[Round, ...]:
    """All of them, each once, by time; of a round that is known already its causes are kept."""
    rounds = {each.key: each for each in new} | {each.key: each for each in known}
    return tuple(rounds[key] for key in sorted(rounds))


def read_rounds(path: Path) -> tuple[Round, ...]:
    """The rounds of a file that `write_rounds` wrote; none if it does not exist. Raises `BadInput` if it is damaged."""
    if not path.exists():
        return ()
    text = read_text(str(path), path, "restore it from version control")
    try:
        document = yaml.safe_load(text)
        if document["schema"] != SCHEMA:
            raise BadInput(str(path), f"its schema is {document['schema']}, not {SCHEMA}", "restore the file")
        return tuple(Round(**row) for row in document["rounds"])
    except (yaml.YAMLError, KeyError, TypeError) as problem:
        raise BadInput(str(path), f"it is damaged: {problem!r}", "restore it from version control") from None


def write_rounds(path: Path, rounds: Sequence[Round]) -> None:
    rows = [_row(each) for each in rounds]
    path.write_text(yaml.safe_dump({"schema": SCHEMA, "rounds": rows}, sort_keys=False, allow_unicode=True, width=120))


def _row(each: Round) -> dict[str, Any]:
    row: dict[str, Any] = {
        "started": each.started,
        "topology": each.topology,
        "failover": each.failover,
        "istio": each.istio,
        "held": each.held,
    }
    if each.red:
        row |= {"red": dict(each.red), "causes": {code: each.causes.get(code, UNKNOWN) for code in each.red}}
    return row


def reliability_tables(rounds: Sequence[Round]) -> str:
    """Two tables in Markdown: rounds and reds by topology, and every red with its cause."""
    lines = ["| topology | drills | rounds | claims held | rounds with a red | reds |", "|---|---|---|---|---|---|"]
    for topology, failover in sorted({(each.topology, each.failover) for each in rounds}):
        chosen = [each for each in rounds if (each.topology, each.failover) == (topology, failover)]
        reds = sum(len(each.red) for each in chosen)
        lines.append(
            f"| {topology} | {'with' if failover else 'without'} | {len(chosen)} | {sum(each.held for each in chosen)} "
            f"| {sum(bool(each.red) for each in chosen)} | {reds} |"
        )
    red = [(each, code) for each in rounds for code in each.red]
    if not red:
        return "\n".join([*lines, "", "No claim was red."])
    lines += ["", "| started (UTC) | topology | claim | reason | cause |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.started[:16].replace('T', ' ')} | {each.topology} | {code} | {_cell(each.red[code])} "
        f"| {_cell(each.causes.get(code, UNKNOWN))} |"
        for each, code in red
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
