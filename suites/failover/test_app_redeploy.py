"""The book's drill (chapter 8): istiod of one cluster stopped, its application deleted, requests; again deployed.

One drill, two claims, with the default settings and with those that an operator should use side by side: the same
pods, the same faults, at the same time. docs/failover.md tells what the book says, and what is seen.
"""

from __future__ import annotations

from meshproof.claims.claim import TWO_PRIMARIES, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, DEADLINES
from meshproof.failover.app_redeploy import AppRedeploy
from meshproof.failover.drill import felt, lost, must_have_been_healthy
from meshproof.load.generator import DEFAULT
from meshproof.load.history import summarise
from meshproof.report import drills


@claim(
    "FAILOVER-05",
    "with the istiod of a cluster stopped its application is deleted: through the other clusters every request is "
    "answered once its pods are gone (with resilient settings before, too); through its own the dead endpoint costs "
    "requests and time, with outlier detection, a connect timeout and retries only within a bound",
    promised_by="istio.io, Destination Rule: outlierDetection, connectionPool; Virtual Service: retries (the book's "
    "drill; what the default settings cost is measured, not judged)",
    hint="the bound: docs/failover.md has the settings; the other clusters: their istiod must see the deletion "
    "(DISCOVERY-03)",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_a_dead_endpoint_that_nobody_reports(book: AppRedeploy, evidence: Evidence) -> None:
    """Without its istiod nobody tells a proxy that an endpoint is gone: it has to find out by itself."""
    findings = Findings("loads")
    drill, bound = book.drill, BOUNDS.route_around.seconds
    drills.attach_drill(evidence, drill, "book")
    gone, measured = book.removed.told.monotonic_s, dict[str, str]()
    for source in drill.sources:
        must_have_been_healthy(drill, (str(source),))
        sent = drill.history.sent_in(book.without_app, sources=(str(source),))
        if source.cluster != book.victim.name:
            window = book.after_death if source.target is DEFAULT else book.without_app
            findings.examine(str(source), lost(drill.history, window, (str(source),)))
        elif source.target is not DEFAULT:
            findings.examine(str(source), felt(sent, gone, bound))
        measured[str(source)] = str(summarise(sent))
    evidence.attach("measured-without-the-application", measured)
    drill.tell(findings)
    findings.conclude(also=book.removed_line())


@claim(
    "FAILOVER-06",
    "the application deployed again while istiod is down waits, starts by itself after recovery, and then answers its "
    "even share",
    promised_by="Kubernetes, ReplicaSet controller: refused pods are tried again; istio.io, Load balancing",
    hint="kubectl describe the ReplicaSet; a share that stays uneven: outlier detection ejects for longer each time",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_a_deployment_that_waits_for_its_control_plane(book: AppRedeploy, evidence: Evidence) -> None:
    """The book deploys it again at once, and sees it answer; what it really needs is the recovered istiod."""
    findings = Findings("steps")
    evidence.attach("refusal", book.refusal)
    early = [f"it had pods while istiod was down: {', '.join(book.pods_during)}"] if book.pods_during else []
    early += [] if "failed calling webhook" in book.refusal else [f"it was not refused by the webhook: {book.refusal}"]
    findings.examine("deployed again while istiod is down", early)
    late = [f"not ready within {DEADLINES.recovery_s:g} s of istiod being back"] if book.ready_s is None else []
    findings.examine("after recovery", late)
    evidence.attach("seconds until it was ready", {"from istiod being back": book.ready_s})
    for target, problems in book.silent.items():
        findings.examine(f"every cluster answers {target}".strip(), problems)
    for name, problems in book.uneven.items():
        findings.examine(name, problems)
    findings.examine("the mesh after it", book.drill.ill)
    book.drill.tell(findings)
    findings.conclude()
