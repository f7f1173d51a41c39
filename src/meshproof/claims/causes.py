"""One cause, reported once: claims with the same result for the same reason, the most likely cause first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from meshproof.claims.results import ClaimResult, Result
from meshproof.core.errors import Broken

REPAIR: Final = "repair: "
"""Before the last part of a text of `Broken`."""


MOST_SUBJECTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Claims with one result for one reason. `text` is the reason, with all its lines, and `repair` how to repair it.

    The claims of a FAILED one have hints of their own.
    """

    result: Result
    text: str
    repair: str
    claims: tuple[ClaimResult, ...]

    @property
    def topologies(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(claim.topology for claim in self.claims))

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(sorted(dict.fromkeys(claim.code for claim in self.claims)))

    def as_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"result": str(self.result), "reason": self.text}
        if self.repair:
            plain["repair"] = self.repair
        return {**plain, "topologies": list(self.topologies), "claims": list(self.codes)}


def because(problem: BaseException) -> str:
    """The part of a problem that all claims with this cause have in common: not what each wanted when it met it."""
    if isinstance(problem, Broken):
        return f"{problem.reason}\n  {REPAIR}{problem.repair}" if problem.repair else problem.reason
    return str(problem).strip()


def causes_of(results: Iterable[ClaimResult]) -> list[Cause]:
    """First what several claims depend on, from the one with the most, then the others in their order.

    One claim that fails in several meshes has as many causes; what is BROKEN beneath them may be the same.
    """
    groups: dict[tuple[Result, str, str], list[ClaimResult]] = {}
    for each in results:
        mesh = each.topology if each.result is Result.FAILED else ""
        groups.setdefault((each.result, mesh, each.because or each.cause or each.reason), []).append(each)
    found = [_cause(result, common, claims) for (result, _, common), claims in groups.items()]
    return sorted(found, key=lambda cause: -len(cause.claims))


def _cause(result: Result, common: str, claims: Sequence[ClaimResult]) -> Cause:
    texts = list(dict.fromkeys(claim.cause or claim.reason for claim in claims))
    reason, repair = _split(texts[0] if len(texts) == 1 else common)
    if len(texts) > 1:
        subjects = list(dict.fromkeys(text.partition(reason.splitlines()[0])[0].rstrip(": ") for text in texts))
        more = f" and {len(subjects) - MOST_SUBJECTS} more" if len(subjects) > MOST_SUBJECTS else ""
        reason += f"\nmet in: {'; '.join(subjects[:MOST_SUBJECTS])}{more}"
    return Cause(result=result, text=reason, repair=repair, claims=tuple(claims))


def _split(text: str) -> tuple[str, str]:
    """A text of `Broken` without its repair, and the repair."""
    lines = text.strip().splitlines()
    repairs = [line.strip().removeprefix(REPAIR) for line in lines if line.strip().startswith(REPAIR)]
    return "\n".join(line for line in lines if not line.strip().startswith(REPAIR)), "; ".join(repairs)


def ranges(codes: Iterable[str]) -> str:
    """`TRUST-01 to TRUST-03, DISCOVERY-02`: three or more consecutive codes as a range."""
    return ", ".join(_ranges(sorted(set(codes))))


def _ranges(codes: Sequence[str]) -> Iterator[str]:
    numbered = [(family, int(number)) for family, _, number in (code.rpartition("-") for code in codes)]
    for _, group in groupby(enumerate(numbered), key=lambda item: (item[1][0], item[1][1] - item[0])):
        run = [f"{family}-{number:02}" for _, (family, number) in group]
        yield from run if len(run) < 3 else [f"{run[0]} to {run[-1]}"]
