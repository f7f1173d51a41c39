"""Whether a mesh is healthy, in a few seconds, by the observations of claims: the proof that a fault healed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.kubernetes.rollout import rollout_problem
from meshproof.controlplane.leader_election import LEADER, leader_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.discovery.sync import sync_problems
from meshproof.gateways.ports import needed_ports
from meshproof.install.injection import injector_state
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.admission import DryRun
from meshproof.probes.http import app_url, http_from_pod, http_from_runner
from meshproof.probes.tcp import tcp_from_pod

HEALTHY_S: Final = 90.0
REQUESTS: Final = 60
"""Per client and ingress gateway: enough that every kept connection of a proxy is used. Until it is closed, one that
was made before a policy was removed obeys that policy."""


def health_problems(mesh: Mesh, *, leaders: bool = True, probes: bool = True) -> list[str]:
    """What a quick check finds wrong with a mesh; empty if it is healthy.

    Without `leaders` it does not check which istiod serves new namespaces; without `probes` it needs neither the
    demonstration service nor its clients, and checks only pods, registries and sync.
    """
    snapshot = Snapshot.take(mesh)
    found_by = LOOKS if probes else LOOKS_WITHOUT_PROBES
    looks = (*found_by, _leaders) if leaders else found_by
    found = together(lambda look: _look(look.__name__, lambda: list(look(snapshot))), looks)
    return [problem for part in found for problem in part]


def must_be_healthy(mesh: Mesh, *, timeout_s: float = HEALTHY_S, leaders: bool = True, probes: bool = True) -> None:
    """Return when `health_problems` finds none. Raises `NotReady` with those that are left."""

    def check() -> None:
        if found := health_problems(mesh, leaders=leaders, probes=probes):
            raise NotYet("; ".join(found)[:2000])

    eventually(check, what="the mesh is healthy", timeout_s=timeout_s, poll_s=1.0, repair="install the mesh again")


def _look(name: str, look: object) -> list[str]:
    assert callable(look)
    try:
        found = look()
    except (Broken, ClaimFailed) as problem:
        return [f"{name.strip('_')}: {str(problem).splitlines()[0]}"]
    assert isinstance(found, list)
    return found


def _pods(snapshot: Snapshot) -> Iterator[str]:
    for facts in snapshot.facts:
        for pod in facts.pods:
            if pod.namespace in facts.cluster.spec.proxy_namespaces and (pod.leaving or not pod.ready):
                yield f"{facts.cluster} {pod} is {'leaving' if pod.leaving else 'not ready'}"
        if facts.cluster.is_primary and not facts.istiods:
            yield f"{facts.cluster} has no istiod"


def _app(snapshot: Snapshot) -> Iterator[str]:
    for facts in snapshot.facts:
        if not facts.ready_endpoints:
            yield f"{facts.cluster} has no ready endpoint of {names.APP_SERVICE}"


def rollouts(snapshot: Snapshot) -> Iterator[str]:
    """A Deployment that was just changed has all its pods until its controller has seen that."""
    found = together(lambda facts: facts.cluster.kube.list("Deployment"), snapshot.facts)
    for facts, deployments in zip(snapshot.facts, found, strict=True):
        for deployment in deployments:
            meta = deployment["metadata"]
            if meta["namespace"] in facts.cluster.spec.proxy_namespaces and rollout_problem(deployment):
                yield f"{facts.cluster} {meta['namespace']}/{meta['name']} is being rolled out"


def _registries(snapshot: Snapshot) -> Iterator[str]:
    wanted = {cluster.name: istiod.SYNCED for cluster in snapshot.mesh.clusters}
    for facts in snapshot.facts:
        for pod in facts.istiods:
            known = {entry.cluster: entry.status for entry in istiod.clusterz(facts.cluster.kube, pod.name)}
            if known != wanted:
                yield f"{facts.cluster} {pod.name} knows {known}"


def _leaders(snapshot: Snapshot) -> Iterator[str]:
    """A lease of an istiod that was killed runs out after 30 s only; until then no other takes its place."""
    for facts in snapshot.facts:
        live = {pod.name for pod in snapshot.of(snapshot.mesh.control_plane_of(facts.cluster)).istiods}
        holder = leader_of(facts.cluster.kube) or "no istiod"
        if holder not in live:
            yield f"{facts.cluster}: {holder} leads ({LEADER}), not {', '.join(sorted(live)) or 'a live istiod'}"


def _syncs(snapshot: Snapshot) -> Iterator[str]:
    for proxy, problems in sync_problems(snapshot).items():
        yield from (f"{proxy}: {problem}" for problem in problems)


def _endpoints(snapshot: Snapshot) -> Iterator[str]:
    for facts in snapshot.facts:
        for pod in facts.callers:
            for problem in endpoint_problems(snapshot, facts.cluster, app_endpoints(facts.cluster, pod)):
                yield f"{facts.cluster} {pod}: {problem}"


def unanswered(snapshot: Snapshot) -> Iterator[str]:
    """Requests to the application that fail, from clients and through ingress gateways."""
    for facts in snapshot.facts:
        answers = http_from_pod(facts.cluster.kube, facts.client, app_url(), REQUESTS, timeout_s=2.0)
        if not facts.ingress_unusable:
            answers += http_from_runner(facts.ingress_address, REQUESTS, timeout_s=2.0)
        for outcome in sorted({answer.outcome for answer in answers if not answer.ok}):
            yield f"{facts.cluster}: a request to {names.APP_SERVICE} got {outcome}"


def _gateways(snapshot: Snapshot) -> Iterator[str]:
    mesh = snapshot.mesh
    for client, server in mesh.pairs:
        wanted = needed_ports(mesh, client, server)
        addresses = snapshot.of(server).gateway_addresses
        if wanted and not addresses:
            yield f"{server}: its east-west gateway has no address"
        targets = [(address, port) for address in addresses for port in wanted]
        if targets:
            for answer in tcp_from_pod(client.kube, snapshot.of(client).outside, targets, timeout_s=2.0):
                if not answer.accepted:
                    yield f"{client} to {server}: {answer}"


def _injection(snapshot: Snapshot) -> Iterator[str]:
    def dry_run(cluster: Cluster) -> str:
        try:
            state = injector_state(cluster.kube)
        except NotYet as problem:
            return f"{cluster}: a new pod is refused: {problem}"
        return "" if state.pod is DryRun.ACCEPTED else f"{cluster}: a new pod is {state.pod} {state.words[:200]}"

    yield from (problem for problem in together(dry_run, snapshot.mesh.clusters) if problem)


LOOKS_WITHOUT_PROBES: Final = (_pods, rollouts, _registries, _syncs)
LOOKS: Final = (*LOOKS_WITHOUT_PROBES, _app, _endpoints, unanswered, _gateways, _injection)
