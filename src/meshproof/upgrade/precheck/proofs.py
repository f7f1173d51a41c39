"""The claims about the mesh as it is now, as reasons of a verdict: what is broken is no base for an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.claims.failure import why_broken
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.core.errors import Broken
from meshproof.upgrade.precheck.rule import Reason, Severity

CLAIM: Final = "CLAIM"
ALL: Final = "all claims"
_RAN: Final = (Result.SUCCEEDED, Result.FAILED, Result.BROKEN)


def claim_reasons(run: SuiteRun | Broken) -> list[Reason]:
    """A claim that failed is a no-go. Of one that is BROKEN, or was not run, nothing is known: that is no go either.

    Claims that are skipped, or do not apply to the topology, are no reason as long as others have run.
    """
    if isinstance(run, Broken):
        return [_unknown(ALL, f"they could not be run: {run.what}: {run.reason}", run.repair)]
    return [*_failed(run), *_broken(run), *_not_run(run)]


def _failed(run: SuiteRun) -> Iterator[Reason]:
    for code, result in sorted(run.results.items()):
        if result is Result.FAILED:
            yield Reason(
                rule=CLAIM,
                severity=Severity.NO_GO,
                where=code,
                what=run.texts.get(code) or f"it is {result}",
                repair="repair that first (docs/claims.md)",
                source=f"pytest -k {code}",
            )


def _broken(run: SuiteRun) -> Iterator[Reason]:
    """One cause mostly breaks many claims: for each of them the same reason, which the verdict shows once."""
    causes: dict[tuple[str, str], list[str]] = {}
    for code, result in sorted(run.results.items()):
        if result is Result.BROKEN:
            text = run.texts.get(code, "")
            cause = why_broken(text) if text else (run.reasons.get(code, "no reason is known"), "")
            causes.setdefault(cause, []).append(code)
    for (why, repair), codes in causes.items():
        count = f"{len(codes)} claims are" if len(codes) > 1 else "1 claim is"
        for code in codes:
            yield _unknown(code, f"{count} BROKEN, so nothing is known about what they prove: {why}", repair, codes[0])


def _not_run(run: SuiteRun) -> Iterator[Reason]:
    if run.unfinished:
        yield _unknown(ALL, f"not all of them were run: {run.unfinished}", "")
    elif not any(result in _RAN for result in run.results.values()):
        counts = [f"{list(run.results.values()).count(result)} {result}" for result in Result if result not in _RAN]
        yield _unknown(ALL, f"none of them was run ({', '.join(counts)})", "see why in claims/verdict.yaml")


def _unknown(where: str, what: str, repair: str, code: str = "") -> Reason:
    return Reason(
        rule=CLAIM,
        severity=Severity.UNKNOWN,
        where=where,
        what=what,
        repair=repair or "repair what keeps the claims from running, then check again",
        source=f"pytest -k {code}" if code else "docs/upgrade.md",
    )
