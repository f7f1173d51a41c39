"""Gateways of any name: found by their Service, opened by its selector, one Gateway for each selection of pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import namespaces
from meshproof.core import names
from meshproof.core.errors import BadInput, Broken, Unavailable
from meshproof.core.model import EAST_WEST, GatewayRef, Topology
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import as_yaml, load_topology
from meshproof.gateways.catch_all import catching_all
from meshproof.install.gateways import cross_network_gateway_of, gateways_of, mesh_configuration
from meshproof.install.lifecycle import install_mesh
from meshproof.install.plan import plan_for
from meshproof.install.removal import leftovers_in
from meshproof.load.generator import DEFAULT, EntryPoint, sources_of
from meshproof.mesh.gateways import gateway_pods, opened_at_ingress, selector_of
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import ServiceFacts, service_facts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.report.diagram.build import plan, with_facts
from meshproof.traffic.shares import _places
from meshproof.workloads.testbed.configuration import configurations
from tests.fakes import facts_of, mesh_of, pod
from tests.install_fakes import FakeKube, fake_mesh, fake_of

RENAMED = """\
title: Gateways as Helm's chart calls them, in the first cluster
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - name: east
    role: primary
    network: n1
    app_version: v1
    ingress: istio-ingress/istio-ingress
    east_west: edge/istio-cross
  - {name: west, role: remote, control_plane: east, network: n2, app_version: v2}
