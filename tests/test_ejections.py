"""Ejected endpoints: how they are read, and how a drill waits for their return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from meshproof.clients.envoy_admin import parse_ejected_hosts
from meshproof.clients.kubernetes.client import ExecResult
from meshproof.core import names
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.health import ejections as subject
from meshproof.health.ejections import must_have_no_ejections
from meshproof.mesh.snapshot import Snapshot
from tests.fakes import LocalKube, facts_of, mesh_of, pod


def clusters(*, ejected: bool) -> str:
    """As Envoy 1.40.0 gives it."""

    def host(port: int, health: dict[str, object]) -> dict[str, object]:
        return {
            "address": {"socket_address": {"address": "10.1.0.7", "port_value": port}},
            "health_status": {"eds_health_status": "HEALTHY"} | health,
        }

    statuses = [
        {"name": names.APP_CLUSTER, "host_statuses": [host(8080, {"failed_outlier_check": ejected}), host(8081, {})]},
        {"name": "outbound|80||other", "host_statuses": [host(9090, {"failed_outlier_check": True})]},
    ]
    return json.dumps({"cluster_statuses": statuses})


class Clients(LocalKube):
    """A cluster whose client has ejected an endpoint of the application in the first readings."""

    def __init__(self, readings: int) -> None:
        super().__init__("cluster1")
        self.left = readings

    def exec(self, namespace: str, pod: str, argv: Sequence[str], **options: Any) -> ExecResult:
        assert argv[3] == "/clusters?format=json"
        self.left -= 1
        return ExecResult(stdout=clusters(ejected=self.left >= 0), stderr="", exit_code=0)


def snapshot_with(kube: Clients) -> Snapshot:
    mesh = mesh_of("multi-primary-samenet")
    cluster = replace(mesh.clusters[0], kube=kube, spec=replace(mesh.clusters[0].spec, ingress=None))
    client = pod("client", names.CLIENT_NAMESPACE, app=names.CLIENT_POD)
    return Snapshot(mesh=mesh, facts=(replace(facts_of(cluster, 1), pods=(client,)),))


def test_ejected_hosts_are_those_that_outlier_detection_marked() -> None:
    assert parse_ejected_hosts(clusters(ejected=True), names.APP_SERVICE) == ("10.1.0.7:8080",)
    assert parse_ejected_hosts(clusters(ejected=False), names.APP_SERVICE) == ()


def test_the_wait_ends_when_they_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "POLL_S", 0.01)
    kube = Clients(2)
    must_have_no_ejections(snapshot_with(kube))
    assert kube.left == -1


def test_an_endpoint_that_stays_ejected_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "POLL_S", 0.01)
    monkeypatch.setattr(subject, "DEADLINES", replace(DEADLINES, ejected_s=0.05))
    with pytest.raises(NotReady, match=r"cluster1 .*client has ejected 10\.1\.0\.7:8080"):
        must_have_no_ejections(snapshot_with(Clients(10**6)))
