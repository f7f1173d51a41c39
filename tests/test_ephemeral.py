"""New pods for probes: ready, refused, or in a state that never becomes ready."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.core.errors import ClaimFailed, NotReady
from meshproof.core.topology import load_topology
from meshproof.mesh.handles import Mesh
from meshproof.workloads.ephemeral import ready_pod
from tests.install_fakes import FakeKube, fake_mesh, fake_of, istiod_takes_over

NAMESPACE = "meshproof-fresh-1"
MANIFEST = {
    "kind": "Pod",
    "metadata": {"name": "probe", "namespace": NAMESPACE},
    "spec": {"containers": [{"name": "probe", "securityContext": {}}]},
}


class Starting(FakeKube):
    """Gives every new pod this status, or refuses it."""

    status: Mapping[str, Any] = MappingProxyType({})
    refusal = ""

    def _post(self, path: str, query: dict[str, str], body: Any) -> Json:
        if self.refusal:
            raise ApiError(f"POST {path}", 422, self.refusal)
        self.put({**body, "status": dict(self.status)})
        return dict(body)


def mesh(status: Json, *, refusal: str = "") -> Mesh:
    made = fake_mesh(load_topology("multi-primary-multinet"))
    cluster = made.clusters[0]
    kube = Starting(cluster.name)
    kube.status, kube.refusal = status, refusal
    kube.objects = fake_of(cluster).objects
    kube.put({"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    kube.put({"kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}})
    istiod_takes_over(kube)
    object.__setattr__(cluster, "kube", kube)
    return made


def waiting(reason: str, message: str) -> Json:
    container = {"name": "probe", "state": {"waiting": {"reason": reason, "message": message}}}
    return {"phase": "Pending", "containerStatuses": [container]}


READY = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}


def test_a_pod_gets_the_settings_of_its_cluster() -> None:
    made = mesh(READY)
    assert ready_pod(made, made.clusters[0], NAMESPACE, MANIFEST).ready
    created = fake_of(made.clusters[0]).objects[f"/api/v1/namespaces/{NAMESPACE}/pods/probe"]
    assert created["spec"]["containers"][0]["securityContext"] == {"runAsUser": 65532}


def test_an_image_that_does_not_exist_is_told_at_once_and_is_not_the_meshs_fault() -> None:
    made = mesh(waiting("ErrImagePull", 'failed to resolve "r.example/x:1": not found'))
    begin = time.monotonic()
    with pytest.raises(NotReady, match=r"pod meshproof-fresh-1/probe on cluster1: probe/probe: ErrImagePull: .*not f"):
        ready_pod(made, made.clusters[0], NAMESPACE, MANIFEST)
    assert time.monotonic() - begin < 2


def test_a_refused_pod_is_told_with_the_reason() -> None:
    made = mesh(READY, refusal="ValidatingAdmissionPolicy 'none' denied request: no")
    with pytest.raises(ClaimFailed, match=r"cluster1: a new pod is refused\n  last seen   HTTP 422: Validating"):
        ready_pod(made, made.clusters[0], NAMESPACE, MANIFEST)
