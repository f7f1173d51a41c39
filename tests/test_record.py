"""The record of a mesh: what is left away, what is kept, and how two of them are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshproof import cli
from meshproof.clients.kube import Json
from meshproof.errors import BadInput
from meshproof.facts import pod_facts
from meshproof.mesh import Mesh
from meshproof.pki import make_root, make_workload
from meshproof.probes.answer import HttpAnswer
from meshproof.upgrade.record.certificates import secret
from meshproof.upgrade.record.compare import Comparison, compare
from meshproof.upgrade.record.differences import Difference, differences
from meshproof.upgrade.record.file import read_record, text_of, write_record
from meshproof.upgrade.record.known import RULES
from meshproof.upgrade.record.model import Content, Key, Record, Sample
from meshproof.upgrade.record.objects import gateways, webhooks
from meshproof.upgrade.record.proxies import parse_parts
from meshproof.upgrade.record.rules import Rule, explanation
from meshproof.upgrade.record.samples import sample, slower
from meshproof.upgrade.record.text import told
from meshproof.upgrade.record.workloads import Raw, directory_of, members, workload_of
from meshproof.versions import Version
from tests.fakes import mesh_of

SHOP = "outbound|80||shop.ns.svc.cluster.local"


def pod(name: str, address: str, *, owner: str = "", made: str = "2026-11-25T10:00:00Z", **spec: object) -> Json:
    """A ready pod with a proxy; `owner` is a Deployment's, whose ReplicaSet has the hash `abc`."""
    controller = {"kind": "ReplicaSet", "name": f"{owner}-abc", "controller": True}
    meta = {"namespace": "ns", "name": name, "creationTimestamp": made, "labels": {"pod-template-hash": "abc"}}
    return {
        "metadata": meta | ({"ownerReferences": [controller]} if owner else {}),
        "spec": {"containers": [{"name": "istio-proxy"}], **spec},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service(name: str, address: str, external: str = "") -> Json:
    ingress = {"loadBalancer": {"ingress": [{"ip": external}]}} if external else {}
    return {
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIPs": [address], "type": "LoadBalancer" if external else "ClusterIP", "ports": []},
        "status": ingress,
    }


def endpoint(address: str, *, weight: int = 1, health: str = "HEALTHY") -> Json:
    socket = {"address": address, "port_value": 8080}
    return {
        "endpoint": {"address": {"socket_address": socket}},
        "health_status": health,
        "load_balancing_weight": weight,
    }


def dump(*endpoints: Json, listener: Json | None = None, version: str = "1.31.0-abc") -> str:
    """What a proxy answers: fields as they stand in Envoy's definition, and numbers of versions."""
    node = {"metadata": {"ISTIO_VERSION": version}, "user_agent_build_version": {"version": {"major_number": 1}}}
    groups = [{"locality": {"region": "r", "zone": "z"}, "lb_endpoints": [*endpoints]}]
    state = {"version_info": "2026-11-25/7", "listener": listener or {"name": "10.96.0.7_15012"}}
    types: dict[str, Json] = {
        "Bootstrap": {"bootstrap": {"node": node}},
        "Clusters": {"dynamic_active_clusters": [{"version_info": "x", "cluster": {"name": SHOP, "type": "EDS"}}]},
        "Listeners": {"dynamic_listeners": [{"name": "10.96.0.7_15012", "active_state": state}]},
        "Endpoints": {"dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": SHOP, "endpoints": groups}}]},
    }
    parts = [{"@type": f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump", **part} for kind, part in types.items()]
    return json.dumps({"configs": parts})


@pytest.fixture
def mesh() -> Mesh:
    return mesh_of("multi-primary-multinet")


def raws_of(mesh: Mesh, *pods: Json) -> list[Raw]:
    one, two = mesh.clusters
    services = (service("istiod", "10.96.0.7"), service("shop", "10.96.0.8"))
    far = (service("gateway", "10.96.0.8", "198.18.2.1"),)
    return [Raw(cluster=one, pods=pods, services=services), Raw(cluster=two, pods=(), services=far)]


def parts(mesh: Mesh, text: str, *pods: Json) -> dict[Key, Content]:
    raws = raws_of(mesh, *pods)
    member = members(raws[0])[0]
    return parse_parts(text, member, directory_of(mesh.clusters[0], mesh, raws))


def record(found: dict[Key, Content], **samples: Sample) -> Record:
    taken = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    return Record(mesh="multi-primary-multinet", taken=taken, parts=found, samples=samples)


def test_a_pod_is_called_by_what_made_it() -> None:
    assert workload_of(pod("shop-abc-x1", "10.1.0.5", owner="shop")) == "ns/shop"
    assert workload_of(pod("lonely", "10.1.0.5")) == "ns/lonely (Pod)"
    made = pod("db-0", "10.1.0.5")
    made["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "db", "controller": True}]
    assert workload_of(made) == "ns/db (StatefulSet)"


def test_the_newest_ready_pod_speaks_for_its_workload(mesh: Mesh) -> None:
    old = pod("shop-abc-x1", "10.1.0.5", owner="shop")
    new = pod("shop-abc-x2", "10.1.0.6", owner="shop", made="2026-11-25T11:00:00Z")
    unready = pod("shop-abc-x3", "10.1.0.7", owner="shop", made="2026-11-25T12:00:00Z")
    unready["status"]["conditions"] = []
    (member,) = members(raws_of(mesh, new, unready, old)[0])
    assert (member.workload, member.pod) == ("ns/shop", pod_facts(new))


def test_a_restarted_pod_gives_the_same_record(mesh: Mesh) -> None:
    before = parts(mesh, dump(endpoint("10.1.0.5")), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    after = parts(mesh, dump(endpoint("10.1.0.9")), pod("shop-abc-x2", "10.1.0.9", owner="shop"))
    assert before == after
    key = Key(cluster="cluster1", workload="ns/shop", kind="endpoints", name=SHOP)
    assert before[key] == {
        "endpoints": {
            "cluster1 ns/shop:8080": {
                "count": 1,
                "health": "HEALTHY",
                "locality": "r/z",
                "metadata": {},
                "priority": 0,
                "weight": 1,
            }
        }
    }


def test_addresses_of_services_have_their_names_and_gateways_keep_theirs(mesh: Mesh) -> None:
    directory = directory_of(mesh.clusters[0], mesh, raws_of(mesh))
    assert directory.named("10.96.0.7_15012") == "Service ns/istiod_15012"
    assert directory.named("10.96.0.8:80") == "Service ns/shop:80", "its own cluster's first"
    assert directory.named("198.18.2.1:15443") == "198.18.2.1 (cluster2 ns/gateway):15443"
    assert directory.named("110.96.0.7 10.96.0.70") == "110.96.0.7 10.96.0.70"


def test_addresses_of_version_six_are_found(mesh: Mesh) -> None:
    raws = raws_of(mesh, pod("shop-abc-x1", "fd00:10::5", owner="shop"))
    directory = directory_of(mesh.clusters[0], mesh, raws)
    assert directory.named("[fd00:10::5]:8080") == "[cluster1 ns/shop]:8080"
    assert directory.named("fd00:10::5_80") == "cluster1 ns/shop_80"
    assert directory.named("fd00:10::55") == "fd00:10::55"


def test_a_pod_on_the_network_of_its_node_does_not_take_the_address(mesh: Mesh) -> None:
    raws = raws_of(mesh, pod("cni", "192.0.2.1", hostNetwork=True))
    assert directory_of(mesh.clusters[0], mesh, raws).named("192.0.2.1") == "192.0.2.1"


def test_parts_for_probes_of_ours_are_left_out(mesh: Mesh) -> None:
    hosts = [{"name": f"{name}.svc:80"} for name in ("shop.ns", "probe.meshproof-stage-1", "meshproof-canary-1.ns")]
    chains = [{"filterChainMatch": {"serverNames": [f"outbound_.80_._.{name}"]}} for name in ("a.ns", "p.meshproof-1")]
    listener = {"name": "x", "virtual_hosts": hosts, "filter_chains": chains}
    found = parts(mesh, dump(listener=listener), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    (content,) = [content for key, content in found.items() if key.kind == "listener"]
    assert content == {"name": "x", "virtualHosts": hosts[:1], "filterChains": chains[:1]}


def test_certificates_without_what_changes_when_they_are_renewed() -> None:
    root = make_root(common_name="Root")
    chains = [make_workload(root, "spiffe://cluster.local/ns/ns/sa/shop")[0].decode() for _ in range(2)]
    assert chains[0] != chains[1]
    one, two = (secret({"tlsCertificate": {"certificateChain": {"inlineString": chain}}}) for chain in chains)
    assert one == two
    assert one["certificate"]["names"] == ["spiffe://cluster.local/ns/ns/sa/shop"]
    assert one["certificate"]["issuer"] == root.cert.subject.rfc4514_string()
    assert secret({"validationContext": {"trustedCa": {"inlineString": "?"}}}) == {"trusted": "it cannot be read"}


def webhook(**changed: object) -> Json:
    hook = {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "failurePolicy": "Fail",
        "clientConfig": {"service": {"name": "istiod", "namespace": "ns", "path": "/inject"}},
    }
    meta = {"name": "istio-sidecar-injector", "labels": {"istio.io/rev": "default"}, "resourceVersion": "7"}
    return {"metadata": meta, "webhooks": [hook | changed, {"name": "else.example"}]}


def test_webhooks_are_istios_with_their_target_policy_and_revision(mesh: Mesh) -> None:
    directory = directory_of(mesh.clusters[0], mesh, raws_of(mesh))
    ((name, content),) = webhooks([webhook()], directory)
    assert name == "istio-sidecar-injector rev.namespace.sidecar-injector.istio.io"
    assert content == {
        "failurePolicy": "Fail",
        "target": {"service": {"name": "istiod", "namespace": "ns", "path": "/inject"}},
        "trusted": "nobody",
        "revision": "default",
        "tag": "",
    }
    ((_, other),) = webhooks([webhook(clientConfig={"url": "https://198.18.2.1:15017/inject"})], directory)
    assert isinstance(other, dict)
    assert other["target"] == {"url": "https://198.18.2.1 (cluster2 ns/gateway):15017/inject"}


def test_services_that_others_come_in_by_are_kept() -> None:
    assert list(gateways(service("shop", "10.96.0.8"))) == []
    ((kind, name, content),) = gateways(service("gateway", "10.96.0.8", "198.18.2.1"))
    assert (kind, name, content) == ("gateway", "ns/gateway", {"addresses": ["198.18.2.1"], "ports": []})


def chain(server: str) -> Json:
    return {"filterChainMatch": {"serverNames": [server]}}


# -- differences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)]),
        ({"a": 1}, {}, [("a", 1, None)]),
        ([{"name": "x"}], [{"name": "new"}, {"name": "x"}], [("[new]", None, {"name": "new"})]),
        ([{"name": "x"}, {"name": "y"}], [{"name": "y"}, {"name": "x"}], [(" (order)", ["x", "y"], ["y", "x"])]),
        (["a", "b"], ["b", "c"], [("", ["a"], ["c"])]),
        (["a", "b"], ["b", "a"], [(" (order)", ["a", "b"], ["b", "a"])]),
        (["a", "a"], ["a"], [("", ["a"], None)]),
        ([{"p": 1}, {"p": 2}], [{"p": 1}, {"p": 3}], [("[1].p", 2, 3)]),
        ([chain("a"), chain("b")], [chain("b")], [("[a]", chain("a"), None)]),
        ({"1.2.3.4 (x)": 1}, {"1.2.3.4 (x)": 2}, [("[1.2.3.4 (x)]", 1, 2)]),
    ],
)  # fmt: skip
def test_differences_have_the_path_to_them(before: object, after: object, expected: list[object]) -> None:
    assert list(differences(before, after)) == expected


KEY = Key(cluster="cluster1", workload="ns/shop", kind="endpoints", name=SHOP)
ALIKE = replace(KEY, workload="ns/client")


def versions(istiod: str) -> dict[Key, Content]:
    return {Key(cluster="cluster1", workload="istio-system/istiod", kind="version", name="istiod"): {"istio": istiod}}


def test_the_same_difference_in_several_places_is_told_once() -> None:
    before = record({KEY: {"weight": 1}, ALIKE: {"weight": 1}})
    (found,) = compare(before, record({KEY: {"weight": 2}, ALIKE: {"weight": 2}})).unexplained
    assert found.places == ("cluster1 ns/client", "cluster1 ns/shop")
    assert (found.kind, found.name, found.path, found.before, found.after) == ("endpoints", SHOP, "weight", 1, 2)


def test_a_workload_that_is_gone_is_one_difference() -> None:
    before = record({KEY: 1, replace(KEY, name="other"): 2, ALIKE: 1})
    text = told(compare(before, record({ALIKE: 1})))
    assert "differences that no rule explains: 1\n  ns/shop is gone: cluster1" in text


def compared() -> Comparison:
    before = versions("1.30.4-abc-Clean") | {KEY: {"weight": 1}}
    after = versions("1.31.0-def-Clean") | {KEY: {"weight": 3}}
    return compare(record(before), record(after))


def test_versions_are_explained_by_the_upgrade_and_nothing_else_is() -> None:
    found = compared()
    assert (found.from_version, found.to_version) == ("1.30.4", "1.31.0")
    assert [each.rule.id for each in found.explained] == ["VERSION-1"]
    assert [each.path for each in found.unexplained] == ["weight"]


def test_a_comparison_reads_as_it_should() -> None:
    assert told(compared()) == (
        "multi-primary-multinet: 2026-11-25 10:00:00 and 2026-11-25 10:00:00 UTC\n"
        "Istio 1.30.4 and 1.31.0; 2 parts of configuration\n"
        "differences that no rule explains: 1\n"
        f"  endpoints {SHOP} weight: was 1, is 3\n"
        "    at cluster1 ns/shop\n"
        "differences that a rule explains: 1\n"
        "  VERSION-1 istiods and proxies are of the new version (the upgrade itself)\n"
        "    version istiod istio: was 1.30.4-abc-Clean, is 1.31.0-def-Clean\n"
        "      at cluster1 istio-system/istiod"
    )


def test_what_is_the_same_in_many_parts_is_told_in_one_line() -> None:
    keys = [replace(KEY, name=f"c{number}") for number in range(10)]
    found = compare(record(dict.fromkeys(keys, 1)), record(dict.fromkeys(keys, 2)))
    assert len(found.unexplained) == 10
    assert "  endpoints c0, c1, c2, c3, c4, c5, c6, c7 and 2 more: was 1, is 2\n    at cluster1 ns/shop" in told(found)


def unready(version: str, *, healthy: int) -> Record:
    """One pod of the shop more than `healthy`, which is not ready: told of from 1.31 on."""
    mesh = mesh_of("multi-primary-multinet")
    pods = [pod(f"shop-abc-x{number}", f"10.1.0.{number}", owner="shop") for number in range(1, 4)]
    rows = [endpoint(f"10.1.0.{number + 1}") for number in range(healthy)]
    rows += [endpoint("10.1.0.3", health="UNHEALTHY")] if version.startswith("1.31") else []
    istiod = {
        Key(cluster="cluster1", workload="istio-system/istiod", kind="version", name="istiod"): {"istio": version}
    }
    return record(parts(mesh, dump(*rows, version=version), *pods) | istiod)


def test_endpoints_that_are_not_ready_are_explained_but_not_that_one_no_longer_is() -> None:
    found = compare(unready("1.30.4-abc", healthy=1), unready("1.31.0-def", healthy=1))
    assert sorted({each.rule.id for each in found.explained}) == ["UNREADY-1", "VERSION-1"]
    assert found.unexplained == ()
    found = compare(unready("1.30.4-abc", healthy=2), unready("1.31.0-def", healthy=1))
    (lost,) = found.unexplained
    assert (lost.path, lost.before, lost.after) == ("endpoints[cluster1 ns/shop:8080].count", 2, 1)
    found = compare(unready("1.31.0-abc", healthy=1), unready("1.31.1-abc", healthy=1))
    assert [each.rule.id for each in found.explained] == ["VERSION-1", "VERSION-1"]


def test_the_weight_of_a_locality_is_told_where_somebody_has_set_it(mesh: Mesh) -> None:
    text = dump(endpoint("10.1.0.5"), endpoint("10.1.0.5"))
    for weight, expected in ((2, None), (90, 90)):
        dumped = text.replace('"lb_endpoints"', f'"load_balancing_weight": {weight}, "lb_endpoints"')
        found = parts(mesh, dumped, pod("shop-abc-x1", "10.1.0.5", owner="shop"))
        (content,) = [each for key, each in found.items() if key.kind == "endpoints"]
        assert isinstance(content, dict)
        (facts,) = content["endpoints"].values()
        assert facts.get("localityWeight") == expected


def of_revision(suffix: str) -> dict[Key, Content]:
    """An istiod, and what speaks of it."""
    istiod = f"istiod{suffix}"
    told = {
        ("istio-system/" + istiod, "version", "istiod"): {"istio": "1.31.0"},
        ("ns/shop", "listener", f"Service istio-system/{istiod}_15012"): {
            "filterChains": [f"{istiod}.istio-system.svc"]
        },
        ("ns/shop", "route", "80"): {"domains": sorted(["istiodx.ns", "istiod.ns", f"{istiod}.istio-system"])},
        ("", "webhook", f"istio-validator{suffix}-istio-system x"): {"revision": suffix[1:] or "default"},
        ("ns/shop", "cluster", "outbound|80|1-31|shop"): {"subset": "1-31"},
    }
    return {
        Key(cluster="cluster1", workload=workload, kind=kind, name=name): content
        for (workload, kind, name), content in told.items()
    }


def test_the_name_of_the_revision_does_not_count() -> None:
    found = compare(record(of_revision("")), record(of_revision("-1-31")))
    assert found.equal, told(found)
    assert compare(record(of_revision("-1-30")), record(of_revision("-1-31"))).equal


def test_two_revisions_side_by_side_are_told_apart() -> None:
    both = of_revision("") | of_revision("-1-31")
    found = compare(record(of_revision("")), record(both))
    assert [each.name for each in found.unexplained if each.kind == "holder"] == ["istio-system/istiod-1-31"]


def test_what_the_old_revision_has_left_behind_is_seen() -> None:
    listener = replace(KEY, kind="listener", name="Service istio-system/istiod_15012")
    left = of_revision("-1-31") | {listener: {"filterChains": ["istiod.istio-system.svc"]}}
    (found,) = compare(record(of_revision("")), record(left)).unexplained
    assert (found.kind, found.name, found.before) == ("listener", "Service istio-system/istiod-1-31_15012", None)


def test_another_version_than_that_of_the_upgrade_is_red() -> None:
    before, after = record(versions("1.30.4-abc")), record(versions("1.30.5-abc"))
    assert compare(before, after, from_version="1.30", to_version="1.31").unexplained


def test_records_of_two_meshes_are_not_compared() -> None:
    with pytest.raises(BadInput, match="they are of two meshes"):
        compare(record({}), replace(record({}), mesh="other"))


RULE = Rule(
    id="X-1", sentence="s", source="s", kind="cluster", path="a", before="1", after="", since=Version(1, 31)
)  # fmt: skip


@pytest.mark.parametrize(("old", "new", "applies"), [
    ("1.30.4", "1.31.0", True), ("1.29", "1.32", True), ("1.31.0", "1.31.1", False), ("1.31", "1.32", False),
    ("1.29", "1.30", False), ("1.31", "1.30", False), ("?", "1.31", False),
])  # fmt: skip
def test_a_rule_explains_upgrades_that_pass_its_release(old: str, new: str, applies: bool) -> None:
    assert RULE.applies(old, new) is applies


HARM: list[tuple[str, str, object, object]] = [
    ("endpoints", "endpoints[cluster1 ns/shop:8080].weight", 1, 2),
    ("endpoints", "endpoints[cluster1 ns/shop:8080]", {"weight": 1}, None),
    ("endpoints", "endpoints[cluster1 ns/shop:8080].count", 2, 1),
    ("endpoints", "endpoints[cluster1 ns/shop:8080 unhealthy]", None, {"count": 1, "health": "TIMEOUT", "weight": 1}),
    ("endpoints", "endpoints[198.18.2.1 (cluster2 ns/gateway):15443].weight", 1, 2),
    ("cluster", "commonLbConfig.healthyPanicThreshold", {"value": 50}, {}),
    ("cluster", "commonLbConfig.healthyPanicThreshold", None, {"value": 100}),
    ("endpoints", "", {"endpoints": {}}, None),
    ("secret", "trusted", ["CN=Root SHA-256 AA"], ["CN=Other SHA-256 BB"]),
    ("secret", "certificate.issuer", "CN=Root", "CN=Other"),
    ("secret", "certificate.names", ["spiffe://a"], ["spiffe://b"]),
    ("webhook", "", {"failurePolicy": "Fail"}, None),
    ("webhook", "failurePolicy", "Fail", "Ignore"),
    ("webhook", "target.service.name", "istiod", "gone"),
    ("webhook", "trusted", ["CN=Root SHA-256 AA"], "nobody"),
    ("cluster", "", {"name": "c"}, None),
    ("cluster", "transportSocketMatches", [{"name": "tlsMode-istio"}], None),
    ("listener", "", {"name": "l"}, None),
    ("route", "virtualHosts[shop]", {"name": "shop"}, None),
    ("route", "virtualHosts[shop].routes[default].route.cluster", "a", "b"),
    ("gateway", "addresses", ["198.18.2.1"], None),
    ("mesh configuration", "trustDomain", "cluster.local", "other"),
    ("crd", "", ["v1"], None),
    ("holder", "", "there", None),
    ("version", "istio", "1.30.4", "1.29.0"),
    ("version", "", "v1.36.1", "v1.30.0"),
    ("answers", "outcomes", "v1 100", "v1 200"),
]


@pytest.mark.parametrize(("kind", "path", "was", "now"), HARM)
def test_no_rule_explains_harm(kind: str, path: str, was: object, now: object) -> None:
    for name in ("istiod", "proxy", SHOP, "virtualInbound", "default"):
        harm = Difference(places=("cluster1",), kind=kind, name=name, path=path, before=was, after=now)
        assert explanation(harm, "1.30.4", "1.31.0", RULES) is None


def test_rules_have_ids_of_their_own_and_sources() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.sentence, rule.id
        assert rule.source, rule.id
        assert ".*" not in (rule.kind, rule.path), f"{rule.id} would explain whatever comes"


# -- samples ----------------------------------------------------------------------------------------------------------


def answers(v1: int, v2: int, seconds: float = 0.004) -> Sample:
    told = [HttpAnswer(status=200, version=version, seconds=seconds) for version in ["v1"] * v1 + ["v2"] * v2]
    return sample(told, {"v1": 0.5, "v2": 0.5})


@pytest.mark.parametrize(("v1", "v2", "red"), [(100, 100, False), (80, 120, False), (40, 160, True), (200, 0, True)])
def test_shares_are_judged_and_not_compared(v1: int, v2: int, red: bool) -> None:
    before, after = (record({KEY: 1}, client=each) for each in (answers(100, 100), answers(v1, v2)))
    assert bool(compare(before, after).unexplained) is red


def test_latency_is_red_if_it_is_much_longer_and_no_accident() -> None:
    quick, slow = answers(100, 100).latency, answers(100, 100, 0.02).latency
    assert slower(quick, answers(100, 100, 0.01).latency) is None
    assert slower(slow, quick) is None
    assert slower(quick, answers(1, 1, 0.02).latency) is None, "two answers tell nothing"
    before, after = record({}, client=answers(100, 100)), record({}, client=answers(100, 100, 0.02))
    (found,) = compare(before, after).unexplained
    assert (found.path, found.before) == ("latency", "median 4.77 ms")


# -- files ------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    made = record(versions("1.31.0") | {KEY: {"weight": 1}, ALIKE: {"weight": 1}}, client=answers(100, 100))
    write_record(made, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == made
    assert text_of(made).count('"weight"') == 1, "what two workloads hold alike is written once"


def broken(change: Callable[[Json], object]) -> str:
    document = json.loads(text_of(record({KEY: 1}, client=answers(1, 1))))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is no JSON"),
        ("[]", "it is no record"),
        (broken(lambda d: d.update(format=99)), "it has format 99, this meshproof writes and reads 1"),
        (broken(lambda d: d.pop("taken")), "taken is missing in it"),
        (broken(lambda d: d["parts"][0].pop("kind")), "kind is missing in it"),
        (broken(lambda d: d.update(taken="today")), "something in it is of another kind"),
        (broken(lambda d: d["samples"]["client"].update(counts=[])), "something in it is of another kind"),
    ],
)
def test_a_file_that_is_no_record_says_why(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        read_record(path)
    assert str(path) in caught.value.what
    assert caught.value.repair


def test_compare_exits_with_one_if_something_is_red(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write_record(record({KEY: 1}), before)
    write_record(record({KEY: 2}), after)
    assert cli.main(["upgrade", "compare", str(before), str(before)]) == 0
    assert "no difference" in capsys.readouterr().out
    assert cli.main(["upgrade", "compare", str(before), str(after)]) == 1
    assert "was 1, is 2" in capsys.readouterr().out
    assert cli.main(["upgrade", "compare", str(before), str(tmp_path / "none.json")]) == 2
    assert cli.main(["upgrade", "compare", str(before), str(after), "--to=new"]) == 2
    assert "--to=new: it is no version" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_a_mesh_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["upgrade", "record", "-o", "/nowhere/at/all/x.json"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
