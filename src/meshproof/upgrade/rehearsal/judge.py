"""What is wrong with a rehearsal: a request that was lost, a mesh that was unhealthy, a claim that did not hold, and where."""

from __future__ import annotations

from typing import Final

from meshproof.claims.findings import Findings
from meshproof.claims.results import Result
from meshproof.failover.drill import starved
from meshproof.upgrade.rehearsal.run import Rehearsal, StepResult, is_resilient

SHOWN: Final = 3
"""Lost requests that are told one by one."""


def judge_rehearsal(rehearsal: Rehearsal, findings: Findings) -> None:
    """Every step is examined; those that were not taken are wrong too, since nothing is known of them.

    There is doubt if there is in every step that is wrong: one without is enough.
    """
    wrong = []
    for number, stage in enumerate(rehearsal.results, start=1):
        problems = problems_of(stage)
        findings.examine(f"{number}. {stage.step.name}", problems)
        wrong += [stage] if problems else []
    doubts = [doubt_of(stage) for stage in wrong]
    for doubt in doubts if all(doubts) else ():
        findings.doubt(doubt)
    for number, step in enumerate(rehearsal.untaken, start=len(rehearsal.results) + 1):
        findings.examine(f"{number}. {step.name}", ["not taken, since the mesh was unhealthy before it"])


def doubt_of(stage: StepResult) -> str:
    """Why what is wrong with a step need not be wrong with the mesh; empty if a claim failed, since claims are proven
    when the load has ended, or if nothing speaks for it."""
    results = stage.claims.results if stage.claims else {}
    if Result.FAILED in results.values():
        return ""
    if doubt := starved(stage.late_s):
        return doubt
    broken = [code for code, result in results.items() if result is Result.BROKEN]
    only = broken and not (stage.healthy_s is None or stage.lost or stage.silent)
    return f"nothing is known about {', '.join(broken)}" if only else ""


def problems_of(stage: StepResult, *, seen: bool = True) -> list[str]:
    """What is wrong with one step; empty if all is healthy. `seen` adds to red claims what they saw last."""
    found = [f"not healthy afterwards: {stage.unhealthy}"] if stage.healthy_s is None else []
    if lost := stage.lost:
        shown = "; ".join(map(str, lost[:SHOWN])) + ("; …" if len(lost) > SHOWN else "")
        asked = sum(map(is_resilient, stage.requests))
        found.append(f"{len(lost)} of {asked} requests with resilient settings lost: {shown}")
    if not stage.requests:
        found.append("no request was sent")
    found += [f"nothing is known of the requests of {source}" for source in stage.silent]
    if stage.step.proven and stage.healthy_s is not None:
        found += _of_claims(stage, seen=seen)
    return found


def _of_claims(stage: StepResult, *, seen: bool) -> list[str]:
    claims = stage.claims
    if claims is None or not claims.held:
        return ["no claim was proven after it"]
    return [_short(claims.texts.get(code, f"{code} without a text"), seen=seen) for code in claims.red]


def _short(text: str, *, seen: bool) -> str:
    """The first line of a failure, which begins with the claim's code, and what was seen."""
    first, *others = text.splitlines()
    last = next((line.strip() for line in others if line.strip().startswith("last seen")), "")
    return f"{first.strip()} | {last}" if seen and last else first.strip()
