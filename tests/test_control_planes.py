"""Before probes are made, the istiods that would inject them must run: said at once, and once."""

from __future__ import annotations

import pytest

from meshproof.core.errors import NotReady
from meshproof.core.names import SYSTEM_NAMESPACE
from meshproof.core.topology import load_topology
from meshproof.install import control_planes
from meshproof.install.control_planes import istiods_must_run
from meshproof.mesh.handles import Mesh
from tests.install_fakes import FakeKube, fake_mesh, fake_of

INJECTED = ("meshproof-app", "meshproof-clients")


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    monkeypatch.setattr(control_planes, "RESTART_S", 0.2)
    return fake_mesh(load_topology("primary-remote-multinet"))


def istiod(kube: FakeKube, *, wanted: int = 1, ready: int = 0) -> None:
    meta = {"name": "istiod", "namespace": SYSTEM_NAMESPACE}
    status = {"readyReplicas": ready} if ready else {}
    kube.put({"kind": "Deployment", "metadata": meta, "spec": {"replicas": wanted}, "status": status})


@pytest.mark.parametrize(
    ("wanted", "seen"), [(0, "it is scaled to 0 replicas"), (2, "0 of 2 replicas ready")], ids=["stopped", "unready"]
)
def test_an_istiod_without_a_replica_is_named_with_what_to_look_at(mesh: Mesh, wanted: int, seen: str) -> None:
    istiod(fake_of(mesh.clusters[0]), wanted=wanted)
    with pytest.raises(NotReady) as caught:
        istiods_must_run(mesh)
    assert caught.value.what == "istiod of cluster1"
    assert f"last seen   {seen} (unchanged" in caught.value.reason
    assert caught.value.repair == (
        "kubectl --context=cluster1 -n istio-system describe deployment istiod; claims can be asked when it runs, "
        "since it injects probes"
    )


def test_one_replica_is_enough_and_one_elsewhere_is_not_ours_to_judge(mesh: Mesh) -> None:
    istiods_must_run(mesh)
    istiod(fake_of(mesh.clusters[0]), wanted=2, ready=1)
    istiods_must_run(mesh)


def test_where_probes_are_there_claims_say_what_is_wrong(mesh: Mesh) -> None:
    for cluster in mesh.clusters:
        for name in INJECTED:
            fake_of(cluster).put({"kind": "Namespace", "metadata": {"name": name}})
    istiod(fake_of(mesh.clusters[0]))
    istiods_must_run(mesh)
