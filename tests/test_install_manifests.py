"""What an install applies, from the topology alone: IstioOperators, gateways, configuration, service, clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import namespaces
from meshproof.core.names import CLIENT_NAMESPACE
from meshproof.core.topology import load_topology, parse_topology
from meshproof.install.gateways import gateway_deployment, gateway_services, gateways_of, mesh_configuration
from meshproof.install.operator import istio_operator, merged
from meshproof.workloads.app import app_envoy_config, app_manifests, client_manifest
from tests.install_fakes import TOOLBOX, parsed, three_clusters


def of_kind(manifests: tuple[Json, ...], kind: str) -> list[Json]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


EAST_WEST_PORTS = {
    ("primary-remote-multinet", "cluster1"): {15021, 15443, 15012, 15017},
    ("primary-remote-multinet", "cluster2"): {15021, 15443},
    ("primary-remote-samenet", "cluster1"): {15021, 15012, 15017},
    ("primary-remote-samenet", "cluster2"): None,
    ("multi-primary-multinet", "cluster1"): {15021, 15443},
    ("multi-primary-multinet", "cluster2"): {15021, 15443},
    ("multi-primary-samenet", "cluster1"): None,
    ("multi-primary-samenet", "cluster2"): None,
}


@pytest.mark.parametrize(("where", "ports"), EAST_WEST_PORTS.items(), ids=lambda value: str(value))
def test_the_east_west_gateway_has_exactly_the_ports_that_the_topology_needs(
    where: tuple[str, str], ports: set[int] | None
) -> None:
    topology = load_topology(where[0])
    ingress, *east_west = gateways_of(topology, topology.cluster(where[1]))
    assert set(ingress.ports.values()) == {15021, 80}
    assert [set(gateway.ports.values()) for gateway in east_west] == ([ports] if ports else [])


def test_a_gateway_speaks_for_its_network_only_if_services_are_reached_through_it() -> None:
    """With the label istiod hands out port 15443 of its addresses, which must be open then."""
    several, one = load_topology("primary-remote-multinet"), load_topology("primary-remote-samenet")
    for topology, network in ((several, "network1"), (one, None)):
        gateway = gateways_of(topology, topology.cluster("cluster1"))[1]
        service, pods = gateway_services(gateway)[0], gateway_deployment(gateway)
        env = pods["spec"]["template"]["spec"]["containers"][0]["env"]
        assert service["metadata"]["labels"].get("topology.istio.io/network") == network
        assert [e["value"] for e in env if e["name"] == "ISTIO_META_REQUESTED_NETWORK_VIEW"] == [network] * bool(
            network
        )


def test_a_gateway_is_filled_in_by_injection() -> None:
    topology = load_topology("multi-primary-samenet")
    template = gateway_deployment(gateways_of(topology, topology.cluster("cluster1"))[0])["spec"]["template"]
    assert template["metadata"]["annotations"] == {"inject.istio.io/templates": "gateway"}
    assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    assert template["metadata"]["labels"]["istio"] == "ingressgateway"
    container = template["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("auto", "IfNotPresent")


@pytest.mark.parametrize(
    ("name", "gateways"),
    [
        ("primary-remote-multinet", {"cross-network-gateway", "istiod-gateway", "mockshop-gateway"}),
        ("primary-remote-samenet", {"istiod-gateway", "mockshop-gateway"}),
        ("multi-primary-multinet", {"cross-network-gateway", "mockshop-gateway"}),
        ("multi-primary-samenet", {"mockshop-gateway"}),
    ],
)
def test_a_config_cluster_exposes_what_its_clusters_need(name: str, gateways: set[str]) -> None:
    topology = load_topology(name)
    applied = mesh_configuration(topology, topology.cluster("cluster1"))
    assert {manifest["metadata"]["name"] for manifest in of_kind(applied, "Gateway")} == gateways


def test_requests_that_end_badly_are_logged_in_every_mesh() -> None:
    topology = load_topology("multi-primary-samenet")
    for cluster in topology.clusters:
        (rule,) = of_kind(mesh_configuration(topology, cluster), "Telemetry")
        assert rule["metadata"]["namespace"] == "istio-system"
        assert rule["spec"]["accessLogging"][0]["filter"] == {"expression": "response.code >= 500"}


def test_istiod_is_exposed_untouched_on_xds_and_webhook() -> None:
    topology = load_topology("primary-remote-multinet")
    applied = mesh_configuration(topology, topology.cluster("cluster1"))
    gateway = next(m for m in of_kind(applied, "Gateway") if m["metadata"]["name"] == "istiod-gateway")
    assert {(s["port"]["number"], s["tls"]["mode"]) for s in gateway["spec"]["servers"]} == {
        (15012, "PASSTHROUGH"),
        (15017, "PASSTHROUGH"),
    }
    service = next(m for m in of_kind(applied, "VirtualService") if m["metadata"]["name"] == "istiod-vs")
    routes = {t["match"][0]["port"]: t["route"][0]["destination"]["port"]["number"] for t in service["spec"]["tls"]}
    assert routes == {15012: 15012, 15017: 443}


def test_only_a_remote_names_its_control_plane() -> None:
    topology = load_topology("primary-remote-multinet")
    primary, remote = (namespaces(cluster)[0]["metadata"] for cluster in topology.clusters)
    assert primary["labels"]["topology.istio.io/network"] == "network1"
    assert "annotations" not in primary
    assert remote["labels"]["topology.istio.io/network"] == "network2"
    assert remote["annotations"] == {"topology.istio.io/controlPlaneClusters": "cluster1"}


def test_the_operator_of_a_primary_says_who_it_is_and_lets_the_toolbox_add() -> None:
    topology = load_topology("primary-remote-multinet")
    spec = istio_operator(topology, topology.cluster("cluster1"), TOOLBOX)["spec"]
    values = spec["values"]
    assert (spec["profile"], spec["hub"], spec["tag"]) == ("minimal", "registry.example/istio", "1.31.0")
    assert values["global"]["multiCluster"] == {"clusterName": "cluster1"}
    assert (values["global"]["meshID"], values["global"]["network"]) == ("mesh1", "network1")
    assert values["global"]["externalIstiod"] is True
    assert values["pilot"]["autoscaleEnabled"] is False
    assert values["pilot"]["env"] == {"PILOT_ENABLE_ALPN_FILTER": "false"}


def test_istiod_is_external_only_where_remotes_dial_in(tmp_path: Path) -> None:
    topology = three_clusters(tmp_path)
    external = {
        primary.name: istio_operator(topology, primary, TOOLBOX)["spec"]["values"]["global"]["externalIstiod"]
        for primary in topology.primaries
    }
    assert external == {"east": False, "west": True}


def test_the_operator_of_a_remote_points_to_its_primary() -> None:
    topology = load_topology("primary-remote-multinet")
    remote = topology.cluster("cluster2")
    spec = istio_operator(topology, remote, TOOLBOX, remote_pilot_address="198.18.101.1")["spec"]
    assert spec["profile"] == "remote"
    assert spec["values"]["istiodRemote"] == {"injectionPath": "/inject/cluster/cluster2/net/network2"}
    assert spec["values"]["global"]["remotePilotAddress"] == "198.18.101.1"
    with pytest.raises(ValueError, match="cluster2 is a remote"):
        istio_operator(topology, remote, TOOLBOX)


def test_merging_goes_down_into_mappings_and_changes_neither() -> None:
    base, over = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2], "e": 3}, "d": {"f": 1}}
    assert merged(base, over) == {"a": {"b": 1, "c": [2], "e": 3}, "d": {"f": 1}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_the_service_is_the_same_in_every_cluster_and_its_pods_are_not() -> None:
    topology = load_topology("multi-primary-samenet")
    first, second = (app_manifests(cluster, "app:1") for cluster in topology.clusters)
    assert of_kind(first, "Service") == of_kind(second, "Service")
    labels = [of_kind(m, "Deployment")[0]["spec"]["template"]["metadata"]["labels"] for m in (first, second)]
    assert labels == [{"app": "mockshop", "version": "v1"}, {"app": "mockshop", "version": "v2"}]


def test_the_answer_names_version_and_cluster() -> None:
    cluster = load_topology("multi-primary-samenet").cluster("cluster2")
    manager = app_envoy_config(cluster)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    route = manager["typed_config"]["route_config"]["virtual_hosts"][0]["routes"][0]
    body = parsed(route["direct_response"]["body"]["inline_string"])
    assert body == {"service": "mockshop", "version": "v2", "cluster": "cluster2"}
    assert {"key": "x-app-version", "value": "v2"} in [h["header"] for h in route["response_headers_to_add"]]


def test_a_client_goes_quickly() -> None:
    pod = client_manifest(CLIENT_NAMESPACE, "client:1")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 1
    assert [container["name"] for container in pod["containers"]] == ["client"]


REVISED = """\
title: A primary of a revision, and its remote
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - {name: east, role: primary, network: n1, app_version: v1, revision: 1-31}
  - {name: west, role: remote, control_plane: east, network: n2, app_version: v2}