"""


@pytest.fixture
def renamed(tmp_path: Path) -> Topology:
    path = tmp_path / "renamed.yaml"
    path.write_text(RENAMED)
    return load_topology(str(path))


@pytest.fixture
def mesh(renamed: Topology) -> Mesh:
    """Two clusters with nothing but the Services of their ingress gateways."""
    made = fake_mesh(renamed)
    for cluster in made.clusters:
        ref = ingress_of(cluster)
        fake_of(cluster).put(service(ref, {"istio": ref.label}))
    return made


def service(ref: GatewayRef, selector: dict[str, str], *, target: object = None) -> Json:
    port = {"port": 80, **({"targetPort": target} if target else {})}
    meta = {"name": ref.name, "namespace": ref.namespace}
    return {
        "kind": "Service",
        "metadata": meta,
        "spec": {"type": "LoadBalancer", "selector": selector, "ports": [port]},
    }


def ingress_of(cluster: Cluster) -> GatewayRef:
    assert cluster.spec.ingress is not None
    return cluster.spec.ingress


def gateways_in(items: tuple[Json, ...]) -> dict[str, str]:
    """By name which pods a Gateway is for."""
    return {i["metadata"]["name"]: i["spec"]["selector"]["istio"] for i in items if i["kind"] == "Gateway"}


def test_a_topology_names_its_gateways_and_keeps_them_when_it_is_written(renamed: Topology, tmp_path: Path) -> None:
    east, west = renamed.clusters
    assert [str(gateway) for gateway in (east.ingress, east.east_west, west.east_west)] == [
        "istio-ingress/istio-ingress",
        "edge/istio-cross",
        "istio-system/istio-eastwestgateway",
    ]
    assert east.mesh_namespaces == ("istio-system", "istio-ingress", "edge")
    assert west.mesh_namespaces == ("istio-system",)
    (tmp_path / "again.yaml").write_text(as_yaml(renamed))
    assert load_topology(str(tmp_path / "again.yaml")).clusters == renamed.clusters


def test_what_is_installed_has_these_names_and_is_opened_by_label(renamed: Topology) -> None:
    east, west = renamed.clusters
    assert [gateway.selector for gateway in gateways_of(renamed, east)] == [
        {"app": "istio-ingress", "istio": "ingress"},
        {"app": "istio-cross", "istio": "cross"},
    ]
    assert [manifest["metadata"]["name"] for manifest in namespaces(east)] == [
        *("istio-system", "meshproof-app", "meshproof-clients", "istio-ingress", "edge", "meshproof-outside")
    ]
    assert gateways_in(mesh_configuration(renamed, east)) == {
        "cross-network-gateway": "cross",
        "cross-network-gateway-2": "eastwestgateway",
        "istiod-gateway": "cross",
        "mockshop-gateway": "ingress",
        "mockshop-gateway-2": "ingressgateway",
    }
    routes = [i for i in mesh_configuration(renamed, east) if i["metadata"]["name"] == "mockshop"]
    assert [route["spec"]["gateways"] for route in routes] == [["mockshop-gateway", "mockshop-gateway-2"]]
    assert cross_network_gateway_of(renamed, east) == "cross-network-gateway"
    assert cross_network_gateway_of(renamed, west) == "cross-network-gateway-2"


def test_gateways_of_a_namespace_that_is_not_ours_are_refused_before_anything_is_made(mesh: Mesh) -> None:
    kube = fake_of(mesh.clusters[0])
    kube.put({"kind": "Namespace", "metadata": {"name": "edge"}})
    with pytest.raises(BadInput, match="gateways of east in namespace edge: meshproof did not create that namespace"):
        install_mesh(mesh, LineNarrator())
    assert kube.writes == []


def test_namespaces_that_we_made_are_left_over_whatever_they_are_called() -> None:
    kube = FakeKube("east")
    labels = {"app.kubernetes.io/managed-by": "meshproof"}
    kube.put({"kind": "Namespace", "metadata": {"name": "edge", "labels": labels}})
    kube.put({"kind": "Namespace", "metadata": {"name": "shop"}})
    assert leftovers_in(kube) == ["east: Namespace edge"]


def test_the_stage_is_opened_at_every_ingress_gateway_that_its_istiod_controls(mesh: Mesh) -> None:
    items = [item for cluster, item in configurations(mesh, "meshproof-testbed-x") if cluster is mesh.clusters[0]]
    opened = gateways_in(tuple(items))
    assert list(opened.values()) == ["ingress", "ingressgateway"]
    for item in items:
        if item["kind"] == "VirtualService":
            assert set(item["spec"]["gateways"]) - {"mesh"} == set(opened), item["metadata"]["name"]
        for server in item["spec"].get("servers", []):
            assert server["hosts"] == ["*.meshproof-testbed-x.meshproof.invalid"]
    assert {cluster.name for cluster, _ in configurations(mesh, "meshproof-testbed-x")} == {"east"}


def test_one_selection_of_pods_is_opened_once(mesh: Mesh) -> None:
    for cluster in mesh.clusters:
        fake_of(cluster).put(service(ingress_of(cluster), {"istio": "door"}))
    assert gateways_in(opened_at_ingress(mesh, mesh.clusters[0], "x", "ns", ["a.example"])) == {"x": "door"}


def test_pods_are_those_of_the_selector_and_a_service_that_is_missing_is_named(mesh: Mesh) -> None:
    east = mesh.clusters[0]
    for name, label in (("a", "ingress"), ("b", "other")):
        meta = {"name": name, "namespace": "istio-ingress", "labels": {"istio": label}}
        fake_of(east).put({"kind": "Pod", "metadata": meta})
    assert [pod["metadata"]["name"] for pod in gateway_pods(east, ingress_of(east))] == ["a"]
    with pytest.raises(Broken, match="Service edge/istio-cross on east: it does not exist"):
        selector_of(east, east.spec.east_west)
    fake_of(east).put(service(east.spec.east_west, {}))
    with pytest.raises(Broken, match="Service edge/istio-cross on east: it has no pod selector"):
        selector_of(east, east.spec.east_west)


@pytest.mark.parametrize(("target", "route"), [(None, "http.80"), (8080, "http.8080"), ("8080", "http.8080")])
def test_routes_are_called_by_the_port_of_the_pods(mesh: Mesh, target: object, route: str) -> None:
    east = mesh.clusters[0]
    assert with_ingress(mesh, service(ingress_of(east), {"istio": "ingress"}, target=target)).ingress_route == route


def test_addresses_are_those_of_the_load_balancer_and_external_ones(mesh: Mesh) -> None:
    facts = with_ingress(mesh, service(ingress_of(mesh.clusters[0]), {}))
    bare = service(GatewayRef("istio-system", "x"), {})
    bare["spec"] |= {"type": "ClusterIP"}
    assert not facts.is_gateway(service_facts(bare))
    bare["spec"]["externalIPs"] = ["203.0.113.7", "203.0.113.8"]
    assert service_facts(bare).addresses == ("203.0.113.7", "203.0.113.8")
    assert facts.is_gateway(service_facts(bare))
    both = bare | {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.8"}, {"hostname": "lb.example"}]}}}
    assert service_facts(both).addresses == ("203.0.113.8", "lb.example", "203.0.113.7")


def test_gateways_are_those_of_the_topology_and_what_leads_in_beside_istiod(mesh: Mesh) -> None:
    """A Service that happens to be in a gateway's namespace is somebody's own."""
    ingress = ingress_of(mesh.clusters[0])
    facts = with_ingress(mesh, service(ingress, {}))
    places = (ingress, GatewayRef("istio-system", "x"), GatewayRef("istio-ingress", "x"), GatewayRef("shop", "x"))
    found = [service_facts(service(place, {})) for place in places]
    assert [facts.is_gateway(each) for each in found] == [True, True, False, False]
    assert facts.east_west is None, f"{EAST_WEST} is not the one that the topology names"


def running(mesh: Mesh, number: int, name: str, labels: Json, container: Json) -> None:
    """A pod of istio-system, or of the first cluster's ingress gateway."""
    namespace = "istio-system" if "app" in labels else ingress_of(mesh.clusters[number]).namespace
    meta = {"name": name, "namespace": namespace, "labels": labels}
    fake_of(mesh.clusters[number]).put(
        {"kind": "Pod", "metadata": meta, "spec": {"containers": [container]}, "status": {"phase": "Running"}}
    )


