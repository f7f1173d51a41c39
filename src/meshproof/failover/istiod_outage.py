"""One control plane outage under load, with every observation that FAILOVER claims judge afterwards."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from meshproof.claims.findings import Findings
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.pods import pod_spec
from meshproof.clients.kubernetes.rollout import names_of_pods, refusal_of, status_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.errors import Broken, NotReady
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually, pause
from meshproof.discovery.sync import sync_problems
from meshproof.failover.capabilities import CapabilityResults, Dials, dials, try_capabilities
from meshproof.failover.drill import Drill, DrillRunner
from meshproof.faults.istiod import stop_istiod
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import pod_facts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.admission import Admission
from meshproof.probes.http import app_url, http_from_pod
from meshproof.workloads.app import client_container
from meshproof.workloads.pod_settings import PodSettings
from meshproof.workloads.short_lived_clients import Remaining, ShortLived, remaining, short_lived_clients

WAITING: Final = "meshproof-waiting"
"""Deployment that is created while its control plane is down."""


@dataclass(slots=True, kw_only=True)
class Outage:
    """Observations before, during and after the outage of the control plane of `victim`.

    `before` and `during` are admission results by cluster. `pods_during` are the pods of the waiting Deployments at the
    end of the outage (expected: none), `refusal` the reason that Kubernetes reported for that, `waiting_unserved` their
    failed requests afterwards. `waiting_ready_s` and `resynced_s` are seconds from istiod's return; None: not within
    the bound. `capabilities` are those of the other primaries' istiods meanwhile. `dials` counts the xDS streams of
    each proxy at the beginning and the end of the outage. `short_lived` are clients whose certificates expired in it;
    `remaining` is the remaining life of all other certificates before it.
    """

    mesh: Mesh
    victim: Cluster
    drill: Drill
    before: dict[str, Admission]
    during: dict[str, Admission] = field(default_factory=dict)
    pods_during: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refusal: dict[str, str] = field(default_factory=dict)
    waiting_ready_s: dict[str, float | None] = field(default_factory=dict)
    waiting_last: dict[str, str] = field(default_factory=dict)
    waiting_unserved: dict[str, list[str]] = field(default_factory=dict)
    resynced_s: float | None = None
    resync_last: str = ""
    capabilities: dict[str, CapabilityResults] = field(default_factory=dict)
    dials: dict[str, tuple[Dials, Dials]] = field(default_factory=dict)
    short_lived: tuple[ShortLived, ...] = ()
    remaining: Mapping[str, Remaining] = field(default_factory=dict)

    @property
    def governed(self) -> tuple[Cluster, ...]:
        """The clusters that the stopped control plane controls."""
        return self.mesh.controlled_by(self.victim)

    @property
    def survivors(self) -> tuple[Cluster, ...]:
        """The other primaries."""
        return tuple(cluster for cluster in self.mesh.primaries if cluster is not self.victim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outages:
    """One outage of each primary in turn; `untried` are primaries skipped because the mesh did not recover."""

    drilled: tuple[Outage, ...]
    untried: tuple[Cluster, ...] = ()

    def __iter__(self) -> Iterator[Outage]:
        return iter(self.drilled)

    def conclude(self, findings: Findings) -> None:
        """Conclude the findings; if there is no failure, raises `Broken` if a primary was skipped."""
        for outage in self:
            outage.drill.report(findings)
        findings.conclude()
        if self.untried:
            names_of = ", ".join(map(str, self.untried))
            raise Broken(f"istiod of {names_of}", "it was not stopped, since the mesh was unhealthy", "see FAILOVER-04")


def drill_each(drill_runner: DrillRunner, *, outage_s: float = DEADLINES.outage_s) -> Outages:
    """Stop the control plane of each primary in turn."""
    drilled: list[Outage] = []
    primaries = drill_runner.mesh.primaries
    for victim in primaries:
        drilled.append(drill_outage(drill_runner, victim, outage_s=outage_s))
        if drilled[-1].drill.leaves_unhealthy:
            break
    return Outages(drilled=tuple(drilled), untried=primaries[len(drilled) :])


def drill_outage(drill_runner: DrillRunner, victim: Cluster, *, outage_s: float = DEADLINES.outage_s) -> Outage:
    """Stop the control plane of `victim` under load for `outage_s` seconds, or longer until short-lived certificates
    have expired, and start it again.

    Judges nothing. Raises `Broken` if the fault cannot be injected. Removes what it created.
    """
    mesh = drill_runner.mesh
    with drill_runner.narrator.step(f"admission checks before the outage of istiod in {victim}"):
        before = _check_admission(mesh)
    with (
        short_lived_clients(mesh, mesh.controlled_by(victim)) as clients,
        drill_runner.drill(
            f"istiod of {victim} down, and back", extra_loads=[client.load for client in clients]
        ) as drill,
    ):
        outage = Outage(mesh=mesh, victim=victim, drill=drill, before=before, short_lived=clients)
        outage.remaining = remaining(drill.snapshot, outage.governed)
        try:
            _go_down(outage, drill_runner, outage_s)
            _come_back(outage, drill_runner.narrator)
        finally:
            _remove_waiting(outage)
    return outage


def _check_admission(mesh: Mesh) -> dict[str, Admission]:
    found = together(lambda c: Admission.ask(c, mesh.toolbox.images["client"]), mesh.clusters)
    return {cluster.name: admission for cluster, admission in zip(mesh.clusters, found, strict=True)}


def _go_down(outage: Outage, drill_runner: DrillRunner, outage_s: float) -> None:
    dialled = dials(outage.drill.snapshot, outage.governed)
    with stop_istiod(drill_runner.fault_context, outage.victim) as transient_fault:
        outage.drill.transient_fault = transient_fault
        start = time.monotonic()
        together(ShortLived.note_end, outage.short_lived)
        over = max(client.over.monotonic_s for client in outage.short_lived) + SAMPLES.without_certificate_s
        outage_s = max(outage_s, over - start)
        outage.during = _check_admission(outage.mesh)
        for survivor in outage.survivors:
            outage.capabilities[survivor.name] = try_capabilities(outage.drill.snapshot, survivor)
        early = max(0.0, outage_s - DEADLINES.waiting_pod_s - (time.monotonic() - start))
        pause(early)
        for cluster in outage.governed:
            manifest = _waiting_deployment(outage.mesh.toolbox.images["client"])
            cluster.kube.apply(PodSettings.of(outage.mesh, cluster).applied_to(manifest))
        pause(max(0.0, outage_s - (time.monotonic() - start)))
        for cluster in outage.governed:
            outage.pods_during[cluster.name] = names_of_pods(cluster.kube, names.CLIENT_NAMESPACE, WAITING)
            outage.refusal[cluster.name] = refusal_of(_status(cluster))
        together(ShortLived.note_kept, outage.short_lived)
        later = dials(outage.drill.snapshot, outage.governed)
        outage.dials = {proxy: (dialled[proxy], later[proxy]) for proxy in dialled.keys() & later.keys()}


def _status(cluster: Cluster) -> Json:
    return status_of(cluster.kube, names.CLIENT_NAMESPACE, WAITING)


def _come_back(outage: Outage, narrator: Narrator) -> None:
    back = time.monotonic()
    if not_back := outage.drill.moments.not_back:
        outage.resync_last = not_back
        for cluster in outage.governed:
            outage.waiting_ready_s[cluster.name], outage.waiting_last[cluster.name] = None, not_back
        return
    with narrator.step(f"recovery of {outage.victim}: waiting pods, proxies and certificates"):
        for cluster in outage.governed:
            ready, last = _wait_ready(cluster, back)
            outage.waiting_ready_s[cluster.name] = ready
            outage.waiting_last[cluster.name] = last
            if ready is not None:
                outage.waiting_unserved[cluster.name] = _unserved(cluster)
        outage.resynced_s, outage.resync_last = _wait_in_sync(outage.mesh, back)
        for client in outage.short_lived:
            what = f"a new certificate in {client.cluster}"
            client.renewed_s = _seconds_until(client.must_be_renewed, what, back)


def _wait_ready(cluster: Cluster, back: float) -> tuple[float | None, str]:
    last = "no status yet"

    def check() -> None:
        nonlocal last
        status = _status(cluster)
        last = f"{status.get('readyReplicas', 0)} of 1 ready; {refusal_of(status) or 'no refusal reported'}"
        if status.get("readyReplicas", 0) < 1:
            raise NotYet(last)

    return _seconds_until(check, f"pod of {WAITING} on {cluster} is ready", back), last


def _unserved(cluster: Cluster) -> list[str]:
    """Failed requests to the application from the pod that had to wait for istiod."""
    for pod in cluster.kube.list("Pod", names.CLIENT_NAMESPACE, labels=f"app={WAITING}"):
        responses = http_from_pod(cluster.kube, pod_facts(pod), app_url(), SAMPLES.spread, timeout_s=2.0)
        outcomes = Counter(response.outcome for response in responses if not response.ok)
        return [
            f"{count} of {len(responses)} requests from it failed: {outcome}" for outcome, count in outcomes.items()
        ]
    return ["the pod no longer exists"]


def _wait_in_sync(mesh: Mesh, back: float) -> tuple[float | None, str]:
    last = "no status yet"

    def check() -> None:
        nonlocal last
        wrong = {proxy: found for proxy, found in sync_problems(Snapshot.take(mesh)).items() if found}
        last = "; ".join(f"{proxy}: {', '.join(found)}" for proxy, found in wrong.items()) or "all in sync"
        if wrong:
            raise NotYet(last)

    return _seconds_until(check, "every proxy is in sync", back), last


def _seconds_until(check: Callable[[], None], what: str, back: float) -> float | None:
    try:
        eventually(check, what=what, timeout_s=max(1.0, DEADLINES.recovery_s - (time.monotonic() - back)), poll_s=0.5)
    except NotReady:
        return None
    return time.monotonic() - back


def _remove_waiting(outage: Outage) -> None:
    for cluster in outage.governed:
        cluster.kube.delete("Deployment", WAITING, names.CLIENT_NAMESPACE)


def _waiting_deployment(image: str) -> Json:
    labels = {"app": WAITING}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": WAITING, "namespace": names.CLIENT_NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": {**labels, "meshproof/run": uuid.uuid4().hex[:8]}},
                "spec": pod_spec([client_container(image)], grace_s=0),
            },
        },
    }
