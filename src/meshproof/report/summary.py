"""The summary of a run for terminals: each cause once with hints, then a table of topologies and families."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from meshproof.claims.causes import Cause, causes_of, ranges
from meshproof.claims.claim import Family
from meshproof.claims.results import ClaimResult, Ledger, Result
from meshproof.report.verdict import RunOutcome, run_outcome

WIDTH: Final = 118
MOST_LINES: Final = 12
"""Lines of a cause that are shown; files of the report have all of it."""
_INDENT: Final = " " * 8


def summary_lines(ledger: Ledger, missing: Sequence[str]) -> list[str]:
    """What is red, each cause once and the most likely first; then notes, what was not asked, and the table."""
    lines: list[str] = []
    for cause in causes_of(ledger.bad):
        lines += _of_one(cause.claims[0]) if len(cause.claims) == 1 else _of_several(cause)
    for (place, note), codes in _notes(ledger).items():
        lines += _filled(f"NOTE    {place}: {note} ({', '.join(codes)})")
    for cause in causes_of(result for result in ledger if result.result in _NOT_ASKED):
        lines += _not_asked(cause)
    lines += [f"MISSING {line}" for line in missing]
    if lines:
        lines.append("")
    return lines + table(ledger)


def outcome_line(ledger: Ledger, missing: Sequence[str]) -> str:
    """The verdict in one line: `GO: 41 claims hold, 2 were not asked`."""
    lacks = ", the run lacks what is listed as MISSING" if missing else ""
    return f"{outcome_text(run_outcome(ledger, missing), ledger.counts())}{lacks}"


def outcome_text(outcome: RunOutcome, counts: Mapping[Result, int]) -> str:
    """An outcome with the number of claims of each result."""
    words = {
        Result.FAILED: ("does not hold", "do not hold"),
        Result.BROKEN: ("is BROKEN (nothing is known about it)", "are BROKEN (nothing is known about them)"),
        Result.SUCCEEDED: ("holds", "hold"),
        Result.SKIPPED: ("was not asked", "were not asked"),
    }
    there = [(number, words[result][number > 1]) for result in words if (number := counts.get(result, 0))]
    parts = [f"{number} {text}" for number, text in there] or ["no claim applies"]
    if there:
        parts[0] = f"{there[0][0]} claim{'s' if there[0][0] > 1 else ''} {there[0][1]}"
    return f"{outcome}: {', '.join(parts)}"


_NOT_ASKED: Final = {Result.SKIPPED: "SKIPPED", Result.NOT_APPLICABLE: "N/A"}


def _of_one(result: ClaimResult) -> list[str]:
    lines = [f"{result.result:<7} {result.code} on {result.topology}: {result.reason}"]
    return [*lines, f"        try {result.hint}"] if result.result is Result.FAILED else lines


def _of_several(cause: Cause) -> list[str]:
    """The cause with all its lines, since no claim's own text is shown."""
    body = cause.text.splitlines()
    if len(body) > MOST_LINES:
        body = [*body[:MOST_LINES], f"… and {len(body) - MOST_LINES} more lines"]
    return [
        *_filled(f"{cause.result:<7} {len(cause.claims)} claims for one cause, on {', '.join(cause.topologies)}:"),
        *(wrapped for line in body for wrapped in _wrapped(line)),
        *(_wrapped(f"repair: {cause.repair}") if cause.repair else []),
        *_wrapped(f"claims: {ranges(cause.codes)}"),
    ]


def _not_asked(cause: Cause) -> list[str]:
    reason = " ".join(cause.text.split())
    repair = f" ({cause.repair})" if cause.repair else ""
    text = f"{_NOT_ASKED[cause.result]:<7} {ranges(cause.codes)} on {', '.join(cause.topologies)}: {reason}{repair}"
    return _filled(text)


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def _wrapped(line: str) -> list[str]:
    """A line below the head of its cause; its own indentation is kept."""
    indent = _INDENT + line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _notes(ledger: Ledger) -> dict[tuple[str, str], list[str]]:
    """The claims with each note, by topology."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in ledger:
        for note in result.notes:
            found.setdefault((result.topology, note), []).append(result.code)
    return found


def table(ledger: Ledger) -> list[str]:
    """One row per topology, one column per family that occurs: `5 ok`, `3 ok 1 failed`, `-` where nothing applies."""
    families = [family for family in Family if any(result.family == family for result in ledger)]
    if not families:
        return []
    rows = [["topology", *(str(family).lower() for family in families)]]
    for topology in ledger.topologies:
        results = ledger.of(topology)
        rows.append([topology, *(_cell([r for r in results if r.family == family]) for family in families)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


_WORDS = {Result.SUCCEEDED: "ok", Result.FAILED: "failed", Result.BROKEN: "broken", Result.SKIPPED: "skipped"}


def _cell(results: Sequence[ClaimResult]) -> str:
    counted = {word: sum(r.result is result for r in results) for result, word in _WORDS.items()}
    return " ".join(f"{count} {word}" for word, count in counted.items() if count) or "-"
