"""The claims about the mesh as it is now, as reasons of a verdict: what is broken is no base for an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.upgrade.precheck.rule import Reason, Severity

CLAIM: Final = "CLAIM"
_WEIGHT: Final[Mapping[Result, Severity]] = {Result.FAILED: Severity.NO_GO, Result.BROKEN: Severity.WARNING}


def claim_reasons(run: SuiteRun) -> list[Reason]:
    """A claim that failed is a no-go; of one that is BROKEN nothing is known, which is a warning."""
    return [
        Reason(
            rule=CLAIM,
            severity=_WEIGHT[result],
            where=code,
            what=run.texts.get(code) or f"it is {result}",
            repair="repair that first (docs/claims.md)",
            source=f"pytest -k {code}",
        )
        for code, result in sorted(run.results.items())
        if result in _WEIGHT
    ]
