"""The record of a mesh: what is left away, what is kept, and how it becomes a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from meshproof.cli import main as cli
from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import BadInput, NotReady
from meshproof.mesh.handles import Mesh
from meshproof.mesh.objects import pod_facts
from meshproof.pki.issue import make_root, make_workload
from meshproof.probes.answers import HttpAnswer
from meshproof.upgrade.baseline import capture as take_module
from meshproof.upgrade.baseline.capture_cluster import gateways, webhooks
from meshproof.upgrade.baseline.certificates import secret
from meshproof.upgrade.baseline.compare import compare_records
from meshproof.upgrade.baseline.file import read_record, record_text, write_record
from meshproof.upgrade.baseline.model import BaselineRecord, Content, Key, Sample
from meshproof.upgrade.baseline.samples import sample, slower
from meshproof.upgrade.baseline.workload_identity import directory_of, workload_of, workload_pods
from tests.fakes import mesh_of
from tests.record_fakes import ALIKE, KEY, SHOP, dump, endpoint, parts, pod, raws_of, record, service


@pytest.fixture
def mesh() -> Mesh:
    return mesh_of("multi-primary-multinet")


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
    (member,) = workload_pods(raws_of(mesh, new, unready, old)[0])
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
    hosts = [{"name": f"{name}.svc:80"} for name in ("shop.ns", "probe.meshproof-testbed-1", "meshproof-canary-1.ns")]
    chains = [{"filterChainMatch": {"serverNames": [f"outbound_.80_._.{name}"]}} for name in ("a.ns", "p.meshproof-1")]
    listener = {"name": "x", "virtual_hosts": hosts, "filter_chains": chains}
    found = parts(mesh, dump(listener=listener), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    (content,) = [content for key, content in found.items() if key.kind == "listener"]
    assert content == {"name": "x", "virtualHosts": hosts[:1], "filterChains": chains[:1]}


def test_a_listener_on_a_port_that_only_probes_have_is_left_out(mesh: Mesh) -> None:
    dumped = json.loads(dump(listener={"name": "0.0.0.0_81", "filters": [{"rds": {"route_config_name": "81"}}]}))
    hosts = [
        {"name": "probe.meshproof-testbed-1.svc:81", "domains": ["probe"]},
        {"name": "allow_any", "domains": ["*"]},
    ]
    route = {"name": "81", "virtualHosts": hosts}
    dumped["configs"].append({"@type": "x.RoutesConfigDump", "dynamicRouteConfigs": [{"routeConfig": route}]})
    found = parts(mesh, json.dumps(dumped), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    assert not {key for key in found if key.kind in ("listener", "route")}
    route["virtualHosts"] = [*hosts, {"name": "shop.ns.svc:81", "domains": ["shop"]}]
    found = parts(mesh, json.dumps(dumped), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    assert {key.kind for key in found} >= {"listener", "route"}


def test_what_envoy_keeps_of_traffic_and_of_removed_listeners_is_left_out(mesh: Mesh) -> None:
    dumped = json.loads(dump(listener={"name": "0.0.0.0_80", "filters": [{"rds": {"route_config_name": "80"}}]}))
    routes = [{"routeConfig": {"name": name}} for name in ("80", "81")]
    dumped["configs"] += [
        {"@type": "x.RoutesConfigDump", "dynamicRouteConfigs": routes},
        {
            "@type": "x.ClustersConfigDump",
            "dynamicActiveClusters": [{"cluster": {"name": "inbound|8080||", "type": "ORIGINAL_DST"}}],
        },
        {
            "@type": "x.EndpointsConfigDump",
            "dynamicEndpointConfigs": [
                {"endpointConfig": {"clusterName": name}} for name in ("inbound|8080||", "shop")
            ],
        },
    ]
    found = {f"{key.kind} {key.name}" for key in parts(mesh, json.dumps(dumped), pod("shop-abc-x1", "10.1.0.5"))}
    assert {"route 80", "endpoints shop", "cluster inbound|8080||"} <= found
    assert not {"route 81", "endpoints inbound|8080||"} & found


@pytest.mark.parametrize(("discovery", "there"), [("EDS", True), ("ORIGINAL_DST", False), ("STRICT_DNS", False)])
def test_endpoints_are_those_that_istiod_sends(discovery: str, there: bool, mesh: Mesh) -> None:
    found = parts(mesh, dump(endpoint("10.1.0.5"), discovery=discovery), pod("shop-abc-x1", "10.1.0.5", owner="shop"))
    assert [key.kind for key in found if key.name == SHOP] == (["cluster", "endpoints"] if there else ["cluster"])


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


# -- samples ----------------------------------------------------------------------------------------------------------


def answers(v1: int, v2: int, seconds: float = 0.004) -> Sample:
    dumped = [HttpAnswer(status=200, version=version, seconds=seconds) for version in ["v1"] * v1 + ["v2"] * v2]
    return sample(dumped, {"v1": 0.5, "v2": 0.5})


@pytest.mark.parametrize(("v1", "v2", "red"), [(100, 100, False), (80, 120, False), (40, 160, True), (200, 0, True)])
def test_shares_are_judged_and_not_compared(v1: int, v2: int, red: bool) -> None:
    before, after = (record({KEY: 1}, client=each) for each in (answers(100, 100), answers(v1, v2)))
    assert bool(compare_records(before, after).unexplained) is red


def test_latency_is_red_if_it_is_much_longer_and_no_accident() -> None:
    quick, busy, slow = (answers(100, 100, seconds).latency for seconds in (0.004, 0.02, 0.04))
    assert slower(quick, busy) is None, "five times as long, but 18 ms more"
    assert slower(answers(100, 100, 0.1).latency, answers(100, 100, 0.2).latency) is None, "twice as long"
    assert slower(slow, quick) is None
    assert slower(quick, answers(1, 1, 0.04).latency) is None, "two answers tell nothing"
    before, after = record({}, client=answers(100, 100)), record({}, client=answers(100, 100, 0.04))
    (found,) = compare_records(before, after).unexplained
    assert (found.path, found.before) == ("latency", "median 4.77 ms")


# -- files ------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    made = record({KEY: {"weight": 1}, ALIKE: {"weight": 1}}, client=answers(100, 100))
    write_record(made, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == made
    assert record_text(made).count('"weight"') == 1, "what two workloads hold alike is written once"


def broken(change: Callable[[Json], object]) -> str:
    document = json.loads(record_text(record({KEY: 1}, client=answers(1, 1))))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not valid JSON"),
        ("[]", "it is not a record"),
        (broken(lambda d: d.update(format=99)), "its format is 99, but this meshproof reads and writes only 1"),
        (broken(lambda d: d.pop("taken")), "the field taken is missing"),
        (broken(lambda d: d["parts"][0].pop("kind")), "the field kind is missing"),
        (broken(lambda d: d.update(taken="today")), "a field has a wrong type"),
        (broken(lambda d: d["samples"]["client"].update(counts=[])), "a field has a wrong type"),
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
    istiod = Key(cluster="cluster1", workload="istio-system/istiod", kind="version", name="istiod")
    version: dict[Key, Content] = {istiod: {"istio": "1.31.0"}}
    write_record(record(version | {KEY: 1}), before)
    write_record(record(version | {KEY: 2}), after)
    assert cli.main(["upgrade", "compare", str(before), str(before)]) == 0
    assert "\nno difference\n" in capsys.readouterr().out
    write_record(record({KEY: 1}), tmp_path / "empty.json")
    assert cli.main(["upgrade", "compare", *[str(tmp_path / "empty.json")] * 2]) == 1
    assert "NOT KNOWN: the record before has no istiod\n" in capsys.readouterr().out
    assert cli.main(["upgrade", "compare", str(before), str(after)]) == 1
    assert "was 1, is 2" in capsys.readouterr().out
    assert cli.main(["upgrade", "compare", str(before), str(tmp_path / "none.json")]) == 2
    assert cli.main(["upgrade", "compare", str(before), str(after), "--to=new"]) == 2
    assert "--to=new: not a version of Istio" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_reported_before_a_mesh_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["upgrade", "record", "-o", "/nowhere/at/all/x.json"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_pod_that_disappears_before_it_is_read_causes_a_second_read(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, outcomes = record({}), [NotReady("exec in ns/shop", "could not start: not found"), None]

    def attempt(mesh: Mesh, *, traffic: bool) -> BaselineRecord:
        problem = outcomes.pop(0)
        if problem is not None:
            raise problem
        return made

    monkeypatch.setattr(take_module, "_take", attempt)
    assert take_module.take_record(mesh) is made
    outcomes[:] = [NotReady("exec", "no"), NotReady("exec", "still not")]
    with pytest.raises(NotReady, match="still not"):
        take_module.take_record(mesh)
