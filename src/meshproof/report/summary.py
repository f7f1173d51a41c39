"""The summary of a run for terminals: failures with hints, then a table of topologies and families."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.claims.claim import Family
from meshproof.claims.results import ClaimResult, Ledger, Result


def summary_lines(ledger: Ledger, missing: Sequence[str]) -> list[str]:
    """Failures with their hints, then notes and missing results, then the table."""
    lines: list[str] = []
    for result in ledger.bad:
        lines.append(f"{result.result:<7} {result.code} on {result.topology}: {result.reason}")
        if result.result is Result.FAILED:
            lines.append(f"        try {result.hint}")
    lines += [f"NOTE    {place}: {note} ({', '.join(codes)})" for (place, note), codes in _notes(ledger).items()]
    lines += [f"MISSING {line}" for line in missing]
    if lines:
        lines.append("")
    return lines + table(ledger)


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