def shut(mesh: Mesh, **switches: str) -> list[str]:
    """Why the ingress gateways take nothing of ours, with these switches of the only istiod."""
    env = [{"name": name, "value": value} for name, value in switches.items()]
    running(mesh, 0, "istiod", {"app": "istiod"}, {"name": "discovery", "env": env})
    return [facts.ingress_shut.partition(" (")[0] for facts in Snapshot.take(mesh).facts]


def test_gateways_that_take_only_what_is_beside_them_are_not_asked_and_that_is_said(mesh: Mesh) -> None:
    told = "istiod of east limits gateways to Gateways of their own namespace"
    assert shut(mesh) == ["", ""]
    assert shut(mesh, PILOT_SCOPE_GATEWAY_TO_NAMESPACE="false") == ["", ""]
    assert shut(mesh, PILOT_SCOPE_GATEWAY_TO_NAMESPACE="true") == [told, told], "the remote has that istiod, too"
    facts = Snapshot.take(mesh).facts[0]
    with pytest.raises(Unavailable, match="requests through istio-ingress/istio-ingress of east: istiod of east"):
        assert facts.ingress_address
    with pytest.raises(Unavailable, match="name an ingress gateway that accepts them in the topology file"):
        assert facts.ingress_route


def test_gateways_that_istio_makes_for_the_gateway_api_take_nothing_of_ours_unless_they_are_told_to(mesh: Mesh) -> None:
    labels = {"istio": "ingress", "gateway.istio.io/managed": "istio.io-gateway-controller"}
    running(mesh, 0, "door", labels, {"name": "istio-proxy"})
    assert shut(mesh) == [
        "it was created by the Gateway API, and ignores Gateways of other namespaces",
        "",
    ]
    assert shut(mesh, PILOT_ENABLE_STRICT_GATEWAY_MERGING="False") == ["", ""]


def policed(mesh: Mesh, *policies: Json, namespace: str = "istio-ingress") -> list[str]:
    """Why the ingress gateways take nothing of ours, with these policies in the primary."""
    running(mesh, 0, "door", {"istio": "ingress"}, {"name": "istio-proxy"})
    for number, spec in enumerate(policies):
        meta = {"name": f"policy-{number}", "namespace": namespace}
        fake_of(mesh.clusters[0]).put({"kind": "AuthorizationPolicy", "metadata": meta, "spec": spec})
    return [facts.ingress_shut for facts in Snapshot.take(mesh).facts]


TOKEN_REQUIRED = {"action": "DENY", "rules": [{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}]}


@pytest.mark.parametrize(
    "spec",
    [
        TOKEN_REQUIRED,
        TOKEN_REQUIRED | {"selector": {"matchLabels": {"istio": "ingress"}}},
        {},
        {"rules": [{"from": [{"source": {"requestPrincipals": ["issuer/*"]}}]}]},
        {"rules": [{"to": [{"operation": {"hosts": ["shop.example.com"]}}]}]},
        {"rules": [{"to": [{"operation": {"paths": ["/api/*"]}}]}]},
        {"rules": [{"from": [{"source": {"ipBlocks": ["192.0.2.0/24"]}}]}]},
        {"action": "DENY", "rules": [{"to": [{"operation": {"notHosts": ["*.example.com"]}}]}]},
        {"action": "DENY", "rules": [{"when": [{"key": "request.auth.claims[iss]", "notValues": ["issuer"]}]}]},
        {"action": "CUSTOM", "provider": {"name": "oauth2-proxy"}, "rules": [{}]},
    ],
)
def test_a_gateway_whose_policies_reject_anonymous_requests_is_not_used(mesh: Mesh, spec: Json) -> None:
    expected = "requests without credentials are rejected by AuthorizationPolicy istio-ingress/policy-0"
    assert policed(mesh, spec) == [expected, ""]


