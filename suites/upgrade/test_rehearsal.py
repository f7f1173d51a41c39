"""The upgrade itself, there and back, with load on and every claim proven on the way."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.report import upgrades as rehearsals
from meshproof.run.settings import UPGRADE_TO
from meshproof.upgrade.baseline.compare import compare
from meshproof.upgrade.baseline.render import grouped
from meshproof.upgrade.rehearsal.judge import judge
from meshproof.upgrade.rehearsal.run import Rehearsal
from meshproof.upgrade.rehearsal.steps import RETURNED, START, TARGET


@claim(
    "UPGRADE-02",
    "an upgrade changes nothing in what proxies hold and in who answers but what is known of the releases, and after "
    "the way back nothing has changed at all",
    promised_by="istio.io, In-place Upgrades; release notes of the releases on the way",
    hint="the evidence tells every difference; one that no rule explains is a change of this mesh, or one of Istio's "
    "that is not known yet (docs/record.md says how a rule is added)",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_what_changes_is_known(in_place: Rehearsal, by_revision: Rehearsal, evidence: Evidence) -> None:
    """An upgrade that loses no request can still leave a route, a weight or a certificate behind that was different."""
    findings = Findings("records")
    for rehearsal in (in_place, by_revision):
        for state in (TARGET, RETURNED):
            if state not in rehearsal.records:
                findings.examine(f"{rehearsal.way}, {state}", ["the upgrade did not come so far"])
                continue
            found = compare(rehearsal.records[START], rehearsal.records[state])
            findings.examine(f"{rehearsal.way}, {state}", list(grouped(found.unexplained)))
            evidence.attach(f"{rehearsal.way}-{state}", rehearsals.changes(found))
    findings.conclude()


@claim(
    "UPGRADE-03",
    "an upgrade by revision, and its rollback, lose no request that is made with resilient settings, and every claim "
    "holds after each step, with mixed versions too",
    promised_by="istio.io, Canary Upgrades",
    hint="the step that lost something is named, and its history tells when and from where; red claims have hints too",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_an_upgrade_by_revision_costs_nothing(by_revision: Rehearsal, evidence: Evidence) -> None:
    """Istio's recommended way: while two control planes are there every pod must know which one is its own."""
    findings = Findings("steps")
    judge(by_revision, findings)
    rehearsals.attach_upgrade(evidence, by_revision)
    findings.conclude()


@claim(
    "UPGRADE-04",
    "an upgrade in place, and its rollback, lose no request that is made with resilient settings, and every claim holds "
    "after each step, with mixed versions too",
    promised_by="istio.io, In-place Upgrades; Supported Releases: Control Plane/Data Plane Skew",
    hint="the step that lost something is named, and its history tells when and from where; red claims have hints too",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_an_upgrade_in_place_costs_nothing(in_place: Rehearsal, evidence: Evidence) -> None:
    """The shorter way: old proxies must go on under a new istiod until somebody restarts their pods."""
    findings = Findings("steps")
    judge(in_place, findings)
    rehearsals.attach_upgrade(evidence, in_place)
    findings.conclude()


@claim(
    "UPGRADE-05",
    "when a revision has been removed nothing points at it any more: webhooks, tags, namespaces, pods, routes",
    promised_by="istio.io, Canary Upgrades, Uninstall old control plane",
    hint="restart the pods that are named, set tags anew with `istioctl tag set`, and delete what is left of it",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_nothing_points_at_what_was_removed(by_revision: Rehearsal, evidence: Evidence) -> None:
    """A webhook without its istiod refuses every new pod, or worse lets it in without a sidecar, weeks later."""
    findings = Findings("removals")
    left = by_revision.left
    evidence.attach("left", dict(left))
    control = [] if left.get(START) else ["nothing pointed at the control plane that was in use, so the look is blind"]
    findings.examine(f"{by_revision.old} before it was removed", control)
    for state, gone in ((TARGET, by_revision.old), (RETURNED, by_revision.new)):
        missing = [] if state in left else ["the upgrade did not come so far"]
        findings.examine(f"{gone} after it was removed", [*missing, *left.get(state, ())])
    findings.conclude()
