"""Propagation of routes: which of our probe hosts each cluster's client knows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import Final

from meshproof.clients.envoy_admin import hosts_of_routes
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot

SIDECAR_ROUTE: Final = str(names.APP_PORT)
"""Routes for hosts in no registry go to the route configuration of port 80 (pilot, httproute.go)."""


def hosts_arrive(snapshot: Snapshot, expected: Mapping[str, Set[str]], *, of: Set[str]) -> float:
    """Wait until the client of each cluster named has routes for exactly these of our hosts; the seconds it took.

    Raises `ClaimFailed` with missing and unexpected routes after `DEADLINES.configuration_s`.
    """
    start = time.monotonic()
    clusters = [cluster for cluster in snapshot.mesh.clusters if cluster.name in expected]

    def seen(cluster: Cluster) -> frozenset[str]:
        pod = snapshot.of(cluster).client
        return hosts_of_routes(cluster.kube, pod.namespace, pod.name, SIDECAR_ROUTE) & of

    def check() -> None:
        found = {str(c): hosts for c, hosts in zip(clusters, together(seen, clusters), strict=True)}
        if problems := host_problems(found, expected):
            raise NotYet("; ".join(problems))

    what = "routes of the clients' proxies follow the configuration"
    eventually(check, what=what, timeout_s=DEADLINES.configuration_s, error=ClaimFailed)
    return round(time.monotonic() - start, 2)


def host_problems(found: Mapping[str, Set[str]], expected: Mapping[str, Set[str]]) -> list[str]:
    """Per cluster, missing and unexpected routes."""
    problems = []
    for cluster, hosts in found.items():
        wanted = expected[cluster]
        if missing := sorted(wanted - hosts):
            problems.append(f"{cluster} has no route for {', '.join(missing)}")
        if extra := sorted(hosts - wanted):
            problems.append(f"{cluster} has an unexpected route for {', '.join(extra)}")
    return problems
