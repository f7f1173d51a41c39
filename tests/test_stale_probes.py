"""What a killed run left is swept, and what a running one needs is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.workloads.cleanup import STALE, remove_stale_probes, stale
from tests.fakes import LocalKube, mesh_of

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
PREFIXES = ("meshproof-testbed-", "meshproof-fresh-")


def thing(name: str, age: timedelta, now: datetime = NOW, **meta: Any) -> Json:
    created = (now - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"name": name, "creationTimestamp": created, **meta}}


def test_what_a_killed_run_left_is_stale_and_what_runs_now_is_not() -> None:
    there = [
        thing("meshproof-testbed-1", timedelta(hours=1)),
        thing("meshproof-fresh-2", STALE + timedelta(seconds=1)),
        thing("meshproof-testbed-3", STALE),
        thing("meshproof-testbed-4", timedelta(hours=1), deletionTimestamp="2026-01-01T11:59:00Z"),
        thing("shop", timedelta(days=365)),
    ]
    assert stale(there, PREFIXES, NOW) == ["meshproof-testbed-1", "meshproof-fresh-2"]


def test_a_clock_that_is_behind_makes_nothing_stale() -> None:
    assert stale([thing("meshproof-testbed-1", timedelta(minutes=-5))], PREFIXES, NOW) == []


class Left(LocalKube):
    """A cluster with these namespaces and canaries; notes every call."""

    def __init__(self, namespaces: list[Json], canaries: list[Json]) -> None:
        super().__init__()
        self.there = {"Namespace": namespaces, "Service": canaries}
        self.log: list[str] = []

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        self.log.append(f"{kind} {namespace} {labels}")
        return self.there[kind]

    def delete(self, kind: str, name: str, namespace: str | None = None, *, grace_s: int | None = None) -> bool:
        self.log.append(f"-{kind} {name}")
        return True


def swept(kube: Left) -> list[str]:
    mesh = mesh_of("multi-primary-samenet")
    first = mesh.clusters[0]
    remove_stale_probes(replace(mesh, clusters=(Cluster(spec=first.spec, access=first.access, kube=kube),)))
    return kube.log


LISTS = ["Namespace None ", f"Service {names.CLIENT_NAMESPACE} app.kubernetes.io/managed-by=meshproof-canary"]


def test_a_canary_goes_with_its_endpoint_and_a_flying_one_stays() -> None:
    now = datetime.now(UTC)
    canaries = [
        thing("meshproof-canary-old", timedelta(hours=1), now),
        thing("meshproof-canary-new", timedelta(minutes=1), now),
    ]
    log = swept(Left([thing("meshproof-testbed-old", timedelta(hours=1), now)], canaries))
    assert log == [
        LISTS[0],
        "-Namespace meshproof-testbed-old",
        LISTS[1],
        "-EndpointSlice meshproof-canary-old",
        "-Service meshproof-canary-old",
    ]


def test_where_nothing_is_left_two_lists_are_all_it_costs() -> None:
    assert swept(Left([], [])) == LISTS
