"""Readiness for another version of Istio."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import listed
from meshproof.core.errors import ClaimFailed
from meshproof.core.versions import parse_target
from meshproof.run.claim_context import ClaimContext
from meshproof.run.settings import UPGRADE_TO
from meshproof.upgrade.precheck.check import check
from meshproof.upgrade.precheck.rule import Severity
from meshproof.upgrade.precheck.verdict import render_verdict, summary


@claim(
    "UPGRADE-01",
    "the mesh meets every requirement of an upgrade to the target version",
    promised_by="istio.io, Canary Upgrades; istio.io, Supported Releases; istioctl x precheck",
    hint="each reason names its repair; `meshproof upgrade check` lists the warnings too (docs/upgrade.md)",
    option=UPGRADE_TO.flag,
)
def test_the_mesh_is_ready_for_the_target(context: ClaimContext) -> None:
    """A missing requirement shows in the middle of an upgrade, when some proxies are new and others are not.

    Checked: versions, rights, webhooks, settings, filters and certificates. Warnings do not fail it.
    """
    verdict = check(context.mesh, parse_target(context.settings.upgrade_to, UPGRADE_TO.flag), now=context.now)
    context.evidence.attach("verdict", render_verdict(verdict))
    context.evidence.attach("verdict.json", verdict.as_plain())
    reasons = summary(verdict, Severity.NO_GO)
    if reasons:
        warned = len(verdict.of(Severity.WARNING))
        head = f"{verdict.outcome} for Istio {verdict.target} (reasons: {len(reasons)}, warnings: {warned})"
        raise ClaimFailed(f"{head}\n{listed('last seen', reasons, most=len(reasons))}")
