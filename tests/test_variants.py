"""The catalogue of variants: complete, legal on some topology, and tied to claims and faults that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproof.calibration.variant_trial import is_detected_by_a_pass
from meshproof.calibration.variants import VARIANTS, chosen_variants, common, east_west, neighbours, variant
from meshproof.calibration.variants.legal_mesh import Skip
from meshproof.calibration.variants.variant import Variant, apply_variant
from meshproof.claims.claim import REGISTRY
from meshproof.claims.references import cited
from meshproof.claims.suite_run import import_suites
from meshproof.cli.variants import describe_variant
from meshproof.clients.kubernetes.client import Json, path_of
from meshproof.core import names
from meshproof.core.errors import BadInput, Broken
from meshproof.core.topology import available, load_topology
from meshproof.faults import undo
from meshproof.faults.catalogue import FAULTS, fault
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.heal import heal
from meshproof.faults.journal import Journal
from meshproof.install.gateways import gateway_deployment, gateway_services, gateways_of
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.pki import issue as pki
from meshproof.workloads.app import app_manifests
from tests.fakes import mesh_of, toolbox
from tests.test_fault_editor import WritableKube, state

import_suites()

NS = names.SYSTEM_NAMESPACE


@pytest.mark.parametrize("each", VARIANTS, ids=lambda each: each.id)
def test_a_variant_has_all_its_texts_and_they_are_short(each: Variant) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", each.id)
    for text in (each.sentence, each.legal):
        assert text.strip() == text != ""
        assert not text.endswith(".")
    assert len(each.sentence.split()) <= 25
    for source in each.legal.split("; "):
        if source.startswith(("istio.io, ", "Kubernetes, ")):
            assert cited(source), f"add it to PAGES: {source}"
    assert cited(each.legal)
    known = {claim.code for claim in REGISTRY}
    for skip in each.skips:
        assert skip.codes
        assert set(skip.codes) <= known
        assert len(skip.reason.split()) >= 3, "a reason that names the setting"
    for identifier in each.still_kills:
        assert is_detected_by_a_pass(fault(identifier)), identifier
        assert fault(identifier).id == identifier


def test_ids_are_unique_and_no_fault_has_one() -> None:
    ids = [each.id for each in VARIANTS]
    assert len(ids) == len(set(ids))
    assert not {each.lower() for each in ids} & {each.id.lower() for each in FAULTS}  # the journal has both


@pytest.mark.parametrize("each", VARIANTS, ids=lambda each: each.id)
def test_a_variant_applies_to_some_topology_and_its_mutants_do_too(each: Variant) -> None:
    here = [topology for topology in map(load_topology, available()) if each.not_here(topology) is None]
    assert here
    for identifier in each.still_kills:
        assert any(fault(identifier).not_here(topology) is None for topology in here), identifier


def test_every_family_of_variants_has_mutants_on_top() -> None:
    families: dict[str, set[str]] = {}
    for each in VARIANTS:
        families.setdefault(each.apply.__module__, set()).update(each.still_kills)
    assert all(families.values()), families


def test_a_variant_is_found_in_any_case_and_a_wrong_one_is_rejected() -> None:
    assert variant("STRICT") is variant("strict")
    assert [each.id for each in chosen_variants("strict, deny-all,")] == ["strict", "deny-all"]
    with pytest.raises(BadInput, match=r"variant lax: there is no variant with this ID\n  repair: use one of strict, "):
        variant("lax")


def test_how_a_variant_is_listed() -> None:
    made = Variant(
        id="only-443",
        sentence="the ingress gateways have no port 80",
        legal="istio.io, Secure Gateways",
        needs=variant("only-443").needs,
        apply=lambda editor: None,
        skips=(Skip(codes=("TRAFFIC-01", "TRAFFIC-08"), reason="has no port 80"),),
        still_kills=("S1",),
    )
    assert describe_variant(made, "there is none") == (
        "only-443\n"
        "      differs     the ingress gateways have no port 80\n"
        "      legal       istio.io, Secure Gateways\n"
        "      skips       TRAFFIC-01, TRAFFIC-08: has no port 80\n"
        "      still kills S1\n"
        "      needs       an ingress gateway in the first primary\n"
        "      not here    there is none"
    )


CA_DATA = pki.plugin_ca(pki.make_root(), "any").secret_data()

# -- applying, on fake clusters ---------------------------------------------------------------------------------------


def put_mesh(mesh: Mesh) -> None:
    """What variants need to find in the clusters."""
    for number, cluster in enumerate(mesh.clusters, start=1):
        kube = fake_of(cluster)
        for name in (*cluster.spec.mesh_namespaces, "default", names.APP_NAMESPACE):
            kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {}}})
        kube.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node{number}", "labels": {}}})
        data: dict[str, str] = {"mesh": "defaultConfig: {discoveryAddress: istiod}\ntrustDomain: cluster.local\n"}
        kube.put(thing("ConfigMap", "istio", data=data))
        values = json.dumps({"global": {"proxy": {"resources": {"requests": {"cpu": "10m"}}}}})
        kube.put(thing("ConfigMap", "istio-sidecar-injector", data={"values": values, "config": ""}))
        kube.put(thing("Secret", "cacerts", type="Opaque", data=CA_DATA))
        if cluster.is_primary:
            container = {"name": "discovery", "env": [{"name": "REVISION", "value": "default"}]}
            spec = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
            kube.put(thing("Deployment", "istiod", spec=spec))
        for gateway in gateways_of(mesh.topology, cluster.spec):
            for manifest in gateway_services(gateway):
                kube.put(manifest | {"apiVersion": "v1"})
            kube.put(gateway_deployment(gateway))
            service = kube.objects[path_of("Service", gateway.namespace, gateway.name)]
            service["status"] = {"loadBalancer": {"ingress": [{"ip": f"198.18.{100 + number}.7"}]}}
        for manifest in app_manifests(cluster.spec, "app:1"):
            kube.put(manifest)


def thing(kind: str, name: str, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NS}, **fields}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


@pytest.fixture(autouse=True)
def _no_istiod(monkeypatch: pytest.MonkeyPatch) -> None:
    """istiod always uses what its ConfigMap says; restarts need no pods; load balancers give addresses at once."""
    monkeypatch.setattr(common, "_in_use", lambda cluster: {})
    monkeypatch.setattr(neighbours, "_root_is_in", lambda cluster, namespace: None)
    monkeypatch.setattr(undo, "restart_scope", lambda cluster, scope: None)
    monkeypatch.setattr(undo, "await_current_root", lambda primary, cluster: None)
    monkeypatch.setattr(undo, "remove_these_namespaces", _delete_namespaces)
    monkeypatch.setattr(east_west, "_external_address", lambda cluster, gateway: _address(cluster))


def _delete_namespaces(kube: WritableKube, namespaces: list[str], *, aborted: object) -> None:
    for name in namespaces:
        kube.delete("Namespace", name)


def _address(cluster: Cluster) -> str:
    return f"198.18.{100 + int(cluster.name[-1])}.7"


def fake_mesh(topology: str) -> Mesh:
    plain = mesh_of(topology)
    clusters = tuple(Cluster(spec=c.spec, access=c.access, kube=WritableKube(c.name)) for c in plain.clusters)
    mesh = Mesh(topology=plain.topology, clusters=clusters, toolbox=toolbox())
    put_mesh(mesh)
    return mesh


def objects_of(mesh: Mesh) -> list[dict[str, Json]]:
    """All objects by cluster, without what the API server sets."""
    return [{key: undo.bare(found) for key, found in state(fake_of(cluster)).items()} for cluster in mesh.clusters]


def fake_of(cluster: Cluster) -> WritableKube:
    assert isinstance(cluster.kube, WritableKube)
    return cluster.kube


@pytest.mark.parametrize("topology", available())
@pytest.mark.parametrize("each", VARIANTS, ids=lambda each: each.id)
def test_a_variant_changes_something_and_is_undone_exactly(each: Variant, topology: str, journal: Journal) -> None:
    mesh = fake_mesh(topology)
    if each.not_here(mesh.topology):
        with pytest.raises(Broken, match=rf"variant {each.id} on {topology}: "):
            apply_variant(each, mesh, journal)
        return
    before = objects_of(mesh)
    each.apply(JournalledEditor(mesh, journal, each.id))
    after = objects_of(mesh)
    assert after != before
    made = [found for now, then in zip(after, before, strict=True) for key, found in now.items() if key not in then]
    ours = [m["metadata"] for m in made if names.MANAGED_BY.items() <= (m["metadata"].get("labels") or {}).items()]
    assert [meta["name"] for meta in ours if not meta["name"].startswith("meshproof-kept-")] == []
    assert set(heal(mesh, journal)) == {each.id}
    assert objects_of(mesh) == before
    assert journal.unhealed() == ()


def applied(identifier: str, topology: str, journal: Journal) -> Mesh:
    mesh = fake_mesh(topology)
    variant(identifier).apply(JournalledEditor(mesh, journal, identifier))
    return mesh


@pytest.mark.parametrize("each", VARIANTS, ids=lambda each: each.id)
def test_primaries_get_the_same_configuration_unless_it_is_about_one_cluster(each: Variant, journal: Journal) -> None:
    """Istio's objects that differ between primaries are a defect: CONTROL-05."""
    mesh = fake_mesh("multi-primary-multinet")
    each.apply(JournalledEditor(mesh, journal, each.id))
    first, second = (
        {key: found for key, found in objects.items() if ".istio.io/" in key} for objects in objects_of(mesh)
    )
    assert (first == second) == (each.id != "side-by-side")


