"""Whether control planes see what happens in the clusters that they read, asked of the proxies that they govern."""

from __future__ import annotations

from collections.abc import Callable

from meshproof.core.concurrency import together
from meshproof.core.settle import settled
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.workloads.canary_service import fly


def readers(mesh: Mesh) -> list[tuple[Cluster, Cluster]]:
    """Every cluster that is read by another one's istiod, and that one: each primary reads all clusters."""
    return [(read, primary) for primary in mesh.primaries for read in mesh.clusters if read is not primary]


def flights_arrive(snapshot: Snapshot, timeout_s: float) -> dict[str, list[str]]:
    """By direction what is wrong with following an endpoint that comes, and goes, each within `timeout_s` seconds."""
    flights = together(lambda server: fly(snapshot, server, bound_s=timeout_s), snapshot.mesh.clusters)
    return {f"from {flight.server} to {flight.viewer}": flight.problems for found in flights for flight in found}


def endpoints_left(snapshot: Snapshot, timeout_s: float) -> dict[str, list[str]]:
    """By client what is wrong with its endpoints when its istiod reads no other cluster: its own ones are left."""

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
        return settled(lambda: endpoint_problems(wanted, viewer, app_endpoints(viewer, pod)), timeout_s=timeout_s)

    clusters = snapshot.mesh.clusters
    return {f"client of {c}": found for c, found in zip(clusters, together(look, clusters), strict=True)}
