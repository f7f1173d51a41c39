"""The application redeploy drill: the istiod of one cluster is stopped, its application deleted and deployed again.

One drill, two claims, with the default settings and with resilience settings side by side: the same pods, the same
faults, at the same time. docs/failover.md describes where the drill comes from, and what it measures.
"""

from __future__ import annotations

from meshproof.claims.claim import TWO_PRIMARIES, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, DEADLINES
from meshproof.failover.app_redeploy import AppRedeploy
from meshproof.failover.drill_judgements import must_have_been_healthy
from meshproof.failover.losses import felt, lost
from meshproof.load.generator import DEFAULT
from meshproof.load.history import summarise
from meshproof.report import drills


@claim(
    "FAILOVER-05",
    "after the application is deleted with its istiod down only that cluster loses requests, within a bound",
    promised_by="istio.io, Destination Rule: outlierDetection, connectionPool; Virtual Service: retries",
    hint="in its own cluster: docs/failover.md has the settings for the bound; in other clusters: their istiod must "
    "see the deletion (DISCOVERY-03)",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_a_dead_endpoint_is_detected_without_istiod(app_redeploy: AppRedeploy, evidence: Evidence) -> None:
    """Without its istiod a proxy gets no update that an endpoint is gone: it has to detect it by itself.

    Through the other clusters every request is answered once the pods are gone, with resilience settings before that,
    too. In its own cluster the dead endpoint costs requests and time; the bound applies with resilience settings
    (outlier detection, a connect timeout and retries). The cost of the default settings is measured, not judged.
    """
    findings = Findings("loads")
    drill, bound = app_redeploy.drill, BOUNDS.route_around.seconds
    drills.attach_drill(evidence, drill, "app-redeploy")
    gone, measured = app_redeploy.removed.injected.monotonic_s, dict[str, str]()
    for source in drill.sources:
        must_have_been_healthy(drill, (str(source),))
        sent = drill.history.sent_in(app_redeploy.without_app, sources=(str(source),))
        if source.cluster != app_redeploy.victim.name:
            window = app_redeploy.after_death if source.target is DEFAULT else app_redeploy.without_app
            findings.examine(str(source), lost(drill.history, window, (str(source),)))
        elif source.target is not DEFAULT:
            findings.examine(str(source), felt(sent, gone, bound))
        measured[str(source)] = str(summarise(sent))
    evidence.attach("measured-without-the-application", measured)
    drill.report(findings)
    findings.conclude(also=app_redeploy.removed_line())


@claim(
    "FAILOVER-06",
    "a Deployment applied while istiod is down starts by itself after recovery, and answers its even share",
    promised_by="Kubernetes, ReplicaSet controller: refused pods are tried again; istio.io, Load balancing",
    hint="kubectl describe the ReplicaSet; a share that stays uneven: outlier detection ejects for longer each time",
    needs=TWO_PRIMARIES,
    disruptive=True,
)
def test_a_deployment_that_waits_for_its_control_plane(app_redeploy: AppRedeploy, evidence: Evidence) -> None:
    """Its pods are refused until istiod is back; then Kubernetes must retry without help."""
    findings = Findings("steps")
    evidence.attach("refusal", app_redeploy.refusal)
    early = (
        [f"it had pods while istiod was down: {', '.join(app_redeploy.pods_during)}"]
        if app_redeploy.pods_during
        else []
    )
    early += (
        []
        if "failed calling webhook" in app_redeploy.refusal
        else [f"it was not refused by the webhook: {app_redeploy.refusal}"]
    )
    findings.examine("deployed again while istiod is down", early)
    late = [f"not ready within {DEADLINES.recovery_s:g} s of istiod being back"] if app_redeploy.ready_s is None else []
    findings.examine("after recovery", late)
    evidence.attach("seconds until it was ready", {"from istiod being back": app_redeploy.ready_s})
    for target, problems in app_redeploy.silent.items():
        findings.examine(f"every cluster answers {target}".strip(), problems)
    for name, problems in app_redeploy.uneven.items():
        findings.examine(name, problems)
    findings.examine("the mesh afterwards", app_redeploy.drill.unhealthy)
    app_redeploy.drill.report(findings)
    findings.conclude()