def test_mesh_configuration_is_merged_and_belongs_to_primaries(journal: Journal) -> None:
    mesh = applied("proxy-defaults", "primary-remote-multinet", journal)
    primary, remote = (cluster.kube.find("ConfigMap", "istio", NS) for cluster in mesh.clusters)
    assert primary is not None
    assert remote is not None
    config = yaml.safe_load(primary["data"]["mesh"])
    assert config["defaultConfig"] == {
        "discoveryAddress": "istiod",
        "holdApplicationUntilProxyStarts": True,
        "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"},
    }
    assert config["trustDomain"] == "cluster.local"
    assert "holdApplication" not in remote["data"]["mesh"]


def test_every_namespace_but_ours_gets_the_label_of_discovery_selectors(journal: Journal) -> None:
    mesh = applied("discovery-selectors", "primary-remote-multinet", journal)
    for cluster in mesh.clusters:
        labelled = {n["metadata"]["name"] for n in cluster.kube.list("Namespace", labels="istio-discovery=enabled")}
        assert {NS, "default", "kube-system"} <= labelled
        assert names.APP_NAMESPACE not in labelled


def test_the_second_gateway_is_selected_by_the_first_ones_gateway_objects_only(journal: Journal) -> None:
    mesh = applied("two-gateways", "multi-primary-multinet", journal)
    kube = mesh.clusters[0].kube
    first = kube.find("Service", "istio-eastwestgateway", NS)
    second = kube.find("Service", "istio-eastwestgateway-2", NS)
    deployment = kube.find("Deployment", "istio-eastwestgateway-2", NS)
    assert first is not None
    assert second is not None
    assert deployment is not None
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert second["spec"]["selector"].items() <= labels.items()
    assert not first["spec"]["selector"].items() <= labels.items()
    assert labels["istio"] == "eastwestgateway"
    assert second["metadata"]["labels"][names.NETWORK_LABEL] == mesh.clusters[0].network


