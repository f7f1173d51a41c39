"""Rehearsals of an upgrade and its rollback, under load, with every claim proven after each step."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.report import upgrades as rehearsals
from meshproof.run.settings import UPGRADE_TO
from meshproof.upgrade.baseline.compare import compare_records
from meshproof.upgrade.baseline.render import comparison_text, grouped
from meshproof.upgrade.rehearsal.judge import judge_rehearsal
from meshproof.upgrade.rehearsal.run import Rehearsal
from meshproof.upgrade.rehearsal.steps import RETURNED, START, TARGET


@claim(
    "UPGRADE-02",
    "an upgrade changes only what is known of the releases, and after the rollback nothing has changed",
    promised_by="istio.io, In-place Upgrades; release notes of the releases on the way",
    hint="the evidence lists every difference; one that no rule explains is a change of this mesh, or one of Istio's "
    "that is not known yet (docs/record.md: how to add a rule)",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_what_changes_is_known(upgrade_in_place: Rehearsal, upgrade_by_revision: Rehearsal, evidence: Evidence) -> None:
    """An upgrade that loses no request can still leave a changed route, weight or certificate behind.

    Compared: the configuration that proxies have, and who answers.
    """
    findings = Findings("records")
    for rehearsal in (upgrade_in_place, upgrade_by_revision):
        for state in (TARGET, RETURNED):
            if state not in rehearsal.records:
                findings.examine(f"{rehearsal.method}, {state}", ["the upgrade did not reach this step"])
                continue
            found = compare_records(rehearsal.records[START], rehearsal.records[state])
            findings.examine(f"{rehearsal.method}, {state}", [*grouped(found.unexplained), *found.gaps])
            if found.gaps and not found.unexplained:
                findings.doubt(f"{rehearsal.method}, {state}: not everything could be compared")
            evidence.attach(f"{rehearsal.method}-{state}", comparison_text(found))
    findings.conclude()


@claim(
    "UPGRADE-03",
    "an upgrade by revision and its rollback lose no request with resilience settings, and break no claim",
    promised_by="istio.io, Canary Upgrades",
    hint="the evidence names the step that lost requests, and its history has times and sources; failed claims have "
    "hints of their own",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_an_upgrade_by_revision_costs_nothing(upgrade_by_revision: Rehearsal, evidence: Evidence) -> None:
    """Istio's recommended way: while there are two control planes every pod must use its own.

    Every claim must hold after each step, with mixed versions too.
    """
    findings = Findings("steps")
    judge_rehearsal(upgrade_by_revision, findings)
    rehearsals.attach_upgrade(evidence, upgrade_by_revision)
    findings.conclude()


@claim(
    "UPGRADE-04",
    "an upgrade in place and its rollback lose no request with resilience settings, and break no claim",
    promised_by="istio.io, In-place Upgrades; Supported Releases: Control Plane/Data Plane Skew",
    hint="the evidence names the step that lost requests, and its history has times and sources; failed claims have "
    "hints of their own",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_an_upgrade_in_place_costs_nothing(upgrade_in_place: Rehearsal, evidence: Evidence) -> None:
    """The shorter way: old proxies must work under a new istiod until their pods are restarted.

    Every claim must hold after each step, with mixed versions too.
    """
    findings = Findings("steps")
    judge_rehearsal(upgrade_in_place, findings)
    rehearsals.attach_upgrade(evidence, upgrade_in_place)
    findings.conclude()


@claim(
    "UPGRADE-05",
    "after a revision has been removed nothing refers to it",
    promised_by="istio.io, Canary Upgrades, Uninstall old control plane",
    hint="restart pods that refer to the revision, set tags anew with `istioctl tag set`, and delete its remaining "
    "objects",
    disruptive=True,
    option=UPGRADE_TO.flag,
)
def test_nothing_refers_to_a_removed_revision(upgrade_by_revision: Rehearsal, evidence: Evidence) -> None:
    """A webhook without its istiod refuses every new pod, or worse admits it without a sidecar, weeks later.

    Checked: webhooks, tags, namespaces, pods and routes.
    """
    findings = Findings("removals")
    left = upgrade_by_revision.left
    evidence.attach("left", dict(left))
    control = (
        [] if left.get(START) else ["positive control failed: nothing refers to the control plane that was in use"]
    )
    findings.examine(f"{upgrade_by_revision.old} before it was removed", control)
    for state, gone in ((TARGET, upgrade_by_revision.old), (RETURNED, upgrade_by_revision.new)):
        missing = [] if state in left else ["the upgrade did not reach this step"]
        findings.examine(f"{gone} after it was removed", [*missing, *left.get(state, ())])
    findings.conclude()