@pytest.mark.parametrize(
    "spec",
    [
        {"rules": [{}]},
        {"selector": {"matchLabels": {"app": "another"}}},
        {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin*"]}}]}]},
        {"action": "DENY", "rules": [{"to": [{"operation": {"hosts": ["ADMIN.example.com"]}}]}]},
        {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["DELETE"]}}]}]},
        {"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]},
        {"action": "AUDIT", "rules": [{}]},
        {"targetRefs": [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "door"}]},
    ],
)
def test_a_policy_that_spares_our_requests_keeps_no_gateway_from_use(mesh: Mesh, spec: Json) -> None:
    assert policed(mesh, spec) == ["", ""]


def test_what_one_policy_allows_another_need_not(mesh: Mesh) -> None:
    assert policed(mesh, {}, {"selector": {"matchLabels": {"istio": "ingress"}}, "rules": [{}]}) == ["", ""]
    assert policed(mesh, {}, namespace="shop") == ["", ""], "the policy of another namespace"


def test_policies_for_all_namespaces_are_in_the_root_namespace(mesh: Mesh) -> None:
    """With Istio's default that is istio-system."""
    rejected = ["requests without credentials are rejected by AuthorizationPolicy policies/policy-0", ""]
    assert policed(mesh, {}, namespace="policies") == ["", ""]
    config = {"mesh": "rootNamespace: policies\n"}
    meta = {"name": "istio", "namespace": "istio-system"}
    fake_of(mesh.clusters[0]).put({"kind": "ConfigMap", "metadata": meta, "data": config})
    assert policed(mesh, {}, namespace="policies") == rejected


def test_a_gateway_without_a_plain_port_is_not_used(mesh: Mesh) -> None:
    fake = fake_of(mesh.clusters[0])
    service = fake.find("Service", "istio-ingress", "istio-ingress")
    assert service is not None
    service["spec"]["ports"] = [{"name": "https", "port": 443}]
    fake.put(service | {"kind": "Service"})
    assert policed(mesh) == ["Service istio-ingress/istio-ingress has no port 80", ""]


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ({"port": {"number": 80}, "hosts": ["*"], "tls": {"httpsRedirect": True}}, True),
        ({"port": {"number": 80}, "hosts": ["./*"]}, True),
        ({"port": {"number": 443}, "hosts": ["*"]}, False),
        ({"port": {"number": 80}, "hosts": ["*.example.com"]}, False),
    ],
)
def test_a_gateway_object_of_others_that_accepts_every_host_is_found(server: Json, found: bool) -> None:
    pods = [{"istio": "ingress", "app": "door"}]

    def gateway(**changes: Json) -> Json:
        meta = {"name": "redirect", "namespace": "edge", **changes.get("metadata", {})}
        return {"kind": "Gateway", "metadata": meta, "spec": {"selector": {"istio": "ingress"}, "servers": [server]}}

    assert catching_all([gateway()], pods) == (("Gateway edge/redirect",) if found else ())
    assert catching_all([gateway(metadata={"labels": dict(names.MANAGED_BY)})], pods) == ()
    assert catching_all([gateway()], [{"istio": "another"}]) == ()


def with_ingress(mesh: Mesh, ingress: Json) -> ClusterFacts:
    plain = facts_of(mesh.clusters[0], 1)
    return ClusterFacts(
        cluster=plain.cluster,
        pods=(),
        services=(*plain.services, service_facts(ingress)),
        app_endpoints=(),
        ca=None,
        root_maps={},
    )


WITHOUT = RENAMED.replace("    ingress: istio-ingress/istio-ingress\n", "    ingress: none\n")
"""The first cluster has no ingress gateway."""
NOWHERE = WITHOUT.replace("app_version: v2}", "app_version: v2, ingress: none}")


def written(folder: Path, text: str) -> Topology:
    path = folder / "without.yaml"
    path.write_text(text)
    return load_topology(str(path))


def test_a_topology_may_say_that_a_cluster_has_no_ingress_gateway(tmp_path: Path) -> None:
    topology = written(tmp_path, WITHOUT)
    east, west = topology.clusters
    assert (east.ingress, str(west.ingress)) == (None, "istio-system/istio-ingressgateway")
    assert east.mesh_namespaces == ("istio-system", "edge")
    (tmp_path / "again.yaml").write_text(as_yaml(topology))
    assert load_topology(str(tmp_path / "again.yaml")).clusters == topology.clusters


