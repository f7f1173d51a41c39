"""A rule of an upgrade as a record, and what it has found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from meshproof.core.versions import UpgradeTarget, Version
from meshproof.upgrade.precheck.facts import Facts


class Severity(StrEnum):
    """What a reason does to the verdict, the heaviest first; a note does nothing, and is reported.

    `UNKNOWN` is what had to be known for a verdict and is not; a `WARNING` leaves the decision to the reader.
    """

    NO_GO = "NO-GO"
    UNKNOWN = "NOT KNOWN"
    WARNING = "WARNING"
    NOTE = "NOTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rule has met: where, and what. The rest is the rule's, where nothing is said here."""

    where: str
    what: str
    severity: Severity | None = None
    repair: str = ""
    source: str = ""


Judge = Callable[[Facts, UpgradeTarget], Iterable[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One line of a verdict, complete."""

    rule: str
    severity: Severity
    where: str
    what: str
    repair: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sentence that must hold before an upgrade.

    `source` says where that is written or coded, `severity` what it means if it does not hold, `repair` what to do.
    `since` is the first target that it is about; None for all.
    """

    id: str
    sentence: str
    source: str
    severity: Severity
    repair: str
    judge: Judge
    since: Version | None = None

    def reasons(self, facts: Facts, target: UpgradeTarget) -> Iterator[Reason]:
        """What speaks against an upgrade to `target`."""
        if self.since is not None and target.version < self.since:
            return
        for found in self.judge(facts, target):
            yield Reason(
                rule=self.id,
                severity=found.severity or self.severity,
                where=found.where,
                what=found.what,
                repair=found.repair or self.repair,
                source=found.source or self.source,
            )
