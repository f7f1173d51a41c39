"""Verdict of an upgrade check: GO, GO WITH WARNINGS, NO-GO or NOT KNOWN, and every reason with its repair."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.upgrade.precheck.facts import Facts
from meshproof.upgrade.precheck.rule import Reason, Severity

WIDTH: Final = 118
MOST_PLACES: Final = 8
SCHEMA: Final = "meshproof/upgrade-check/1"


class UpgradeOutcome(StrEnum):
    """The verdict in short. `exit_code` is that of the command; 1 and 2 are as for every command: 1 if the result is
    unknown, 2 for wrong input.
    """

    GO = "GO"
    WARNED = "GO WITH WARNINGS"
    NO_GO = "NO-GO"
    UNKNOWN = "NOT KNOWN"

    @property
    def exit_code(self) -> int:
        return {UpgradeOutcome.GO: 0, UpgradeOutcome.UNKNOWN: 1, UpgradeOutcome.WARNED: 3, UpgradeOutcome.NO_GO: 4}[
            self
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeVerdict:
    """The verdict for one mesh and one target. `reasons` are ordered by severity; `examined` lists what was checked."""

    mesh: str
    target: str
    versions: tuple[str, ...]
    reasons: tuple[Reason, ...]
    examined: tuple[str, ...]

    @property
    def outcome(self) -> UpgradeOutcome:
        """Determined by the most severe reason: an unknown fact outweighs a warning, but not a NO-GO."""
        severities = {reason.severity for reason in self.reasons}
        by_weight = {
            Severity.NO_GO: UpgradeOutcome.NO_GO,
            Severity.UNKNOWN: UpgradeOutcome.UNKNOWN,
            Severity.WARNING: UpgradeOutcome.WARNED,
        }
        return next((outcome for severity, outcome in by_weight.items() if severity in severities), UpgradeOutcome.GO)

    def of(self, severity: Severity) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.reasons if reason.severity is severity)

    def as_plain(self) -> Json:
        """The verdict as data for JSON, with the outcome first; schema 1 names the field `examined` "asked"."""
        fields = asdict(self)
        fields["asked"] = fields.pop("examined")
        return {"schema": SCHEMA, "outcome": str(self.outcome), "exit_code": self.outcome.exit_code, **fields}


_ORDER: Final = list(Severity)


def upgrade_verdict(
    mesh: str, target: str, facts: Facts, reasons: Sequence[Reason], examined: Sequence[str]
) -> UpgradeVerdict:
    """The verdict over these reasons."""
    return UpgradeVerdict(
        mesh=mesh,
        target=target,
        versions=tuple(_versions(facts)),
        reasons=tuple(sorted(_joined(reasons), key=lambda reason: _ORDER.index(reason.severity))),
        examined=tuple(examined),
    )


def _joined(reasons: Sequence[Reason]) -> Iterator[Reason]:
    """Merge equal reasons of several places into one with all places."""
    places: dict[Reason, dict[str, None]] = {}
    for reason in reasons:
        places.setdefault(replace(reason, where=""), {})[reason.where] = None
    for reason, where in places.items():
        shown = [
            *list(where)[:MOST_PLACES],
            *([f"{len(where) - MOST_PLACES} more"] if len(where) > MOST_PLACES else []),
        ]
        yield replace(reason, where=", ".join(shown))


def _versions(facts: Facts) -> Iterator[str]:
    for cluster in facts.clusters:
        istiods = ", ".join(f"{istiod.name} {istiod.version}" for istiod in cluster.istiods) or "remote"
        yield f"{cluster.name}: {istiods}, Kubernetes {cluster.kubernetes}"


def render_verdict(verdict: UpgradeVerdict) -> str:
    """The verdict as text, with the columns of failure texts."""
    counts = [f"{len(found)} {severity}" for severity in Severity if (found := verdict.of(severity))]
    lines = [f"{verdict.outcome}: {verdict.mesh} to Istio {verdict.target} ({', '.join(counts) or 'nothing found'})"]
    lines += _row("mesh", *verdict.versions)
    lines += _row("checked", *verdict.examined)
    for reason in verdict.reasons:
        lines += ["", *_reason(reason)]
    return "\n".join(lines) + "\n"


def _reason(reason: Reason) -> list[str]:
    return [
        f"{reason.severity:<9} {reason.rule}  {reason.where}",
        *_row("seen", *reason.what.splitlines()),
        *_row("repair", reason.repair),
        *_row("source", reason.source),
    ]


def _row(label: str, *texts: str) -> list[str]:
    lines: list[str] = []
    for text in texts:
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=f"  {label if not lines else '':<12}",
            subsequent_indent=" " * 14,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def summary(verdict: UpgradeVerdict, severity: Severity) -> list[str]:
    """One text for each reason of that severity, for the text of a claim."""
    return [
        f"{reason.rule} {reason.where}: {reason.what}\nrepair: {reason.repair}\nsource: {reason.source}"
        for reason in verdict.of(severity)
    ]
