"""A whole cluster hangs or dies, with its control plane, its gateways and its API server, and comes back."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.waiting import pause
from meshproof.discovery.propagation import flights_arrive
from meshproof.failover.drill import DrillRunner
from meshproof.failover.verdicts import judge_lost_cluster
from meshproof.failover.victims import one_of_each_role
from meshproof.faults.infrastructure import freeze_cluster, lose_cluster
from meshproof.load.generator import DEFAULT, Target
from meshproof.mesh.snapshot import Snapshot
from meshproof.report import drills
from meshproof.traffic.shares import all_answer


@claim(
    "FAILOVER-14",
    "when a whole cluster is lost the others serve alone, with resilient settings after a short time as if nothing were "
    "wrong; when it is back it rejoins by itself: all proxies in sync, every cluster answers everywhere, and changes "
    "are followed",
    promised_by="istio.io, Deployment models: multiple clusters for fault isolation and failover",
    hint="errors that do not end: outlier detection and timeouts (docs/failover.md); not back: pods of the returned "
    "cluster that wait for an istiod that is not ready; endpoints of before: DISCOVERY-03",
    disruptive=True,
    last=True,
)
def test_a_lost_cluster_is_survived_and_rejoins(
    drill_runner: DrillRunner, resilient: Target, evidence: Evidence
) -> None:
    """The reason for having two: one of each role dies, and nobody repairs anything by hand.

    Its machine's kubelet takes all that has ended for crashes, and waits before it starts any of it a second time.
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
        for direction, problems in flights_arrive(Snapshot.take(drill_runner.mesh), BOUNDS.rejoin.seconds).items():
            findings.examine(f"{name} and back, {direction}", problems)
    findings.conclude()


@claim(
    "FAILOVER-16",
    "while a whole cluster hangs, so that it takes connections and answers nothing, the others serve alone, with "
    "resilient settings after a short time as if nothing were wrong; when it goes on every cluster answers everywhere "
    "again, and changes are followed",
    promised_by="istio.io, Virtual Service: retries, perTryTimeout; Destination Rule: outlierDetection",
    hint="errors that do not end: without perTryTimeout nothing counts as an error, so that nothing is ejected "
    "(docs/failover.md); not back: DISCOVERY-03",
    disruptive=True,
)
def test_a_cluster_that_hangs_is_survived(drill_runner: DrillRunner, resilient: Target, evidence: Evidence) -> None:
    """Worse than death: nothing refuses, and connections that are open stay so."""
    findings = Findings("loads and directions")
    victim = drill_runner.mesh.clusters[-1]
    name = f"{victim} frozen"
    with drill_runner.drill(name, targets=(DEFAULT, resilient)) as drill:
        with freeze_cluster(drill_runner.fault_context, victim) as drill.transient_fault:
            pause(SAMPLES.lost_s)
        silent = all_answer(drill_runner.mesh, drill.snapshot, resilient, timeout_s=BOUNDS.rejoin.seconds)
        findings.examine(f"{name} and going on, every cluster answers", silent)
        followed = flights_arrive(drill.snapshot, BOUNDS.rejoin.seconds)
    drills.attach_drill(evidence, drill, victim.name)
    judge_lost_cluster(findings, drill, victim, name)
    for direction, problems in followed.items():
        findings.examine(f"{name} and going on, {direction}", problems)
    findings.conclude()
