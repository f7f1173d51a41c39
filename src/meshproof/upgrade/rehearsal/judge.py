"""Judges a rehearsal step by step: lost requests, an unhealthy mesh, claims that did not hold."""

from __future__ import annotations

from typing import Final

from meshproof.claims.findings import Findings
from meshproof.claims.results import Result
from meshproof.failover.drill import starved
from meshproof.upgrade.rehearsal.run import Rehearsal, StepResult, is_resilient

SHOWN: Final = 3
"""Lost requests that are listed individually."""


def judge_rehearsal(rehearsal: Rehearsal, findings: Findings) -> None:
    """Examine every step; a step that was not taken counts as failed.

    The failure is in doubt only if every failed step is in doubt.
    """
    failed = []
    for number, result in enumerate(rehearsal.results, start=1):
        problems = problems_of(result)
        findings.examine(f"{number}. {result.step.name}", problems)
        failed += [result] if problems else []
    doubts = [doubt_of(result) for result in failed]
    for doubt in doubts if all(doubts) else ():
        findings.doubt(doubt)
    for number, step in enumerate(rehearsal.untaken, start=len(rehearsal.results) + 1):
        findings.examine(f"{number}. {step.name}", ["not taken, since the mesh was unhealthy before it"])


def doubt_of(result: StepResult) -> str:
    """Why a problem in this step may not be a problem of the mesh; empty if there is no such reason.

    A failed claim is never in doubt, since claims run after the load has ended.
    """
    claim_results = result.claims.results if result.claims else {}
    if Result.FAILED in claim_results.values():
        return ""
    if doubt := starved(result.late_s):
        return doubt
    broken = [code for code, claim_result in claim_results.items() if claim_result is Result.BROKEN]
    only = broken and not (result.healthy_s is None or result.lost or result.silent)
    return f"{', '.join(broken)} could not be evaluated" if only else ""


def problems_of(result: StepResult, *, seen: bool = True) -> list[str]:
    """Problems of one step; empty if there are none. `seen` adds the last observation to red claims."""
    found = [f"not healthy afterwards: {result.unhealthy}"] if result.healthy_s is None else []
    if lost := result.lost:
        shown = "; ".join(map(str, lost[:SHOWN])) + ("; …" if len(lost) > SHOWN else "")
        sent = sum(map(is_resilient, result.requests))
        found.append(f"{len(lost)} of {sent} requests with resilience settings lost: {shown}")
    if not result.requests:
        found.append("no request was sent")
    found += [f"no request from {source} is known to have succeeded" for source in result.silent]
    if result.step.proven and result.healthy_s is not None:
        found += _of_claims(result, seen=seen)
    return found


def _of_claims(result: StepResult, *, seen: bool) -> list[str]:
    claims = result.claims
    if claims is None or not claims.held:
        return ["no claim was evaluated after it"]
    red = [_short(claims.texts.get(code, f"{code} without a failure text"), seen=seen) for code in claims.red]
    return [*red, *(f"not all claims were evaluated after it: {line}" for line in claims.unasked)]


def _short(text: str, *, seen: bool) -> str:
    """The first line of a failure text, which begins with the claim's code, and its last observation."""
    first, *others = text.splitlines()
    last = next((line.strip() for line in others if line.strip().startswith("last seen")), "")
    return f"{first.strip()} | {last}" if seen and last else first.strip()
