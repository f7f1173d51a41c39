"""Proxies that drain listeners: how that is read, and how a drill waits for its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshproof.clients.envoy_admin import Draining, parse_drain_time_s, parse_draining, parse_stats
from meshproof.clients.kubernetes.client import ExecResult, Json
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken, NotReady
from meshproof.core.progress import LineNarrator
from meshproof.failover import drill as drills
from meshproof.failover.drill import DrillRunner
from meshproof.faults.journal import Journal
from meshproof.faults.transient import FaultContext, TransientFault
from meshproof.health import draining as subject
from meshproof.health.draining import draining_proxies, must_be_drained
from meshproof.load.generator import Load
from meshproof.load.history import Mark
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from tests.fakes import LocalKube, facts_of, mesh_of, pod
from tests.record_fakes import pod as pod_json

SHOP, GATEWAY = "till-1", "ingress-1"


class Proxies(LocalKube):
    """A cluster whose proxies drain as a list says, reading by reading; the last of it stays. `read` counts them."""

    def __init__(self, name: str, readings: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        super().__init__(name)
        self.readings = {proxy: list(each) for proxy, each in readings.items()}
        self.read: list[str] = []
        self.silent: set[str] = set()
        self.draining: tuple[str, ...] = ()

    def exec(self, namespace: str, pod: str, argv: Sequence[str], **options: Any) -> ExecResult:
        assert (argv[:3], options["container"]) == (["pilot-agent", "request", "GET"], "istio-proxy")
        if argv[3] == "/server_info":
            return ExecResult(stdout='{"command_line_options": {"drain_time": "0.2s"}}', stderr="", exit_code=0)
        if argv[3].startswith("/config_dump?resource=dynamic_listeners"):
            return ExecResult(stdout=listeners_text(self.draining), stderr="", exit_code=0)
        assert argv[3].startswith("/stats?format=json&filter=")
        self.read.append(pod)
        if pod not in self.readings or pod in self.silent:
            return ExecResult(stdout="", stderr="container not found", exit_code=1)
        left = self.readings[pod]
        listeners, chains = left.pop(0) if len(left) > 1 else left[0]
        return ExecResult(stdout=stats_text(listeners, chains), stderr="", exit_code=0)

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        assert (kind, namespace) == ("Pod", "shop")
        return pod_json(name, "10.1.0.9") if name in self.silent else None


def stats_text(listeners: int, chains: int) -> str:
    """As Envoy 1.40.0 gives it."""
    gauges = {"listeners": listeners, "filter_chains": chains}
    return json.dumps(
        {"stats": [{"name": f"listener_manager.total_{what}_draining", "value": n} for what, n in gauges.items()]}
    )


def listeners_text(draining: Sequence[str]) -> str:
    """As Envoy 1.40.0 gives it, with the mask that is asked for."""
    old = [{"name": name, "draining_state": {"last_updated": "2026-12-01T00:43:37.418Z"}} for name in draining]
    return json.dumps({"configs": [{"name": "0.0.0.0_80"}, *old]})


def mesh_with(readings: Mapping[str, Sequence[tuple[int, int]]]) -> tuple[Mesh, Proxies]:
    """Two clusters; the first has these proxies, the second none."""
    mesh = mesh_of("multi-primary-multinet")
    kube = Proxies("cluster1", readings)
    first = replace(mesh.clusters[0], kube=kube)
    return replace(mesh, clusters=(first, mesh.clusters[1])), kube


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh of the proxies that are there now, and deadlines that a test can wait for."""

    def take(_: type[Snapshot], mesh: Mesh) -> Snapshot:
        kube = mesh.clusters[0].kube
        assert isinstance(kube, Proxies)
        pods = tuple(pod(name, "shop") for name in kube.readings)
        facts = (replace(facts_of(mesh.clusters[0], 1), pods=pods), facts_of(mesh.clusters[1], 2))
        return Snapshot(mesh=mesh, facts=facts)

    monkeypatch.setattr(Snapshot, "take", classmethod(take))
    monkeypatch.setattr(subject, "POLL_S", 0.01)
    monkeypatch.setattr(subject, "DEADLINES", replace(DEADLINES, drained_s=0.1))


