"""Results of claims, collected phase by phase as tests run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final


class Result(StrEnum):
    """The result of a claim in a run; from best to worst where a test has several phases."""

    SUCCEEDED = "SUCCEEDED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    BROKEN = "BROKEN"

    @property
    def good(self) -> bool:
        return self not in (Result.FAILED, Result.BROKEN)


_ORDER = list(Result)

NOT_APPLICABLE_PREFIX = "NOT_APPLICABLE: "
"""Prefix of a skip reason: the claim does not apply to the topology (rather than lacking something here)."""


WITHHELD: Final = "not allowed by the options"
"""In the reason of a skip: the user has not allowed what the claim needs."""

IN_REPORT: Final = "claim_result"
"""The attribute by which the report of a test carries its result from one process to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResult:
    """One claim on one topology. `reason` is one line, empty for a success; `duration_s` is of the test's call.

    `cause` is the whole text of a problem, with its repair; `because` is that part of it which is the same for all
    claims that have one cause, without what each of them wanted when it met it.

    `figures` are what it measured, by what it measured it of; `meshproof.report.verdict` documents them. `notes`
    are what a reader should know whatever became of it: what could not be examined, and advice.
    """

    topology: str
    code: str
    sentence: str
    hint: str
    result: Result
    reason: str = ""
    cause: str = ""
    because: str = ""
    duration_s: float = 0.0
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.code.partition("-")[0]

    def as_plain(self) -> dict[str, Any]:
        """Nothing but dicts, texts and numbers, as a message between processes must be."""
        figures = {of: {name: _plain(value) for name, value in values.items()} for of, values in self.figures.items()}
        return {**asdict(self), "result": str(self.result), "figures": figures}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ClaimResult:
        return cls(**{**plain, "result": Result(plain["result"]), "notes": tuple(plain["notes"])})


def _plain(value: float) -> float:
    return int(value) if isinstance(value, int) else float(value)


class Ledger:
    """The results of a run, in the order in which they came; the worst phase of a test counts."""

    def __init__(self, order: Iterable[str] = ()) -> None:
        """`order` is that of topologies; others follow in the order in which they came."""
        self._order = tuple(order)
        self._results: dict[tuple[str, str], ClaimResult] = {}

    def add(self, result: ClaimResult) -> None:
        key = (result.topology, result.code)
        before = self._results.get(key)
        if before is None:
            self._results[key] = result
            return
        worse = max(before, result, key=lambda r: _ORDER.index(r.result))
        self._results[key] = ClaimResult(
            topology=worse.topology,
            code=worse.code,
            sentence=worse.sentence,
            hint=worse.hint,
            result=worse.result,
            reason=worse.reason,
            cause=worse.cause,
            because=worse.because,
            duration_s=before.duration_s + result.duration_s,
            figures={**before.figures, **result.figures},
            notes=tuple(dict.fromkeys((*before.notes, *result.notes))),
        )

    def __iter__(self) -> Iterator[ClaimResult]:
        return iter(self._results.values())

    def __len__(self) -> int:
        return len(self._results)

    def of(self, topology: str) -> list[ClaimResult]:
        """The results on one topology, by code."""
        return sorted((r for r in self._results.values() if r.topology == topology), key=lambda r: r.code)

    @property
    def topologies(self) -> tuple[str, ...]:
        there = dict.fromkeys(result.topology for result in self._results.values())
        return tuple(dict.fromkeys([*(name for name in self._order if name in there), *there]))

    @property
    def bad(self) -> list[ClaimResult]:
        return [result for result in self._results.values() if not result.result.good]

    def counts(self, topology: str | None = None) -> dict[Result, int]:
        """How many results of each kind, over all topologies or on one; kinds that did not occur are zero."""
        counted = Counter(r.result for r in self._results.values() if topology in (None, r.topology))
        return {result: counted[result] for result in Result}


RED: Final = (Result.FAILED, Result.BROKEN)


FILE_NAME: Final = "verdict.yaml"
