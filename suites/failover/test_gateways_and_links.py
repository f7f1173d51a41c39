"""Failures of the path between clusters: east-west gateways, and the link itself."""

from __future__ import annotations

from itertools import combinations, product

from meshproof.claims.claim import ACROSS_NETWORKS, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.waiting import pause
from meshproof.failover.drill import DrillRunner
from meshproof.failover.drill_judgements import judge_gateway, judge_partition, not_used
from meshproof.failover.victims import exposing
from meshproof.faults.components import kill_east_west
from meshproof.faults.infrastructure import cut_links
from meshproof.load.generator import DEFAULT, LoadTarget
from meshproof.report import drills
from meshproof.traffic.shares import all_answer, uneven


@claim(
    "FAILOVER-07",
    "a killed east-west gateway costs requests across networks for a bounded time, and is replaced",
    promised_by="Kubernetes, Deployments: a replacement is started; Envoy, retries on other hosts",
    hint="errors that do not end: the gateway's Deployment (kubectl describe: refused by the webhook? quota?), its "
    "Service's endpoints; errors for one moment: more than one replica, and retries (docs/failover.md)",
    needs=ACROSS_NETWORKS,
    disruptive=True,
)
def test_a_killed_gateway_is_replaced(drill_runner: DrillRunner, resilient: LoadTarget, evidence: Evidence) -> None:
    """All traffic between networks passes it: its death must cost other clusters no more than the wait for a new pod.

    Local endpoints answer all the time; requests across networks fail no longer than a bound, which is short with
    resilience settings; and connections pass through the replacement.
    """
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
    "while the link between two clusters is cut each serves its local endpoints; afterwards traffic is balanced again",
    promised_by="istio.io, Destination Rule: outlierDetection, connectionPool; Virtual Service: retries",
    hint="errors that do not end: no outlier detection for that host; uneven afterwards: ejections last longer each "
    "time, or an istiod lost its watch of the other cluster (DISCOVERY-03)",
    disruptive=True,
)
def test_a_partition_costs_no_local_request(
    drill_runner: DrillRunner, resilient: LoadTarget, evidence: Evidence
) -> None:
    """Packets that vanish are worse than errors: a proxy notices by timeouts only, and these must not take too long.

    The link is cut in both directions, then in one. With resilience settings no request is lost or slow after a short
    time.
    """
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
