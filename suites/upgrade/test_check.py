"""Whether the mesh is ready for another version of Istio."""

from __future__ import annotations

from datetime import datetime

from meshproof.claims import claim
from meshproof.errors import ClaimFailed
from meshproof.findings import listed
from meshproof.mesh import Mesh
from meshproof.options import UPGRADE_TO, Settings
from meshproof.report.evidence import Evidence
from meshproof.upgrade.check.judge import check
from meshproof.upgrade.check.rule import Severity
from meshproof.upgrade.check.target import parse_target
from meshproof.upgrade.check.verdict import render, summary


@claim(
    "UPGRADE-01",
    "nothing stands against the upgrade: versions, rights, webhooks, settings, filters and certificates fit the target",
    promised_by="istio.io, Canary Upgrades; istio.io, Supported Releases; istioctl x precheck",
    hint="every reason has its repair beside it; `meshproof upgrade check` tells the warnings too (docs/upgrade.md)",
    option=UPGRADE_TO.flag,
)
def test_the_mesh_is_ready_for_the_target(mesh: Mesh, settings: Settings, now: datetime, evidence: Evidence) -> None:
    """What is not ready shows itself in the middle of an upgrade, when some proxies are new and others are not."""
    verdict = check(mesh, parse_target(settings.upgrade_to, UPGRADE_TO.flag), now=now)
    evidence.attach("verdict", render(verdict))
    evidence.attach("verdict.json", verdict.as_plain())
    reasons = summary(verdict, Severity.NO_GO)
    if reasons:
        warned = len(verdict.of(Severity.WARNING))
        head = f"{verdict.outcome} for Istio {verdict.target} (reasons: {len(reasons)}, warnings: {warned})"
        raise ClaimFailed(f"{head}\n{listed('last seen', reasons, most=len(reasons))}")
