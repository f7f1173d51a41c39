"""Records of a real mesh: equal as long as nothing changes, whatever is restarted, and red with the right words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.rbac import FOR_RECORD
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.names import APP_CLUSTER
from meshproof.core.progress import Narrator
from meshproof.core.topology import load_topology
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.catalogue import fault
from meshproof.faults.fault import injected
from meshproof.faults.journal import Journal
from meshproof.faults.undo import ISTIOD, WORKLOADS, await_deployment, restart_scope
from meshproof.health.mesh import must_be_healthy
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.providers.kubeconfig import access_of
from meshproof.providers.lab.api import Lab
from meshproof.upgrade.baseline.capture import take_record
from meshproof.upgrade.baseline.compare import BaselineComparison, compare_records
from meshproof.upgrade.baseline.diff import Difference
from meshproof.upgrade.baseline.file import record_text
from meshproof.upgrade.baseline.model import BaselineRecord
from meshproof.upgrade.baseline.render import comparison_text

from .test_transient_faults import TOPOLOGY
from .visits import plain_kubeconfig

pytestmark = pytest.mark.lab

RECORDS = 10
LOOK_S = 30.0


@pytest.fixture(scope="module")
def mesh(lab: Lab, tmp_path_factory: pytest.TempPathFactory, narrator: Narrator) -> Iterator[Mesh]:
    path = tmp_path_factory.mktemp("topology") / "two-primaries.yaml"
    path.write_text(TOPOLOGY)
    topology = load_topology(str(path))
    lab.connect(topology)
    made = Mesh.of(topology, lab.clusters, lab.toolbox)
    try:
        install_mesh(made, narrator)
        must_be_healthy(made)
        yield made
    finally:
        uninstall_mesh(made, narrator)


@pytest.fixture
def before(mesh: Mesh) -> BaselineRecord:
    return take_record(mesh)


def test_ten_of_ten_records_of_an_unchanged_mesh_are_equal(
    mesh: Mesh, before: BaselineRecord, narrator: Narrator
) -> None:
    seconds = []
    for _ in range(RECORDS):
        start = time.monotonic()
        after = take_record(mesh)
        seconds.append(time.monotonic() - start)
        found = compare_records(before, after)
        assert found.equal, comparison_text(found)
    narrator.say(f"{RECORDS} records in {', '.join(f'{each:.1f}' for each in seconds)} s")
    must_be_of_a_whole_mesh(before)


def must_be_of_a_whole_mesh(record: BaselineRecord) -> None:
    kinds = {key.kind for key in record.parts}
    wanted = {"listener", "route", "cluster", "endpoints", "secret", "version", "webhook", "gateway", "crd"}
    assert wanted <= kinds
    holders = {workload for cluster, workload in record.holders if cluster == "east"}
    workloads = {"istiod", "istio-ingressgateway", "istio-eastwestgateway"}
    assert {f"{names.SYSTEM_NAMESPACE}/{each}" for each in workloads} < holders
    assert {f"{names.APP_NAMESPACE}/{names.APP_SERVICE}-v1", f"{names.CLIENT_NAMESPACE}/{names.CLIENT_POD}"} < holders
    assert set(record.samples) == {"client of east", "client of west"}
    assert "PRIVATE KEY" not in record_text(record)


def test_a_record_is_the_same_after_everything_was_restarted(mesh: Mesh, before: BaselineRecord) -> None:
    pods = pods_of(mesh)
    assert len(pods) >= 10, "istiod, two gateways, a client and the application in each cluster"
    for scope in (ISTIOD, WORKLOADS):
        together(lambda cluster, scope=scope: restart_scope(cluster, scope), mesh.clusters)  # type: ignore[misc]
    must_be_healthy(mesh)
    found = compare_records(before, take_record(mesh))
    assert found.equal, comparison_text(found)
    assert not pods & pods_of(mesh)


def pods_of(mesh: Mesh) -> set[str]:
    return {
        pod["metadata"]["name"]
        for cluster in mesh.clusters
        for namespace in cluster.spec.proxy_namespaces
        for pod in cluster.kube.list("Pod", namespace)
    }


def test_a_record_needs_the_rights_that_it_names_and_writes_nothing(
    mesh: Mesh, before: BaselineRecord, lab: Lab, tmp_path: Path
) -> None:
    begins = {cluster.name: lab.audit_log(cluster.name).stat().st_size for cluster in mesh.clusters}
    try:
        accesses = tuple(access_of(reader(cluster, tmp_path)) for cluster in mesh.clusters)
        found = compare_records(before, take_record(Mesh.of(mesh.topology, accesses, mesh.toolbox)))
        assert found.equal, comparison_text(found)
        assert set(found.after.samples) == set(found.before.samples)
        for name, begin in begins.items():
            assert written_by_reader(lab.audit_log(name), begin) == []
    finally:
        for cluster in mesh.clusters:
            for manifest in account():
                meta = manifest["metadata"]
                cluster.kube.delete(manifest["kind"], meta["name"], meta.get("namespace"))


READER = "reader"


def account() -> tuple[Json, ...]:
    """A service account with the rights for records, and no others."""
    rbac = "rbac.authorization.k8s.io"
    named = {"apiVersion": f"{rbac}/v1", "metadata": {"name": READER}}
    subject = {"kind": "ServiceAccount", "name": READER, "namespace": "default"}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": READER}
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER, "namespace": "default"}},
        named | {"kind": "ClusterRole", "rules": [rule.as_rbac() for rule in FOR_RECORD]},
        named | {"kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
    )


def reader(cluster: Cluster, folder: Path) -> Kube:
    for manifest in account():
        cluster.kube.apply(manifest)
    path = f"/api/v1/namespaces/default/serviceaccounts/{READER}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = str(cluster.kube.post(path, asked)["status"]["token"])
    return Kube(plain_kubeconfig(folder, cluster.access, {"token": token}), f"arn:{cluster.name}", name=cluster.name)


def written_by_reader(log: Path, begin: int) -> list[Json]:
    """What is only asked, as who may do what, is kept nowhere; `exec` is a right of its own."""
    with log.open() as lines:
        lines.seek(begin)
        events: list[Json] = [json.loads(line) for line in lines]
    return [
        event
        for event in events
        if event["user"]["username"] == f"system:serviceaccount:default:{READER}"
        and event["objectRef"].get("subresource") != "exec"
    ]


def red(mesh: Mesh, before: BaselineRecord, kind: str, path: str) -> BaselineComparison:
    """A comparison with the mesh as it is now that has such a difference; the mesh needs a moment to show it."""

    def look() -> BaselineComparison:
        found = compare_records(before, take_record(mesh, traffic=False))
        if not matching(found, kind, path):
            raise NotYet(comparison_text(found)[:2000])
        return found

    return eventually(look, what=f"{kind} {path} is different", timeout_s=LOOK_S)


def matching(found: BaselineComparison, kind: str, path: str) -> list[Difference]:
    return [each for each in found.unexplained if each.kind == kind and path in f"{each.name} {each.path}"]


def test_a_changed_weight_is_red(mesh: Mesh, before: BaselineRecord) -> None:
    """One more pod of the application in the west is twice the weight of its gateway in the east."""
    with scaled(mesh, replicas=2):
        found = red(mesh, before, "endpoints", "istio-eastwestgateway):15443].weight")
    (weight,) = [each for each in matching(found, "endpoints", "].weight") if each.name == APP_CLUSTER]
    assert (weight.before, weight.after) == (1, 2)
    assert f"east {names.CLIENT_NAMESPACE}/{names.CLIENT_POD}" in weight.places
    assert "].weight: was 1, is 2" in comparison_text(found)


@contextmanager
def scaled(mesh: Mesh, *, replicas: int) -> Iterator[None]:
    kube, name = mesh.clusters[1].kube, f"{names.APP_SERVICE}-{mesh.clusters[1].spec.app_version}"
    try:
        kube.merge_patch("Deployment", name, {"spec": {"replicas": replicas}}, names.APP_NAMESPACE, sub="scale")
        await_deployment(kube, names.APP_NAMESPACE, name)
        yield
    finally:
        kube.merge_patch("Deployment", name, {"spec": {"replicas": 1}}, names.APP_NAMESPACE, sub="scale")
        must_be_healthy(mesh)


CHANGES = {
    "a removed endpoint": ("S1", [("endpoints", "istio-eastwestgateway):15443]", "is gone")]),
    "another root and another issuer": (
        "T1",
        [("secret", "ROOTCA trusted", 'is ["CN='), ("secret", "default certificate.above", "SHA-256")],
    ),
    "a removed injection webhook": ("I5", [("webhook", "istio-sidecar-injector", "is gone")]),
    "a removed validation webhook": ("U3", [("webhook", "validation.istio.io", "is gone")]),
    "a changed weight of a route": ("P11", [("route", "weightedClusters", "is new: {")]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_must_not_change_is_red(change: str, mesh: Mesh, before: BaselineRecord, lab: Lab, tmp_path: Path) -> None:
    id_, signs = CHANGES[change]
    with injected(fault(id_), mesh, Journal(tmp_path / "journal.jsonl"), lab.machine_control):
        found = [red(mesh, before, kind, path) for kind, path, _ in signs]
    for comparison, (kind, path, words) in zip(found, signs, strict=True):
        lines = [line.strip() for line in comparison_text(comparison).splitlines()]
        assert [line for line in lines if line.startswith(f"{kind} ") and path in line and words in line], lines
    healed = compare_records(before, take_record(mesh))
    assert healed.equal, comparison_text(healed)
