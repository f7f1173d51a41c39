"""Rules of the upgrade check as data, and the reasons that they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from meshproof.core.versions import UpgradeTarget, Version
from meshproof.upgrade.precheck.facts import Facts


class Severity(StrEnum):
    """The effect of a reason on the verdict, most severe first; a note has none.

    `UNKNOWN`: a fact that the verdict needs is unknown. `WARNING`: the decision is the reader's.
    """

    NO_GO = "NO-GO"
    UNKNOWN = "NOT KNOWN"
    WARNING = "WARNING"
    NOTE = "NOTE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A violation of a rule: where, and what. Empty fields have the rule's values."""

    where: str
    what: str
    severity: Severity | None = None
    repair: str = ""
    source: str = ""


Judge = Callable[[Facts, UpgradeTarget], Iterable[Violation]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One entry of a verdict."""

    rule: str
    severity: Severity
    where: str
    what: str
    repair: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecheckRule:
    """One sentence that must hold before an upgrade.

    `source` is the documentation or code behind it, `severity` applies if it does not hold, `repair` is what to do
    then. `since` is the first target that it applies to; None: all.
    """

    id: str
    sentence: str
    source: str
    severity: Severity
    repair: str
    judge: Judge
    since: Version | None = None

    def reasons(self, facts: Facts, target: UpgradeTarget) -> Iterator[Reason]:
        """Reasons against an upgrade to `target`."""
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