def test_mesh_networks_name_each_gateway_and_no_label_says_the_same(journal: Journal) -> None:
    mesh = applied("mesh-networks", "multi-primary-multinet", journal)
    found = mesh.clusters[1].kube.find("ConfigMap", "istio", NS)
    service = mesh.clusters[0].kube.find("Service", "istio-eastwestgateway", NS)
    assert found is not None
    assert service is not None
    assert yaml.safe_load(found["data"]["meshNetworks"])["networks"]["network1"] == {
        "endpoints": [{"fromRegistry": "cluster1"}],
        "gateways": [{"address": "198.18.101.7", "port": 15443}],
    }
    assert names.NETWORK_LABEL not in service["metadata"]["labels"]


def test_a_secret_of_another_type_is_created_anew_and_comes_back(journal: Journal) -> None:
    mesh = applied("tls-cacerts", "multi-primary-samenet", journal)
    found = mesh.clusters[0].kube.find("Secret", "cacerts", NS)
    assert found is not None
    assert (found["type"], sorted(found["data"])) == ("kubernetes.io/tls", ["ca.crt", "tls.crt", "tls.key"])
    assert found["data"]["tls.key"] not in journal.path.read_text()
    writes = fake_of(mesh.clusters[0]).writes
    begin = len(writes)
    heal(mesh, journal)
    path = path_of("Secret", NS, "cacerts")
    assert [w for w in writes[begin:] if path in w or w.endswith("/secrets")] == [
        f"DELETE {path}",
        f"POST {path_of('Secret', NS)}",
    ]


def test_the_policies_for_pods_and_namespaces_are_complete(journal: Journal) -> None:
    mesh = applied("need-limits", "primary-remote-samenet", journal)
    for cluster in mesh.clusters:
        policy = cluster.kube.find("ValidatingAdmissionPolicy", "need-limits")
        binding = cluster.kube.find("ValidatingAdmissionPolicyBinding", "need-limits")
        assert policy is not None
        assert binding is not None
        assert binding["spec"] == {"policyName": "need-limits", "validationActions": ["Deny"]}
        exempt = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"]
        assert exempt == ["kube-system", NS]
    values = mesh.clusters[0].kube.find("ConfigMap", "istio-sidecar-injector", NS)
    assert values is not None
    assert json.loads(values["data"]["values"])["global"]["proxy"]["resources"] == {
        "requests": {"cpu": "10m"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
