"""Endpoint propagation: whether endpoint changes in one cluster reach the proxies of the others.

A canary's endpoint is added and removed in one cluster, and watched in the proxies of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from meshproof.clients import envoy_admin as envoy
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.core.waiting import NotYet, eventually, poll_until_clean
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.workloads.canary_service import PORT, TARGET_PORT, canary_endpoint, canary_fqdn, canary_services


def readers(mesh: Mesh) -> list[tuple[Cluster, Cluster]]:
    """Pairs of a cluster and a primary that reads it from outside: each primary reads all clusters."""
    return [(read, primary) for primary in mesh.primaries for read in mesh.clusters if read is not primary]


def propagation_problems(snapshot: Snapshot, timeout_s: float) -> dict[str, list[str]]:
    """By direction what is wrong with adding and removing an endpoint, each within `timeout_s` seconds."""
    measured = together(lambda server: measure_propagation(snapshot, server, bound_s=timeout_s), snapshot.mesh.clusters)
    return {f"from {each.server} to {each.viewer}": each.problems for found in measured for each in found}


def endpoints_left(snapshot: Snapshot, timeout_s: float) -> dict[str, list[str]]:
    """By client what is wrong with its endpoints when its istiod reads no other cluster: only its own must be left."""

    def expected(viewer: Cluster) -> Snapshot:
        home = snapshot.mesh.control_plane_of(viewer)
        return Snapshot(mesh=snapshot.mesh, facts=(snapshot.of(home),))

    return _each(snapshot, expected, timeout_s)


def endpoints_returned(mesh: Mesh, timeout_s: float) -> dict[str, list[str]]:
    """The same when it reads them all again."""
    snapshot = Snapshot.take(mesh)
    return _each(snapshot, lambda viewer: snapshot, timeout_s)


def _each(snapshot: Snapshot, expected: Callable[[Cluster], Snapshot], timeout_s: float) -> dict[str, list[str]]:
    def look(viewer: Cluster) -> list[str]:
        pod, wanted = snapshot.of(viewer).client, expected(viewer)
        return poll_until_clean(
            lambda: endpoint_problems(wanted, viewer, app_endpoints(viewer, pod)), timeout_s=timeout_s
        )

    clusters = snapshot.mesh.clusters
    return {f"client of {c}": found for c, found in zip(clusters, together(look, clusters), strict=True)}


def expected_keys(snapshot: Snapshot, viewer: Cluster, server: Cluster) -> frozenset[str]:
    """What a proxy in `viewer` should have for the canary's endpoint in `server`: a pod, or gateways of its network."""
    facts = snapshot.of(server)
    if snapshot.mesh.crosses_network(viewer, server):
        return frozenset(f"{address}:{port}" for address, port in facts.service_gateways)
    return frozenset({f"{facts.client.address}:{TARGET_PORT}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """How long the endpoint took to appear and to disappear, in seconds; None if it did not within the bound.

    `before` and `seen` are the endpoints that the viewer's proxy had before, and last.
    """

    viewer: str
    server: str
    before: frozenset[str]
    expected: frozenset[str]
    known_s: float | None = None
    gone_s: float | None = None
    seen: frozenset[str] = frozenset()
    bound_s: float = DEADLINES.canary_s

    @property
    def problems(self) -> list[str]:
        bound = f"within {self.bound_s:g} s"
        if self.before:
            return [f"the canary had endpoints before any were added: {_shown(self.before)}"]
        if not self.expected:
            return [f"{self.server} has no address that {self.viewer} can use"]
        if self.known_s is None:
            return [f"a new endpoint did not appear {bound}: expected {_shown(self.expected)}, had {_shown(self.seen)}"]
        if self.gone_s is None:
            return [f"it appeared after {self.known_s:.1f} s, but did not disappear {bound} of its removal"]
        return []


def _shown(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


def measure_propagation(
    snapshot: Snapshot, server: Cluster, *, bound_s: float = DEADLINES.canary_s
) -> list[Propagation]:
    """Add and remove a canary's endpoint in `server`, and watch it in the client's proxy of every other cluster."""
    viewers = [cluster for cluster in snapshot.mesh.clusters if cluster is not server]
    with canary_services(snapshot) as name:
        before = together(lambda viewer: _seen(snapshot, viewer, name), viewers)
        with canary_endpoint(server, snapshot.of(server).client, name):
            start = time.monotonic()
            known = together(
                lambda viewer: _wait(snapshot, viewer, name, expected_keys(snapshot, viewer, server), start, bound_s),
                viewers,
            )
        start = time.monotonic()
        gone = together(lambda viewer: _wait(snapshot, viewer, name, frozenset(), start, bound_s), viewers)
    return [
        Propagation(
            viewer=viewer.name,
            server=server.name,
            before=had,
            expected=expected_keys(snapshot, viewer, server),
            known_s=came[0],
            gone_s=went[0],
            seen=came[1],
            bound_s=bound_s,
        )
        for viewer, had, came, went in zip(viewers, before, known, gone, strict=True)
    ]


def wait_known(snapshot: Snapshot, viewer: Cluster, name: str, server: Cluster | None) -> float | None:
    """Seconds until the client in `viewer` has the canary's endpoint in `server`, or has none (None); None if late."""
    wanted = expected_keys(snapshot, viewer, server) if server is not None else frozenset()
    return _wait(snapshot, viewer, name, wanted, time.monotonic(), DEADLINES.canary_s)[0]


def _seen(snapshot: Snapshot, viewer: Cluster, name: str) -> frozenset[str]:
    pod = snapshot.of(viewer).client
    found = envoy.endpoints_of(viewer.kube, pod.namespace, pod.name, f"outbound|{PORT}||{canary_fqdn(name)}")
    return frozenset(endpoint.key for endpoint in found)


def _wait(
    snapshot: Snapshot, viewer: Cluster, name: str, wanted: frozenset[str], start: float, bound_s: float
) -> tuple[float | None, frozenset[str]]:
    seen: frozenset[str] = frozenset()

    def check() -> float:
        nonlocal seen
        seen = _seen(snapshot, viewer, name)
        if seen != wanted:
            raise NotYet(_shown(seen))
        return time.monotonic() - start

    try:
        return eventually(check, what="the canary's endpoint has propagated", timeout_s=bound_s, poll_s=0.3), seen
    except NotReady:
        return None, seen
