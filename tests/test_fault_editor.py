"""The journalled editor on fake clusters: changes are recorded before they are made, and undone exactly."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from meshproof.clients.kubernetes.client import ApiError, Json, path_of
from meshproof.core.errors import Broken, Unavailable
from meshproof.faults.catalogue import fault
from meshproof.faults.editor import JournalledEditor, Prevented
from meshproof.faults.fault import inject
from meshproof.faults.heal import heal, in_healing_order
from meshproof.faults.journal import Entry, Journal
from meshproof.mesh.handles import Cluster, Mesh
from tests.fakes import FakeLinks, mesh_of, toolbox
from tests.install_fakes import FakeKube

NS = "istio-system"


class WritableKube(FakeKube):
    """The fake cluster with plain writes as well."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.refusal = ""
        meta = {"name": "kube-system", "uid": f"uid-{name}"}
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

    def _put(self, path: str, _: dict[str, str], body: Any) -> Json:
        if self.refusal:
            raise ApiError(f"PUT {path}", 400, self.refusal)
        assert path in self.objects
        self.objects[path] = body
        return dict(body)

    def _post(self, path: str, query: dict[str, str], body: Any) -> Json:
        self.objects[f"{path}/{body['metadata']['name']}"] = body
        return dict(body)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


@pytest.fixture
def mesh() -> Mesh:
    plain = mesh_of("multi-primary-multinet")
    clusters = tuple(Cluster(spec=c.spec, access=c.access, kube=WritableKube(c.name)) for c in plain.clusters)
    return Mesh(topology=plain.topology, clusters=clusters, toolbox=toolbox())


def kube_of(mesh: Mesh, number: int = 0) -> WritableKube:
    kube = mesh.clusters[number].kube
    assert isinstance(kube, WritableKube)
    return kube


def secret(name: str, **data: str) -> Json:
    meta = {"name": name, "namespace": NS, "labels": {"istio/multiCluster": "true"}, "resourceVersion": "7"}
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": coded}


def state(kube: WritableKube) -> Mapping[str, Json]:
    """All objects without their versions."""
    text = json.dumps(kube.objects, sort_keys=True)
    read: dict[str, Json] = json.loads(text)
    for thing in read.values():
        thing["metadata"].pop("resourceVersion", None)
    return read


def test_a_removed_secret_comes_back_and_its_key_is_never_on_disk(mesh: Mesh, journal: Journal) -> None:
    kube = kube_of(mesh)
    kube.put(secret("istio-remote-secret-cluster2", cluster2="token: very-secret"))
    before = state(kube)
    JournalledEditor(mesh, journal, "S1").remove(mesh.clusters[0], "Secret", "istio-remote-secret-cluster2", NS)
    assert path_of("Secret", NS, "istio-remote-secret-cluster2") not in kube.objects
    (copy,) = (thing for key, thing in kube.objects.items() if "meshproof-kept-" in key)
    assert "istio/multiCluster" not in copy["metadata"]["labels"]
    coded = base64.b64encode(b"token: very-secret").decode()
    assert coded not in journal.path.read_text()
    assert heal(mesh, journal) == {"S1": ["cluster1"]}
    assert state(kube) == before
    assert journal.unhealed() == ()
    assert heal(mesh, journal) == {}


def test_a_removed_secret_that_the_fault_adds_again_is_the_original_in_the_end(mesh: Mesh, journal: Journal) -> None:
    kube = kube_of(mesh)
    kube.put(secret("cacerts", key="the original"))
    before = state(kube)
    editor = JournalledEditor(mesh, journal, "T2")
    editor.remove(mesh.clusters[0], "Secret", "cacerts", NS)
    editor.add(mesh.clusters[0], secret("cacerts", key="another"))
    heal(mesh, journal)
    assert state(kube) == before