def test_what_a_proxy_drains_is_read_from_its_gauges() -> None:
    assert parse_draining(parse_stats(stats_text(2, 1))) == Draining(listeners=2, filter_chains=1)
    assert not parse_draining(parse_stats(stats_text(0, 0)))
    assert parse_draining(parse_stats(stats_text(0, 1)))
    with pytest.raises(
        Broken, match=r"without listener_manager\.total_listeners_draining and listener_manager\.total_f"
    ):
        parse_draining({})


def test_the_drain_time_is_what_the_proxy_runs_with() -> None:
    assert parse_drain_time_s('{"command_line_options": {"drain_time": "45s"}}') == 45.0
    with pytest.raises(Broken, match="drain_time is None, not seconds"):
        parse_drain_time_s("{}")


def test_every_proxy_is_read_once_where_nothing_drains() -> None:
    mesh, kube = mesh_with({SHOP: [(0, 0)], GATEWAY: [(0, 0)]})
    assert draining_proxies(Snapshot.take(mesh)) == ()
    assert sorted(kube.read) == [GATEWAY, SHOP]


@pytest.mark.parametrize(
    ("namespace", "listeners", "drains"),
    [
        (names.CLIENT_NAMESPACE, ["virtualInbound"], False),
        (names.CLIENT_NAMESPACE, ["virtualInbound", "0.0.0.0_80"], True),
        (names.CLIENT_NAMESPACE, ["virtualOutbound"], True),
        (names.APP_NAMESPACE, ["virtualInbound"], True),
    ],
)
def test_an_old_inbound_listener_of_a_client_carries_no_load(
    monkeypatch: pytest.MonkeyPatch, namespace: str, listeners: list[str], drains: bool
) -> None:
    mesh, kube = mesh_with({SHOP: [(2, 0)]})
    kube.draining = tuple(listeners)
    facts = (replace(facts_of(mesh.clusters[0], 1), pods=(pod(SHOP, namespace),)),)
    assert bool(draining_proxies(Snapshot(mesh=mesh, facts=facts))) is drains


def test_filter_chains_have_no_names_so_they_count_in_every_proxy() -> None:
    mesh, kube = mesh_with({SHOP: [(1, 1)]})
    kube.draining = ("virtualInbound",)
    facts = (replace(facts_of(mesh.clusters[0], 1), pods=(pod(SHOP, names.CLIENT_NAMESPACE),)),)
    assert draining_proxies(Snapshot(mesh=mesh, facts=facts))


def test_the_wait_ends_when_none_drains_those_included_that_began_meanwhile() -> None:
    mesh, kube = mesh_with({SHOP: [(1, 0), (1, 0), (0, 0)], GATEWAY: [(0, 0), (0, 3), (0, 3), (0, 0)]})
    seen = draining_proxies(Snapshot.take(mesh))
    assert [(each.name, str(each.what)) for each in seen] == [
        ("cluster1 shop/till-1", "listeners: 1, filter chains: 0")
    ]
    kube.read.clear()
    must_be_drained(mesh, seen)
    # till-1 until it is done, then all, of which ingress-1 has begun; that until it is done, then all once more.
    assert kube.read[:2] == [SHOP, SHOP]
    assert sorted(kube.read[2:4]) == [GATEWAY, SHOP]
    assert kube.read[4:6] == [GATEWAY, GATEWAY]
    assert sorted(kube.read[6:]) == [GATEWAY, SHOP]


def test_a_proxy_that_leaves_has_nothing_to_close() -> None:
    mesh, kube = mesh_with({SHOP: [(1, 0)], GATEWAY: [(0, 0)]})
    seen = draining_proxies(Snapshot.take(mesh))
    real = kube.exec

    def leave(namespace: str, pod: str, argv: Sequence[str], **options: Any) -> ExecResult:
        if argv[3] != "/server_info":
            kube.readings.pop(SHOP, None)
        return real(namespace, pod, argv, **options)

    kube.read.clear()
    kube.exec = leave  # type: ignore[method-assign]
    must_be_drained(mesh, seen)
    assert kube.read == [SHOP, GATEWAY]


