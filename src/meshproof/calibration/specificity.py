"""Outcome of a variant: results of the suites on a legal mesh, where nothing may be red."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from meshproof.calibration.variants.legal_mesh import LegalMesh
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun

LEFT_OUT: Final = (Result.SKIPPED, Result.NOT_APPLICABLE)


class Verdict(StrEnum):
    """The result for a variant."""

    GREEN = "green"
    RED = "red"
    SKIPPED = "skipped too much"
    BLIND = "mutant survived"
    NOT_HERE = "not available here"
    TROUBLE = "run went wrong"

    @property
    def good(self) -> bool:
        return self in (Verdict.GREEN, Verdict.NOT_HERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantOutcome:
    """One variant on one topology.

    `red` are the claims that failed or broke, with the first line of their texts; `skipped` those that the record
    allows to be skipped, with their reasons, and `unexpected` those that it does not. `held` is the number of claims
    that held, and `mutants` what became of the faults that were injected on top, by ID. `ran` is the time in UTC.
    """

    variant: str
    topology: str
    verdict: Verdict
    reason: str = ""
    held: int = 0
    red: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    unexpected: Mapping[str, str] = field(default_factory=dict)
    mutants: Mapping[str, str] = field(default_factory=dict)
    apply_s: float = 0.0
    run_s: float = 0.0
    heal_s: float = 0.0
    ran: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="minutes"))

    @property
    def key(self) -> tuple[str, str]:
        return self.variant, self.topology

    @property
    def explanation(self) -> str:
        """In one line: why it has this verdict."""
        parts = [self.reason] if self.reason else []
        parts += [f"{code} is {text}" for code, text in self.red.items()]
        parts += [f"{code} should not be {text}" for code, text in self.unexpected.items()]
        return "; ".join(parts)


def judge_variant(variant: LegalMesh, topology: str, run: SuiteRun, usual: Mapping[str, Result]) -> VariantOutcome:
    """Green: no claim is FAILED or BROKEN, and SKIPPED or NOT_APPLICABLE are only those that the record names, with
    its reason, and those that are so on the same mesh without the variant (`usual`, the results there)."""
    red = {code: _line(run, code) for code in run.red}
    red |= {code: "missing: the run has no result for it" for code in usual if code not in run.results}
    skipped: dict[str, str] = {}
    unexpected: dict[str, str] = {}
    for code, result in run.results.items():
        if result not in LEFT_OUT or usual.get(code) in LEFT_OUT:
            continue
        reason, wanted = run.reasons.get(code, ""), variant.reason_to_skip(code)
        named = wanted is not None and wanted in reason
        (skipped if named else unexpected)[code] = reason if named else f"{result}: {reason}"
    if run.unfinished:
        verdict, text = Verdict.TROUBLE, run.unfinished
    elif red:
        verdict, text = Verdict.RED, ""
    elif not run.held:
        verdict, text = Verdict.RED, "no claim held"
    else:
        verdict, text = (Verdict.SKIPPED if unexpected else Verdict.GREEN), ""
    return VariantOutcome(
        variant=variant.id,
        topology=topology,
        verdict=verdict,
        reason=text,
        held=len(run.held),
        red=red,
        skipped=skipped,
        unexpected=unexpected,
        run_s=run.seconds,
    )


def without_known_red(run: SuiteRun, known: Mapping[str, str], variant: LegalMesh) -> SuiteRun:
    """A run with a mutant on top of a variant, as if the variant's own red claims and those that it keeps from being
    proven did not exist: whether the mutant is detected is judged by the others."""
    left = {
        code: result
        for code, result in run.results.items()
        if code not in known and not (result is Result.SKIPPED and variant.reason_to_skip(code) is not None)
    }
    return SuiteRun(results=left, texts=run.texts, seconds=run.seconds, reasons=run.reasons)


def _line(run: SuiteRun, code: str) -> str:
    """The result and its cause in one line; the first line of a failure text repeats the claim's sentence."""
    lines = (run.reasons.get(code) or run.texts.get(code, "")).strip().splitlines()
    return f"{run.results[code]}{f' ({lines[0][:200]})' if lines else ''}"