"""


def test_a_revision_is_in_every_name_and_label_by_which_istio_knows_it(tmp_path: Path) -> None:
    topology = parse_topology(REVISED, tmp_path / "mesh.yaml")
    for cluster in topology.clusters:
        assert (cluster.revision, cluster.istiod) == ("1-31", "istiod-1-31"), "a remote has its primary's"
        operator = istio_operator(topology, cluster, TOOLBOX, remote_pilot_address="10.0.0.1")
        assert operator["spec"]["revision"] == "1-31"
        injected = [n["metadata"]["labels"] for n in namespaces(cluster) if n["metadata"]["name"] == CLIENT_NAMESPACE]
        assert [labels.get("istio.io/rev") for labels in injected] == ["1-31"]
        assert "istio-injection" not in injected[0], "it would mean the default revision"
        for gateway in gateways_of(topology, cluster):
            template = gateway_deployment(gateway)["spec"]["template"]
            assert template["metadata"]["labels"]["istio.io/rev"] == "1-31"
    routes = of_kind(mesh_configuration(topology, topology.clusters[0]), "VirtualService")[0]
    hosts = {route["route"][0]["destination"]["host"] for route in routes["spec"]["tls"]}
    assert hosts == {"istiod-1-31.istio-system.svc.cluster.local"}


def test_without_a_revision_nothing_names_one() -> None:
    topology = load_topology("primary-remote-multinet")
    cluster = topology.clusters[0]
    assert "revision" not in istio_operator(topology, cluster, TOOLBOX)["spec"]
    assert "istio.io/rev" not in str([gateway_deployment(gateway) for gateway in gateways_of(topology, cluster)])
    assert "istio.io/rev" not in str(namespaces(cluster))