def test_a_proxy_that_does_not_answer_may_be_draining() -> None:
    mesh, kube = mesh_with({SHOP: [(1, 0)], GATEWAY: [(0, 0)]})
    seen = draining_proxies(Snapshot.take(mesh))
    kube.silent.add(GATEWAY)
    with pytest.raises(Broken, match="proxy in shop/ingress-1 on cluster1: container not found"):
        draining_proxies(Snapshot.take(mesh))
    kube.readings[SHOP] = [(0, 0)]
    with pytest.raises(
        NotReady, match=r"last seen   unknown: GET /stats.* of the proxy in shop/ingress-1 on cluster1: "
    ):
        must_be_drained(mesh, seen)


def test_a_wait_in_vain_names_who_drains_what_and_since_when() -> None:
    mesh, _ = mesh_with({SHOP: [(1, 2)]})
    with pytest.raises(
        NotReady,
        match=r"no proxy drains a listener: not within 0\.3 s \(\d+ attempts\)\n  last seen   still draining: cluster1 "
        r"shop/till-1 \(listeners: 1, filter chains: 2\) since \d\d:\d\d:\d\d \(unchanged",
    ):
        must_be_drained(mesh, draining_proxies(Snapshot.take(mesh)))


# -- in a drill -------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrated() -> list[str]:
    return []


def drill_runner_on(mesh: Mesh, folder: Path, narrated: list[str], monkeypatch: pytest.MonkeyPatch) -> DrillRunner:
    @contextmanager
    def no_load(*args: Any, **kwargs: Any) -> Iterator[Load]:
        narrated.append("load")
        yield Load({})

    monkeypatch.setattr(drills, "must_be_healthy", lambda mesh, *, timeout_s: None)
    monkeypatch.setattr(drills, "pause", lambda seconds: None)
    monkeypatch.setattr(drills, "must_have_no_ejections", lambda snapshot: None)
    monkeypatch.setattr(drills, "must_have_been_loaded", lambda load, window: None)
    monkeypatch.setattr(drills, "load_on", no_load)
    return DrillRunner(
        fault_context=FaultContext(mesh=mesh, journal=Journal(folder / "j"), machine_control=None),
        narrator=LineNarrator(narrated.append),
    )


def no_fault() -> TransientFault:
    now = Mark.now()
    return TransientFault(what="a fault", injected=now, gone=now, heal=now, back=now)


def test_a_drill_begins_when_no_proxy_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrated: list[str]
) -> None:
    mesh, kube = mesh_with({SHOP: [(1, 0), (1, 0), (0, 0)]})
    drill_runner = drill_runner_on(mesh, tmp_path, narrated, monkeypatch)
    for waited in (True, False):
        with drill_runner.drill("a fault") as drill:
            assert kube.readings[SHOP] == [(0, 0)]
            drill.transient_fault = no_fault()
        assert (drill.drained_s > 0) is waited
        waits = [line for line in narrated if "wait before a fault: proxies that drain old listeners: 1" in line]
        assert bool(waits) is waited
        assert not waits or narrated.index(waits[-1]) < narrated.index("load")
        narrated.clear()


def test_a_drill_among_proxies_that_do_not_stop_draining_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrated: list[str]
) -> None:
    mesh, _ = mesh_with({SHOP: [(1, 0)]})
    drill_runner = drill_runner_on(mesh, tmp_path, narrated, monkeypatch)
    with (
        pytest.raises(
            Broken,
            match=r"before a fault: an earlier change may still cost requests: no proxy drains a listener: ",
        ) as problem,
        drill_runner.drill("a fault"),
    ):
        pytest.fail("nothing must be broken then")
    assert problem.value.repair.startswith("find out what keeps changing listeners")
    assert "load" not in narrated
    assert drill_runner.rebuilt == []
