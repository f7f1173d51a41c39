"""What lies between the clusters dies: their east-west gateways, and the link itself."""

from __future__ import annotations

from itertools import combinations, product

from meshproof.claims.claim import ACROSS_NETWORKS, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.waiting import pause
from meshproof.failover.drill import DrillRunner
from meshproof.failover.verdicts import judge_gateway, judge_partition, not_used
from meshproof.failover.victims import exposing
from meshproof.faults.components import kill_east_west
from meshproof.faults.infrastructure import cut_links
from meshproof.load.generator import DEFAULT, Target
from meshproof.report import drills
from meshproof.traffic.shares import all_answer, uneven


@claim(
    "FAILOVER-07",
    "when the pods of an east-west gateway are killed under load, local endpoints go on answering, requests across "
    "networks fail no longer than a bound, with resilient settings hardly at all, and the replacement is used",
    promised_by="Kubernetes, Deployments: a replacement is started; Envoy, retries on other hosts",
    hint="errors that do not end: the gateway's Deployment (kubectl describe: refused by the webhook? quota?), its "
    "Service's endpoints; errors for one moment: more than one replica, and retries (docs/failover.md)",
    needs=ACROSS_NETWORKS,
    disruptive=True,
)
def test_a_killed_gateway_is_replaced(drill_runner: DrillRunner, resilient: Target, evidence: Evidence) -> None:
    """All traffic between networks goes through it: its death must cost others no more than the wait for a new pod."""
    findings = Findings("loads and gateways")
    for victim in exposing(drill_runner):
        with drill_runner.drill(f"east-west gateway of {victim} killed", targets=(DEFAULT, resilient)) as drill:
            with kill_east_west(drill_runner.fault_context, victim) as drill.transient_fault:
                pass
            silent = all_answer(drill_runner.mesh, drill.snapshot, DEFAULT, timeout_s=BOUNDS.rejoin.seconds)
            findings.examine(f"new gateway of {victim}", silent or not_used(victim))
        drills.attach_drill(evidence, drill, victim.name)
        judge_gateway(findings, drill, victim)
        if drill.leaves_unhealthy:
            break
    findings.conclude()


@claim(
    "FAILOVER-08",
    "while the link between two clusters is cut each side serves its local endpoints, with resilient settings after a "
    "short time as if nothing were wrong; after healing the split is even again by itself, cut both ways or one way",
    promised_by="istio.io, Destination Rule: outlierDetection, connectionPool; Virtual Service: retries",
    hint="errors that do not end: no outlier detection for that host; uneven afterwards: ejections last longer each "
    "time; an istiod that lost its watch of the other cluster (DISCOVERY-03)",
    disruptive=True,
)
def test_a_partition_leaves_each_side_its_own(drill_runner: DrillRunner, resilient: Target, evidence: Evidence) -> None:
    """Packets that vanish are worse than errors: nothing tells a proxy but time, and it must not take too much."""
    findings = Findings("loads and samples")
    for (a, b), one_way in product(combinations(drill_runner.mesh.clusters, 2), (False, True)):
        name = f"link {'from' if one_way else 'between'} {a} {'to' if one_way else 'and'} {b} cut"
        with drill_runner.drill(name, targets=(DEFAULT, resilient)) as drill:
            with cut_links(drill_runner.fault_context, a, b, one_way=one_way) as drill.transient_fault:
                pause(SAMPLES.partition_s)
            for target in (DEFAULT, resilient):
                silent = all_answer(drill_runner.mesh, drill.snapshot, target, timeout_s=BOUNDS.rejoin.seconds)
                findings.examine(f"after {name}, every cluster answers {target.name}".strip(), silent)
        drills.attach_drill(evidence, drill, f"{a}-{b}-{'one-way' if one_way else 'both-ways'}")
        judge_partition(findings, drill, name)
        if drill.leaves_unhealthy:
            break
        for target in (DEFAULT, resilient):
            for source, problems in uneven(drill_runner.mesh, target).items():
                findings.examine(f"after {name}, {source}", problems)
    findings.conclude()
