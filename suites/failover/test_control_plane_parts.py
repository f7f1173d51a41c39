"""Failures of parts of control planes: a replica, the process, remote secrets, the API server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.waiting import pause
from meshproof.discovery.propagation import endpoints_left, endpoints_returned, propagation_problems, readers
from meshproof.failover.availability import admissions, monitor_availability
from meshproof.failover.capabilities import new_namespace_served_s, served_namespace, try_capabilities
from meshproof.failover.drill import DrillRunner
from meshproof.failover.drill_judgements import forgotten, judge_capabilities, judge_gaps, judge_no_loss
from meshproof.faults.components import crash_istiod, kill_one_istiod, remove_remote_secrets, rotate_tokens
from meshproof.faults.infrastructure import stop_api_servers
from meshproof.faults.istiod import two_replicas
from meshproof.report import drills


@claim(
    "FAILOVER-09",
    "no request is lost while all API servers are down, and changes are followed again afterwards",
    promised_by="istio.io, Deployment models: proxies do not depend on API servers; client-go: watches are tried again",
    hint="lost requests: a component restarted that needs the API server; changes not followed: DISCOVERY-03 and its "
    "hint",
    disruptive=True,
)
def test_api_servers_may_be_down(drill_runner: DrillRunner, evidence: Evidence) -> None:
    """Every istiod watches every API server: an outage may only delay changes, and not permanently. Afterwards
    changes in each cluster must reach all."""
    findings = Findings("loads and directions")
    name = "every API server stopped"
    with drill_runner.drill(name) as drill:
        with stop_api_servers(drill_runner.fault_context, drill_runner.mesh.clusters) as drill.transient_fault:
            pause(SAMPLES.api_server_s)
        followed = propagation_problems(drill.snapshot, BOUNDS.watched_again.seconds)
    drills.attach_drill(evidence, drill, "api-servers")
    judge_no_loss(findings, drill, name)
    for direction, problems in followed.items():
        findings.examine(f"afterwards {direction}", problems)
    findings.conclude()


@claim(
    "FAILOVER-10",
    "removing, recreating and rotating remote secrets under load takes effect, and loses no request that primaries "
    "serve",
    promised_by="istio.io, Install Multicluster: istiod watches remote secrets, and stops and starts reading clusters",
    hint="endpoints that stay: istiod's log for the secret controller; no updates after rotation: the new secret holds "
    "the old token, or istiod did not read it; endpoints that do not return: its account may no longer read "
    "(DISCOVERY-04 names the right)",
    disruptive=True,
)
def test_remote_secrets_may_change_under_load(drill_runner: DrillRunner, evidence: Evidence) -> None:
    """Rotating credentials is routine work, and deleting a secret a routine mistake.

    Endpoints of the clusters leave with the secrets and return with them; after a rotation changes are still followed.
    Exception: with a remote cluster requests may be lost for a moment, in which its istiod stops reading it (see
    `forgotten`).
    """
    findings = Findings("loads, clients and directions")
    pairs = readers(drill_runner.mesh)
    with drill_runner.drill("remote secrets removed and made again, then tokens rotated") as drill:
        with remove_remote_secrets(drill_runner.fault_context, pairs) as drill.transient_fault:
            left = endpoints_left(drill.snapshot, BOUNDS.secret_gone.seconds)
        returned = endpoints_returned(drill_runner.mesh, BOUNDS.secret_back.seconds)
        with rotate_tokens(drill_runner.fault_context, pairs):
            pass
        followed = propagation_problems(drill.snapshot, BOUNDS.secret_back.seconds)
    drills.attach_drill(evidence, drill, "secrets")
    judge_no_loss(findings, drill, "remote secrets", but=forgotten(drill) if drill_runner.mesh.remotes else None)
    for what, found in (("removed", left), ("made again", returned), ("rotated", followed)):
        for client, problems in found.items():
            findings.examine(f"secrets {what}, {client}", problems)
    findings.conclude()


@claim(
    "FAILOVER-11",
    "killing one of two istiod replicas interrupts the control plane for a bounded time only, and loses no request",
    promised_by="istio.io, Deployment models: control plane replicas for availability; Kubernetes, Services",
    hint="a longer gap: the second replica was not ready (kubectl get endpointslices), or both are on one node",
    disruptive=True,
)
def test_one_of_two_replicas_may_die(drill_runner: DrillRunner, evidence: Evidence) -> None:
    """The cheapest protection, if it works in the second in which a replica dies. One is killed in each primary.

    Injection, validation, routes, certificates and discovery continue with no gap longer than a few seconds; a new
    namespace waits no longer than for a new leader.
    """
    findings = Findings("loads, capabilities and admissions")
    clients = admissions(drill_runner.mesh.clusters, drill_runner.mesh.toolbox.images["client"])
    primaries = drill_runner.mesh.primaries
    with drill_runner.drill("one of two istiod replicas killed in each primary") as drill, ExitStack() as stack:
        together(lambda each: stack.enter_context(two_replicas(drill_runner.fault_context, each)), primaries)
        spaces = {each: stack.enter_context(served_namespace(drill_runner.mesh, each)) for each in primaries}
        with monitor_availability(clients) as availability_monitor, ExitStack() as killed:
            for primary in primaries:
                drill.transient_fault = killed.enter_context(kill_one_istiod(drill_runner.fault_context, primary))
            with ThreadPoolExecutor(max_workers=1) as executor:
                waiting = executor.submit(together, partial(new_namespace_served_s, drill_runner.mesh), primaries)
                # Gaps are judged by the availability monitor: until then a single write may be refused.
                pause(BOUNDS.replica_gap.seconds)
                controls = together(
                    lambda each: try_capabilities(drill.snapshot, each, namespace=spaces[each]), primaries
                )
                waits = waiting.result()
    drills.attach_drill(evidence, drill, "replicas")
    judge_no_loss(findings, drill, "one replica killed")
    judge_gaps(
        findings, evidence, drill, availability_monitor, dict(zip(clients, drill_runner.mesh.clusters, strict=True))
    )
    evidence.attach("seconds until a new namespace was served", dict(zip(map(str, primaries), waits, strict=True)))
    for primary, control, waited in zip(primaries, controls, waits, strict=True):
        judge_capabilities(findings, primary, control, waited)
    findings.conclude()


@claim(
    "FAILOVER-15",
    "killing every istiod process at once loses no request, and all are restarted",
    promised_by="Kubernetes, Pod lifecycle: restartPolicy Always; istio.io, Deployment models",
    hint="kubectl describe the istiod pod: in a crash loop each restart takes longer",
    disruptive=True,
)
def test_a_crash_of_istiod_heals_by_itself(drill_runner: DrillRunner, evidence: Evidence) -> None:
    """Killed, not scaled down: the kubelet must restart it, and proxies must not be affected."""
    findings = Findings("loads and istiods")
    primaries = drill_runner.mesh.primaries
    with drill_runner.drill("every istiod killed") as drill, ExitStack() as killed:
        transient_faults = together(
            lambda each: killed.enter_context(crash_istiod(drill_runner.fault_context, each)), primaries
        )
        drill.transient_fault = transient_faults[0]
    drills.attach_drill(evidence, drill, "crash")
    judge_no_loss(findings, drill, "every istiod killed")
    for victim, transient_fault in zip(primaries, transient_faults, strict=True):
        late = (
            transient_fault.back is None
            or transient_fault.back.monotonic_s - transient_fault.injected.monotonic_s > BOUNDS.crash.seconds
        )
        why = f"not within {BOUNDS.crash.seconds:g} s; {transient_fault.not_back}".removesuffix("; ")
        findings.examine(f"istiod of {victim}, ready again", [why] if late else [])
    findings.conclude()
