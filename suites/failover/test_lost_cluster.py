"""A whole cluster hangs or fails, with its control plane, gateways and API server, and comes back."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.waiting import pause
from meshproof.discovery.propagation import propagation_problems
from meshproof.failover.drill import DrillRunner
from meshproof.failover.drill_judgements import judge_lost_cluster
from meshproof.failover.victims import one_of_each_role
from meshproof.faults.infrastructure import freeze_cluster, lose_cluster
from meshproof.load.generator import DEFAULT, LoadTarget
from meshproof.mesh.snapshot import Snapshot
from meshproof.report import drills
from meshproof.traffic.shares import all_answer


@claim(
    "FAILOVER-14",
    "when a whole cluster is lost the others serve alone, and it rejoins by itself when it is back",
    promised_by="istio.io, Deployment models: multiple clusters for fault isolation and failover",
    hint="errors that do not end: outlier detection and timeouts (docs/failover.md); it does not rejoin: pods of the "
    "returned cluster wait for an istiod that is not ready; stale endpoints: DISCOVERY-03",
    disruptive=True,
    last=True,
)
def test_a_lost_cluster_is_survived_and_rejoins(
    drill_runner: DrillRunner, resilient: LoadTarget, evidence: Evidence
) -> None:
    """The reason for having two: one of each role dies, and nobody repairs anything by hand.

    With resilience settings no request in the others is lost or slow after a short time. Rejoined: all proxies are in
    sync, every cluster answers everywhere, and changes are followed. The kubelet of the lost machine takes all that has
    ended for crashes, and waits before it starts any of it a second time.
    """
    findings = Findings("loads and directions")
    for victim in one_of_each_role(drill_runner):
        name = f"{victim} lost"
        with drill_runner.drill(name, targets=(DEFAULT, resilient), healthy_s=BOUNDS.cluster_back.seconds) as drill:
            with lose_cluster(drill_runner.fault_context, victim) as drill.transient_fault:
                pause(SAMPLES.lost_s)
            silent = all_answer(drill_runner.mesh, drill.snapshot, resilient, timeout_s=BOUNDS.cluster_back.seconds)
            findings.examine(f"{name} and back, every cluster answers", silent)
        drills.attach_drill(evidence, drill, victim.name)
        judge_lost_cluster(findings, drill, victim, name)
        if drill.leaves_unhealthy:
            break
        for direction, problems in propagation_problems(
            Snapshot.take(drill_runner.mesh), BOUNDS.rejoin.seconds
        ).items():
            findings.examine(f"{name} and back, {direction}", problems)
    findings.conclude()


@claim(
    "FAILOVER-16",
    "while a whole cluster hangs the others serve alone, and it rejoins by itself when it resumes",
    promised_by="istio.io, Virtual Service: retries, perTryTimeout; Destination Rule: outlierDetection",
    hint="errors that do not end: without perTryTimeout nothing counts as an error, so that nothing is ejected "
    "(docs/failover.md); it does not rejoin: DISCOVERY-03",
    disruptive=True,
)
def test_a_cluster_that_hangs_is_survived(drill_runner: DrillRunner, resilient: LoadTarget, evidence: Evidence) -> None:
    """Worse than death: it accepts connections and answers nothing, and open connections stay open.

    With resilience settings no request in the others is lost or slow after a short time. Rejoined: every cluster
    answers everywhere, and changes are followed.
    """
    findings = Findings("loads and directions")
    victim = drill_runner.mesh.clusters[-1]
    name = f"{victim} frozen"
    with drill_runner.drill(name, targets=(DEFAULT, resilient)) as drill:
        with freeze_cluster(drill_runner.fault_context, victim) as drill.transient_fault:
            pause(SAMPLES.lost_s)
        silent = all_answer(drill_runner.mesh, drill.snapshot, resilient, timeout_s=BOUNDS.rejoin.seconds)
        findings.examine(f"{name} and going on, every cluster answers", silent)
        followed = propagation_problems(drill.snapshot, BOUNDS.rejoin.seconds)
    drills.attach_drill(evidence, drill, victim.name)
    judge_lost_cluster(findings, drill, victim, name)
    for direction, problems in followed.items():
        findings.examine(f"{name} and going on, {direction}", problems)
    findings.conclude()
