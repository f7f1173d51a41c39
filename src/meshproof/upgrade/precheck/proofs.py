"""Results of claims about the current mesh as reasons of a verdict: only a healthy mesh is ready for an upgrade."""

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
    """A failed claim is a NO-GO. A BROKEN claim, or one that did not run, makes the verdict NOT KNOWN.

    Claims that are skipped, or do not apply to the topology, are no reason as long as others of their family have run.
    """
    if isinstance(run, Broken):
        return [_unknown(ALL, f"they could not run: {run.what}: {run.reason}", run.repair)]
    return [*_failed(run), *_broken(run), *_not_run(run)]


def _failed(run: SuiteRun) -> Iterator[Reason]:
    for code, result in sorted(run.results.items()):
        if result is Result.FAILED:
            yield Reason(
                rule=CLAIM,
                severity=Severity.NO_GO,
                where=code,
                what=run.texts.get(code) or f"it is {result}",
                repair="repair this first (docs/claims.md)",
                source=f"pytest -k {code}",
            )


def _broken(run: SuiteRun) -> Iterator[Reason]:
    """One cause often breaks many claims: all get the same reason, which the verdict shows once."""
    causes: dict[tuple[str, str], list[str]] = {}
    for code, result in sorted(run.results.items()):
        if result is Result.BROKEN:
            text = run.texts.get(code, "")
            cause = why_broken(text) if text else (run.reasons.get(code, "unknown reason"), "")
            causes.setdefault(cause, []).append(code)
    for (why, repair), codes in causes.items():
        count = f"{len(codes)} claims are" if len(codes) > 1 else "1 claim is"
        for code in codes:
            yield _unknown(code, f"{count} BROKEN, so their results are unknown: {why}", repair, codes[0])


def _not_run(run: SuiteRun) -> Iterator[Reason]:
    if run.unfinished:
        yield _unknown(ALL, f"not all of them ran: {run.unfinished}", "")
    elif not any(result in _RAN for result in run.results.values()):
        counts = [f"{list(run.results.values()).count(result)} {result}" for result in Result if result not in _RAN]
        yield _unknown(ALL, f"none of them ran ({', '.join(counts)})", "see the reasons in claims/verdict.yaml")
    else:
        for line in run.missing:
            yield _unknown(ALL, line, "see the reasons in claims/verdict.yaml")


def _unknown(where: str, what: str, repair: str, code: str = "") -> Reason:
    return Reason(
        rule=CLAIM,
        severity=Severity.UNKNOWN,
        where=where,
        what=what,
        repair=repair or "fix what keeps the claims from running, then check again",
        source=f"pytest -k {code}" if code else "docs/upgrade.md",
    )
