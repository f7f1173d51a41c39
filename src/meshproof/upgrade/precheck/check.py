"""The check of a mesh for an upgrade: read, judged by every rule, and come to a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from meshproof.claims.suite_run import SuiteRun
from meshproof.core.errors import Broken
from meshproof.core.versions import UpgradeTarget
from meshproof.mesh.handles import Mesh
from meshproof.upgrade.precheck.facts import Facts
from meshproof.upgrade.precheck.istioctl import tool_reasons
from meshproof.upgrade.precheck.proofs import claim_reasons
from meshproof.upgrade.precheck.read import read_facts
from meshproof.upgrade.precheck.rule import Reason, Rule, Severity
from meshproof.upgrade.precheck.rules.access import ACCESS
from meshproof.upgrade.precheck.rules.settings import SETTINGS
from meshproof.upgrade.precheck.rules.versions import VERSIONS
from meshproof.upgrade.precheck.verdict import Verdict, verdict_of

RULES: Final[tuple[Rule, ...]] = (*VERSIONS, *ACCESS, *SETTINGS)
UNKNOWN: Final = "UNKNOWN"


def check(mesh: Mesh, target: UpgradeTarget, *, now: datetime, claims: SuiteRun | Broken | None = None) -> Verdict:
    """Whether `mesh` is ready for `target`. Reads only; about a second for each cluster, and istioctl's own time.

    `claims` are those of a run on the same mesh, or why they could not be run; None if nobody wanted them. Raises
    `Broken` if a cluster does not answer.
    """
    facts = read_facts(mesh, now)
    by_tool, told = tool_reasons(mesh, target)
    reasons = [*judged(facts, target), *by_tool, *(() if claims is None else claim_reasons(claims))]
    asked = [f"{len(RULES)} rules", *filter(None, (told,))]
    if isinstance(claims, SuiteRun):
        asked.append(f"{len(claims.results)} claims in {claims.seconds:.0f} s")
    return verdict_of(mesh.topology.name, str(target), facts, reasons, asked)


def judged(facts: Facts, target: UpgradeTarget, rules: Iterable[Rule] = RULES) -> Iterator[Reason]:
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
