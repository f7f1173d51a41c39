"""Upgrade check of a mesh: reads it, applies every rule, and returns a verdict."""

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
from meshproof.upgrade.precheck.rule import PrecheckRule, Reason, Severity
from meshproof.upgrade.precheck.rules.access import ACCESS
from meshproof.upgrade.precheck.rules.settings import SETTINGS
from meshproof.upgrade.precheck.rules.versions import VERSIONS
from meshproof.upgrade.precheck.verdict import UpgradeVerdict, upgrade_verdict

RULES: Final[tuple[PrecheckRule, ...]] = (*VERSIONS, *ACCESS, *SETTINGS)
UNKNOWN: Final = "UNKNOWN"


def check(
    mesh: Mesh, target: UpgradeTarget, *, now: datetime, claims: SuiteRun | Broken | None = None
) -> UpgradeVerdict:
    """Whether `mesh` is ready for `target`. Read-only; takes about a second per cluster plus istioctl's own time.

    `claims` are the results of a run on the same mesh, or why they could not run; None if not requested. Raises
    `Broken` if a cluster does not respond.
    """
    facts = read_facts(mesh, now)
    by_tool, tool_runs = tool_reasons(mesh, target)
    reasons = [*judged(facts, target), *by_tool, *(() if claims is None else claim_reasons(claims))]
    examined = [f"{len(RULES)} rules", *filter(None, (tool_runs,))]
    if isinstance(claims, SuiteRun):
        examined.append(f"{len(claims.results)} claims in {claims.seconds:.0f} s")
    return upgrade_verdict(mesh.topology.name, str(target), facts, reasons, examined)


def judged(facts: Facts, target: UpgradeTarget, rules: Iterable[PrecheckRule] = RULES) -> Iterator[Reason]:
    """The reasons that the rules find in these facts, and one for each fact that could not be read."""
    for rule in rules:
        yield from rule.reasons(facts, target)
    for each in dict.fromkeys(facts.withheld):
        yield Reason(
            rule=UNKNOWN,
            severity=Severity.WARNING,
            where=each.where,
            what=f"{each.what} could not be read ({each.reason}), so the rules about them were not applied",
            repair="request the right to read them: roles meshproof-verify, meshproof-read-secrets and "
            "meshproof-upgrade-check of deploy/clusterrole.yaml",
            source="docs/upgrade.md",
        )