def test_two_edits_of_one_object_and_an_addition_are_undone_in_reverse(mesh: Mesh, journal: Journal) -> None:
    kube = kube_of(mesh)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": NS}}
    kube.put({**config, "data": {"mesh": "a"}})
    before = state(kube)
    editor = JournalledEditor(mesh, journal, "P5")
    editor.edit(mesh.clusters[0], "ConfigMap", "istio", NS, lambda found: found | {"data": {"mesh": "b"}})
    editor.edit(mesh.clusters[0], "ConfigMap", "istio", NS, lambda found: found | {"data": {"mesh": "c"}})
    editor.add(mesh.clusters[0], {**config, "metadata": {"name": "other", "namespace": NS}})
    assert kube.objects[path_of("ConfigMap", NS, "istio")]["data"] == {"mesh": "c"}
    heal(mesh, journal)
    assert state(kube) == before


def test_a_change_is_recorded_before_it_is_made(mesh: Mesh, journal: Journal) -> None:
    """As after a kill in between: the undo of a change that was not made yet works as well."""
    kube = kube_of(mesh)
    kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": NS}, "data": {}})
    kube.refusal = "the disk is full"
    with pytest.raises(ApiError, match="the disk is full"):
        JournalledEditor(mesh, journal, "P5").edit(mesh.clusters[0], "ConfigMap", "istio", NS, lambda found: None)
    assert len(journal.unhealed()) == 1
    kube.refusal = ""
    assert heal(mesh, journal) == {"P5": ["cluster1"]}


def test_a_change_that_admission_rejects_is_prevented(mesh: Mesh, journal: Journal) -> None:
    kube = kube_of(mesh)
    kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": NS}, "data": {}})
    kube.refusal = 'admission webhook "validation.istio.io" denied the request: no'
    with pytest.raises(Prevented, match="denied the request: no"):
        JournalledEditor(mesh, journal, "P5").edit(mesh.clusters[0], "ConfigMap", "istio", NS, lambda found: None)


def test_links_are_cut_by_the_provider_only(mesh: Mesh, journal: Journal) -> None:
    with pytest.raises(Unavailable, match="which only the lab has"):
        JournalledEditor(mesh, journal, "N9").block(mesh.clusters[0], mesh.clusters[1], ports=(15443,))
    assert journal.unhealed() == ()
    machine_control = FakeLinks()
    JournalledEditor(mesh, journal, "N9", machine_control).block(mesh.clusters[0], mesh.clusters[1], ports=(15443,))
    with pytest.raises(Unavailable, match="only the lab can apply it"):
        heal(mesh, journal)
    heal(mesh, journal, machine_control)
    assert machine_control.done == ["block cluster1 cluster2 (15443,)", "unblock"]


def test_secrets_heal_before_objects_these_before_restarts_and_istiod_restarts_before_what_it_signs_for() -> None:
    def entry(key: str, **undo: str) -> Entry:
        return Entry(key=key, fault="T1", cluster="c", cluster_uid="u", undo=undo)

    done = [
        entry("1", do="unkeep"),
        entry("2", do="restart", scope="istiod"),
        entry("3", do="restart", scope="workloads"),
        entry("4", do="delete"),
    ]
    assert [e.key for e in in_healing_order(done[::-1])] == ["1", "4", "2", "3"]


def test_a_fault_that_does_not_apply_to_the_topology_is_rejected_with_the_reason(journal: Journal) -> None:
    with pytest.raises(Broken, match=r"fault T1 on primary-remote-multinet: there is only one primary"):
        inject(fault("T1"), mesh_of("primary-remote-multinet"), journal)
    assert journal.unhealed() == ()


def test_one_of_two_faults_is_healed_alone(mesh: Mesh, journal: Journal) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": NS}}
    JournalledEditor(mesh, journal, "deny-all").add(mesh.clusters[0], config)
    JournalledEditor(mesh, journal, "S1").add(mesh.clusters[1], config)
    assert heal(mesh, journal, only=("S1",)) == {"S1": ["cluster2"]}
    assert [entry.fault for entry in journal.unhealed()] == ["deny-all"]
    assert path_of("ConfigMap", NS, "one") in kube_of(mesh).objects
    assert heal(mesh, journal) == {"deny-all": ["cluster1"]}