def test_what_a_topology_denies_is_not_installed_and_nothing_is_opened_there(tmp_path: Path) -> None:
    topology, nowhere = written(tmp_path, WITHOUT), written(tmp_path, NOWHERE)
    assert [gateway.name for gateway in gateways_of(topology, topology.clusters[0])] == ["istio-cross"]
    opened = gateways_in(mesh_configuration(topology, topology.clusters[0]))
    assert opened["mockshop-gateway"] == "ingressgateway"
    assert "mockshop-gateway-2" not in opened
    kinds = [item["kind"] for item in mesh_configuration(nowhere, nowhere.clusters[0])]
    assert kinds.count("VirtualService") == 1, "istiod's; one for the application would be one of sidecars"


def test_a_cluster_without_any_gateway_has_no_steps_for_them(tmp_path: Path) -> None:
    one_network = NOWHERE.replace("network: n2", "network: n1")
    steps = [step.name for step in plan_for(fake_mesh(written(tmp_path, one_network)))]
    assert [name for name in steps if "gateway" in name] == [
        "gateway services in east",
        "gateway addresses in east",
        "gateways in east",
    ]


def test_without_ingress_gateways_the_stage_has_no_route_of_its_own_for_them(tmp_path: Path) -> None:
    """A VirtualService whose list of gateways is empty would be one of sidecars."""
    items = [item for _, item in configurations(fake_mesh(written(tmp_path, NOWHERE)), "meshproof-testbed-x")]
    routes = {item["metadata"]["name"]: item["spec"]["gateways"] for item in items if item["kind"] == "VirtualService"}
    assert routes == {"probe-weighted": ["mesh"]}
    assert gateways_in(tuple(items)) == {}


def test_requests_go_through_the_ingress_gateways_that_are_there_and_of_the_others_it_is_said(tmp_path: Path) -> None:
    """Load, samples and health check have every client, and those gateways only."""
    mesh = fake_mesh(written(tmp_path, WITHOUT))
    client = pod("client", names.CLIENT_NAMESPACE, app="client")
    plain = (facts_of(cluster, number) for number, cluster in enumerate(mesh.clusters, start=1))
    snapshot = Snapshot(mesh=mesh, facts=tuple(replace(facts, pods=(client,)) for facts in plain))
    east, west = mesh.clusters
    assert snapshot.with_ingress == (west,)
    assert snapshot.without_ingress == {"ingress gateway of east": "east has no ingress gateway"}
    assert [str(source) for source in sources_of(snapshot, (DEFAULT,), tuple(EntryPoint))] == [
        *("east client", "west ingress new", "west ingress kept", "west client")
    ]
    assert list(_places(snapshot)) == [(east, False), (west, True), (west, False)]
    facts = snapshot.of(east)
    assert facts.callers == (client,)
    told = "requests through an ingress gateway of east: east has no ingress gateway"
    with pytest.raises(Unavailable, match=told):
        assert facts.ingress_address
    with pytest.raises(Unavailable, match=told):
        assert facts.ingress_route
    assert plan(mesh.topology).clusters[0].clients.title == "clients, no ingress gateway"
    found = with_facts(plan(mesh.topology), snapshot, {}).clusters[0].clients
    assert not found.missing


def test_the_pods_of_every_gateway_into_a_network_are_known_once() -> None:
    """Two Services may select the same pods, and a second gateway may be beside the topology's."""
    mesh = mesh_of("multi-primary-multinet")

    def door(name: str, selector: str, **labels: str) -> ServiceFacts:
        ports = [{"port": 15443}]
        meta = {"name": name, "namespace": "istio-system", "labels": {"topology.istio.io/network": "network1"} | labels}
        return service_facts({"metadata": meta, "spec": {"selector": {"istio": selector}, "ports": ports}})

    pods = tuple(pod(name, "istio-system", istio=label) for name, label in (("a", "first"), ("b", "second")))
    services = (door(EAST_WEST.name, "first"), door("again", "first"), door("second", "second"))
    plain = replace(facts_of(mesh.clusters[0], 1), pods=pods, services=services)
    assert [each.name for each in plain.service_gateway_pods] == ["a", "b"]
    elsewhere = (door(EAST_WEST.name, "first"), door("other", "second", **{"topology.istio.io/network": "network2"}))
    assert [each.name for each in replace(plain, services=elsewhere).service_gateway_pods] == ["a"]
