"""The check of a mesh for an upgrade: read, judged by every rule, and come to a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.core.versions import Target
from meshproof.mesh.handles import Mesh
from meshproof.upgrade.precheck.facts import Facts
from meshproof.upgrade.precheck.istioctl import tool_reasons
from meshproof.upgrade.precheck.read import read_facts
from meshproof.upgrade.precheck.rule import Reason, Rule, Severity
from meshproof.upgrade.precheck.rules.access import ACCESS
from meshproof.upgrade.precheck.rules.settings import SETTINGS
from meshproof.upgrade.precheck.rules.versions import VERSIONS
from meshproof.upgrade.precheck.verdict import Verdict, verdict_of

RULES: Final[tuple[Rule, ...]] = (*VERSIONS, *ACCESS, *SETTINGS)
UNKNOWN: Final = "UNKNOWN"
CLAIM: Final = "CLAIM"
_WEIGHT: Final[Mapping[Result, Severity]] = {Result.FAILED: Severity.NO_GO, Result.BROKEN: Severity.WARNING}


def check(mesh: Mesh, target: Target, *, now: datetime, claims: SuiteRun | None = None) -> Verdict:
    """Whether `mesh` is ready for `target`. Reads only; about a second for each cluster, and istioctl's own time.

    `claims` are those of a run on the same mesh, if there was one. Raises `Broken` if a cluster does not answer.
    """
    facts = read_facts(mesh, now)
    by_tool, told = tool_reasons(mesh, target)
    reasons = [*judged(facts, target), *by_tool, *(claim_reasons(claims) if claims else ())]
    asked = [f"{len(RULES)} rules", *filter(None, (told,))]
    asked += [f"{len(claims.results)} claims in {claims.seconds:.0f} s"] if claims else []
    return verdict_of(mesh.topology.name, str(target), facts, reasons, asked)


def judged(facts: Facts, target: Target, rules: Iterable[Rule] = RULES) -> Iterator[Reason]:
    """What the rules say of these facts, and what they could not be asked about."""
    for rule in rules:
        yield from rule.reasons(facts, target)
    for each in dict.fromkeys(facts.withheld):
        yield Reason(
            rule=UNKNOWN,
            severity=Severity.WARNING,
            where=each.where,
            what=f"{each.what} could not be read ({each.reason}): the rules about them say nothing",
            repair="ask for the right to read them: roles meshproof-verify, meshproof-read-secrets and "
            "meshproof-upgrade-check of deploy/clusterrole.yaml",
            source="docs/upgrade.md",
        )


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
