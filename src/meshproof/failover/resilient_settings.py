"""Deploys the resilient application for a drill, and waits until it is in use everywhere.

See `meshproof.workloads.resilient_app` for its settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.waiting import NotYet, eventually, pause
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.transient import FaultContext
from meshproof.faults.undo import apply_undo
from meshproof.load.generator import DEFAULT, LoadTarget
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.probes.http import http_from_pod, http_from_runner
from meshproof.workloads.resilient_app import FQDN, HOST, RESILIENT, SERVICE, objects

SETTLED_S: Final = 5
SETTLE_AT_MOST_S: Final = 60.0
"""A second Service on a pod's port changes its sidecar's listener, which closes connections. That is no fault of the
mesh, so the load begins only after some seconds without an error."""
REQUESTS: Final = 20


@contextmanager
def resilient_application(fault_context: FaultContext) -> Iterator[LoadTarget]:
    """The second Service while the block runs, known to every client and ingress gateway; journalled like a fault."""
    mesh = fault_context.mesh
    before = {entry.key for entry in fault_context.journal.unhealed()}
    editor = JournalledEditor(mesh, fault_context.journal, "resilient_application", fault_context.machine_control)
    try:
        for cluster, manifest in objects(mesh):
            editor.add(cluster, manifest)
        await_known(mesh)
        await_settled(mesh)
        yield RESILIENT
    finally:
        for entry in fault_context.journal.unhealed():
            if entry.fault == editor.fault and entry.key not in before:
                apply_undo(mesh, mesh.cluster(entry.cluster), entry.undo, fault_context.machine_control)
                fault_context.journal.healed(entry)


def await_settled(mesh: Mesh) -> None:
    """Wait until no request to either Service has failed for `SETTLED_S` seconds.

    Requests go through the ingress gateway of each cluster, or from its client pod where there is none to use.
    """
    snapshot = Snapshot.take(mesh)

    def failures(facts: ClusterFacts) -> list[str]:
        if facts.ingress_unusable:
            kube, pod = facts.cluster.kube, facts.client
            responses = [a for target in (RESILIENT, DEFAULT) for a in http_from_pod(kube, pod, target.url, REQUESTS)]
        else:
            address = facts.ingress_address
            responses = [
                a for target in (RESILIENT, DEFAULT) for a in http_from_runner(address, REQUESTS, host=target.host)
            ]
        return [f"{facts.cluster}: {response.outcome}" for response in responses if not response.ok]

    def check() -> None:
        for _ in range(SETTLED_S):
            if wrong := [text for found in together(failures, snapshot.facts) for text in found]:
                raise NotYet("; ".join(wrong[:4]))
            pause(1.0)

    eventually(check, what=f"no request to {SERVICE} fails", timeout_s=SETTLE_AT_MOST_S)


def await_known(mesh: Mesh) -> None:
    """Wait until every client and ingress gateway has endpoints of all clusters, and the ingress has its route."""
    snapshot = Snapshot.take(mesh)
    name = f"outbound|{names.APP_PORT}||{FQDN}"
    clients = [(facts.cluster, facts.client, str(names.APP_PORT), FQDN) for facts in snapshot.facts]
    usable = [snapshot.of(cluster) for cluster in snapshot.with_ingress]
    ingresses = [(facts.cluster, facts.ingress_pod, facts.ingress_route, HOST) for facts in usable]

    def missing_in(proxy: tuple[Cluster, PodFacts, str, str]) -> str:
        cluster, pod, route, host = proxy
        found = envoy.endpoints_of(cluster.kube, pod.namespace, pod.name, name)
        if len(found) < len(mesh.clusters):
            return f"{cluster} {pod} has {len(found)} endpoints of {SERVICE}"
        known = envoy.hosts_of_routes(cluster.kube, pod.namespace, pod.name, route)
        return "" if any(host in each for each in known) else f"{cluster} {pod} has no route for {host}"

    def check() -> None:
        if missing := [text for text in together(missing_in, clients + ingresses) if text]:
            raise NotYet("; ".join(missing))

    eventually(check, what=f"{SERVICE} is known to all proxies", timeout_s=DEADLINES.configuration_s)
