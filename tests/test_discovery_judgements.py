"""How the claims of discovery and of networks judge what they saw."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from meshproof.claims.claim import claim_of
from meshproof.claims.failure import render_failure
from meshproof.claims.findings import Findings
from meshproof.clients.istio.istiod_debug import NetworkGateway
from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.clients.nslookup import parse_nslookup
from meshproof.core import names
from meshproof.core.errors import ClaimFailed
from meshproof.core.model import ClusterName
from meshproof.discovery.cluster_local import local_problems
from meshproof.discovery.endpoints import expected_weights
from meshproof.discovery.headless import SWITCH, headless_problems
from meshproof.discovery.naming import (
    identity_problems,
    of_gateway,
    of_injection_path,
    of_injector,
    of_istiod,
    of_proxy,
)
from meshproof.discovery.propagation import Propagation, expected_keys
from meshproof.discovery.sameness import sameness_problems
from meshproof.discovery.service_visibility import hidden_by
from meshproof.gateways.anonymous_callers import anonymous_caller_problems
from meshproof.gateways.network_gateways import (
    gateway_problems,
    idle_gateways,
    real_gateways,
    shown,
    unproven_gateways,
)
from meshproof.gateways.network_isolation import isolation_problems
from meshproof.mesh.handles import Cluster
from meshproof.mesh.mesh_config import MeshSettings
from meshproof.mesh.network_gateways import declared_gateways
from meshproof.mesh.objects import PortFacts, ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.mesh.webhooks import parse_webhook
from meshproof.probes.mtls_clients import AttemptReply
from meshproof.probes.tcp import TcpAnswer
from meshproof.probes.tls import TlsAnswer
from meshproof.workloads.canary_service import canary_endpoint, canary_services
from suites.discovery import test_propagation
from tests.fakes import LocalKube, pod, snapshot_of

# -- canaries ---------------------------------------------------------------------------------------------------------


def with_clients(topology: str, kube: LocalKube | None = None) -> Snapshot:
    """Two clusters with a client pod each, at 10.1.0.99 and 10.2.0.99."""
    plain = snapshot_of(topology)
    facts = []
    for number, each in enumerate(plain.facts, start=1):
        client = pod("client-x", names.CLIENT_NAMESPACE, f"10.{number}.0.99", app=names.CLIENT_POD)
        old = each.cluster
        cluster = Cluster(spec=old.spec, access=old.access, kube=kube) if kube else old
        facts.append(replace(each, pods=(client,), cluster=cluster))
    mesh = replace(plain.mesh, clusters=tuple(f.cluster for f in facts))
    return Snapshot(mesh=mesh, facts=tuple(facts))


class Recorder(LocalKube):
    """Notes what is created and deleted; refuses what it is told to."""

    def __init__(self, refuse: str = "") -> None:
        super().__init__()
        self.log: list[str] = []
        self.refuse = refuse

    def create(self, manifest: Json) -> Json:
        if manifest["kind"] == self.refuse:
            raise ApiError("POST", 403, "forbidden")
        self.log.append(f"+{manifest['kind']}")
        return manifest

    def delete(self, kind: str, name: str, namespace: str | None = None, *, grace_s: int | None = None) -> bool:
        assert name.startswith("meshproof-canary-")
        self.log.append(f"-{kind}")
        return True


def _fail_in(context: AbstractContextManager[None], kube: Recorder) -> None:
    with context:
        assert kube.log == ["+Service", "+Service", "+EndpointSlice"]
        raise RuntimeError("the claim ended")


def test_a_canary_leaves_nothing_behind() -> None:
    kube = Recorder()
    snapshot = with_clients("multi-primary-samenet", kube)
    measure_propagation = canary_services(snapshot)
    with pytest.raises(RuntimeError, match="the claim ended"), measure_propagation as name:
        _fail_in(canary_endpoint(snapshot.mesh.clusters[0], snapshot.facts[0].client, name), kube)
    assert kube.log[3:] == ["-EndpointSlice", "-Service", "-Service"]


def test_a_canary_that_is_refused_half_way_is_cleared_away() -> None:
    kube = Recorder(refuse="EndpointSlice")
    snapshot = with_clients("multi-primary-samenet", kube)
    with pytest.raises(ApiError), canary_services(snapshot) as name:
        _fail_in(canary_endpoint(snapshot.mesh.clusters[0], snapshot.facts[0].client, name), kube)
    assert kube.log[2:] == ["-EndpointSlice", "-Service", "-Service"]


def test_a_canary_is_seen_as_a_pod_or_behind_its_gateway() -> None:
    near, far = with_clients("multi-primary-samenet"), with_clients("multi-primary-multinet")
    assert expected_keys(near, *near.mesh.clusters) == {"10.2.0.99:8080"}
    assert expected_keys(far, *far.mesh.clusters) == {"198.18.2.1:15443"}


def flight(**changes: Any) -> Propagation:
    given: dict[str, Any] = {
        "viewer": "cluster1",
        "server": "cluster2",
        "before": frozenset(),
        "expected": frozenset({"10.2.0.99:8080"}),
        "known_s": 0.2,
        "gone_s": 0.3,
    }
    return Propagation(**(given | changes))


def test_a_canary_must_come_and_go() -> None:
    assert flight().problems == []
    assert flight(known_s=None).problems == [
        "a new endpoint did not appear within 10 s: expected 10.2.0.99:8080, had nothing"
    ]
    assert flight(gone_s=None).problems == ["it appeared after 0.2 s, but did not disappear within 10 s of its removal"]
    assert flight(before=frozenset({"x:1"})).problems == ["the canary had endpoints before any were added: x:1"]
    assert flight(expected=frozenset()).problems == ["cluster2 has no address that cluster1 can use"]


GOLDEN = """\
DISCOVERY-03 endpoint changes in one cluster soon reach the proxies of every other cluster: 1 of 2 directions are wrong
  last seen   from cluster2 to cluster1: a new endpoint did not appear within 10 s: expected 10.2.0.99:8080, had nothing
  mesh        multi-primary-samenet: cluster1(primary, network1) cluster2(primary, network1)
  promised    istio.io, Install Multicluster: each control plane watches the API servers of all clusters
  try         nothing arrives but DISCOVERY-01 reports synced: the remote secret's token is revoked or expired \
(DISCOVERY-04), or the network between istiod and that API server is cut; istiod never withdraws the status synced
  again       pytest --topology=multi-primary-samenet -k DISCOVERY-03 --keep"""


def test_a_dead_discovery_reads_like_this() -> None:
    findings = Findings("directions")
    findings.examine("from cluster1 to cluster2", flight().problems)
    findings.examine("from cluster2 to cluster1", flight(known_s=None).problems)
    with pytest.raises(ClaimFailed) as caught:
        findings.conclude()
    topology = snapshot_of("multi-primary-samenet").mesh.topology
    claim = claim_of(test_propagation.test_endpoint_changes_propagate)
    assert claim is not None
    assert render_failure(claim, topology, str(caught.value)) == GOLDEN


def test_headless_names_may_be_switched_to_their_own_cluster() -> None:
    near = with_clients("multi-primary-samenet")
    istiod = replace(pod("istiod-x", names.SYSTEM_NAMESPACE, app="istiod"), istiod_env={SWITCH: "false"})
    facts = tuple(replace(each, pods=(*each.pods, istiod)) for each in near.facts)
    off, viewer = Snapshot(mesh=near.mesh, facts=facts), near.mesh.clusters[0]
    assert headless_problems(off, viewer, ("10.1.0.99",)) == []
    assert headless_problems(off, viewer, ("10.1.0.99", "10.2.0.99")) == [
        "has 10.2.0.99 of cluster2, although ENABLE_MULTICLUSTER_HEADLESS is false"
    ]


def test_headless_names_have_the_pods_of_their_network() -> None:
    near, far = with_clients("multi-primary-samenet"), with_clients("multi-primary-multinet")
    both = ("10.1.0.99", "10.2.0.99")
    assert headless_problems(near, near.mesh.clusters[0], both) == []
    assert headless_problems(near, near.mesh.clusters[0], both[:1]) == ["lacks 10.2.0.99 of cluster2"]
    assert headless_problems(far, far.mesh.clusters[0], both[:1]) == []
    assert headless_problems(far, far.mesh.clusters[0], both) == [
        "has 10.2.0.99 of cluster2, which is not on the client's network"
    ]


BUSYBOX = """\
Server:\t\t10.117.0.10
Address:\t10.117.0.10:53


Name:\ta.b.svc.cluster.local
Address: 10.1.0.2
Name:\ta.b.svc.cluster.local
Address: 10.1.0.1

"""


def test_the_name_servers_own_address_is_no_answer() -> None:
    assert parse_nslookup(BUSYBOX) == ("10.1.0.1", "10.1.0.2")
    assert parse_nslookup("Server:\t10.0.0.1\nAddress:\t10.0.0.1:53\n\n** server can't find x: NXDOMAIN\n") == ()


# -- sameness ---------------------------------------------------------------------------------------------------------

ONE, TWO = ClusterName("cluster1"), ClusterName("cluster2")


def service(*ports: tuple[str, int], kind: str = "ClusterIP") -> ServiceFacts:
    return ServiceFacts(
        namespace="meshproof-app",
        name="mockshop",
        kind=kind,
        labels={},
        addresses=(),
        ports=tuple(PortFacts(name=name, number=number) for name, number in ports),
    )


def test_services_are_compared_with_the_first() -> None:
    same = {ONE: service(("http", 80)), TWO: service(("http", 80))}
    assert sameness_problems(same, TWO) == []
    assert sameness_problems({**same, TWO: None}, TWO) == ["no Service meshproof-app/mockshop"]
    assert sameness_problems({**same, TWO: service(("", 80), kind="NodePort")}, TWO) == [
        "its type is NodePort, in cluster1 it is ClusterIP",
        "its ports are 80 (no name), in cluster1 they are 80 (http)",
    ]


def test_a_cluster_local_host_has_its_own_endpoints_only() -> None:
    own, both = frozenset({"a:6443"}), frozenset({"a:6443", "b:6443"})
    assert local_problems(own, own, 2, 2) == []
    assert local_problems(both, own, 2, 2) == ["has endpoint b:6443, which is not in its own cluster"]
    assert local_problems(frozenset(), own, 1, 2) == [
        "does not have endpoint a:6443",
        "positive control failed: it has endpoints in 1 of 2 clusters that have a service",
    ]


def test_a_hidden_cluster_local_host_has_no_endpoints_at_all() -> None:
    own = frozenset({"a:6443"})
    assert local_problems(frozenset(), own, 2, 2, hidden=True) == []
    assert local_problems(frozenset({"b:6443"}), own, 2, 2, hidden=True) == [
        "has endpoint b:6443, which is not in its own cluster",
        "does not have endpoint a:6443",
    ]


@pytest.mark.parametrize(
    ("config", "annotation", "client", "reason"),
    [
        ({}, "", "clients", ""),
        ({"defaultServiceExportTo": ["."]}, "", "clients", "defaultServiceExportTo: ."),
        ({"defaultServiceExportTo": ["."]}, "", "default", ""),
        ({"defaultServiceExportTo": [".", "clients"]}, "", "clients", ""),
        ({"defaultServiceExportTo": ["."]}, "*", "clients", ""),
        ({}, "., shop", "clients", "annotation networking.istio.io/exportTo: ., shop"),
        ({}, "~", "clients", "annotation networking.istio.io/exportTo: ~"),
        (
            {"discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]},
            "",
            "clients",
            "discoverySelectors, which do not select namespace default",
        ),
        ({"discoverySelectors": [{"matchLabels": {"team": "platform"}}]}, "", "clients", ""),
    ],
)
def test_what_hides_a_service_from_a_client_is_named(config: Json, annotation: str, client: str, reason: str) -> None:
    annotations = {"networking.istio.io/exportTo": annotation} if annotation else {}
    namespace = {"metadata": {"name": "default", "labels": {"team": "platform"}}}
    assert hidden_by(config, {"metadata": {"annotations": annotations}}, namespace, client) == reason


def test_every_place_of_an_identity_is_read() -> None:
    env = [{"name": "CLUSTER_ID", "value": "cluster1"}, {"name": "X", "valueFrom": {}}]
    deployment = {
        "metadata": {"name": "istiod"},
        "spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": env}]}}},
    }
    values = '{"global": {"multiCluster": {"clusterName": "cluster1"}, "network": "", "meshID": "mesh1"}}'
    config = {"metadata": {"name": "istio-sidecar-injector"}, "data": {"values": values}}
    path = {"service": {"name": "i", "namespace": "n", "path": "/inject/cluster/cluster1/net/network9"}}
    bare = replace(pod("p"), proxy_env={"ISTIO_META_CLUSTER_ID": "cluster1", "ISTIO_META_MESH_ID": "mesh1"})
    found = [
        of_istiod(deployment),
        *of_injector(config),
        *of_injection_path(parse_webhook({"name": "hook", "clientConfig": path})),
        *of_proxy(bare, networks=False),
    ]
    wrong = {place: told for place, told in identity_problems(found, "cluster1", "network1", "mesh1").items() if told}
    assert wrong == {
        "ConfigMap istio-sidecar-injector, global.network (network)": ["the network is missing, expected network1"],
        "webhook hook, /inject/cluster/cluster1/net/network9 (network)": ["the network is network9, expected network1"],
    }
    strict = identity_problems(list(of_proxy(bare, networks=True)), "cluster1", "network1", "mesh1")
    assert strict["ns/p, ISTIO_META_NETWORK (network)"] == ["the network is missing, expected network1"]


def test_a_gateway_without_its_network_is_none() -> None:
    (facts, _) = snapshot_of("multi-primary-multinet").facts
    wrong = identity_problems(list(of_gateway(facts)), "cluster1", "network1", "mesh1")
    assert wrong == {
        "Service istio-system/istio-eastwestgateway, label topology.istio.io/network (network)": [
            "the network is missing, expected network1"
        ]
    }


# -- networks ---------------------------------------------------------------------------------------------------------


def test_network_gateways_are_compared_with_the_services() -> None:
    wanted = frozenset(real_gateways(snapshot_of("multi-primary-multinet")))
    assert {g.address for g in wanted} == {"198.18.1.1", "198.18.2.1"}
    assert gateway_problems(wanted, wanted) == []
    stale = NetworkGateway(network="network2", cluster="cluster2", address="198.18.2.9", port=15443)
    known = {g for g in wanted if g.cluster == "cluster1"} | {stale}
    assert gateway_problems(known, wanted) == [
        "does not know 198.18.2.1:15443 of cluster2 into network2",
        "knows 198.18.2.9:15443 of cluster2 into network2, which does not exist",
    ]
    assert real_gateways(snapshot_of("multi-primary-samenet")) == []


def test_on_one_network_istiod_may_know_the_gateways_that_exist() -> None:
    """Istio's script labels them there, too."""
    snapshot = snapshot_of("multi-primary-samenet")
    idle = idle_gateways(snapshot)
    assert {gateway.network for gateway in idle} == {"network1"}
    assert gateway_problems(idle, frozenset(), idle) == gateway_problems((), frozenset(), idle) == []
    stale = NetworkGateway(network="network1", cluster="cluster1", address="198.18.1.9", port=15443)
    assert gateway_problems({*idle, stale}, frozenset(), idle) == [
        "knows 198.18.1.9:15443 of cluster1 into network1, which does not exist"
    ]
    assert idle_gateways(snapshot_of("multi-primary-multinet")) == frozenset()


def test_host_names_of_gateways_have_the_addresses_that_istiod_resolves() -> None:
    plain = snapshot_of("multi-primary-multinet")
    (one, two) = plain.facts
    named = replace(two.services[0], addresses=("lb.example.com",))
    found = {"lb.example.com": ("198.51.100.1", "198.51.100.2")}
    snapshot = Snapshot(mesh=plain.mesh, facts=(one, replace(two, services=(named,), resolved=found)))
    assert snapshot.of(two.cluster).gateway_addresses == found["lb.example.com"]
    assert {g.address for g in real_gateways(snapshot) if g.cluster == "cluster2"} == {"198.51.100.1", "198.51.100.2"}
    assert expected_weights(snapshot, one.cluster) == {
        "10.1.0.1:8080": 1,
        "198.51.100.1:15443": 0.5,
        "198.51.100.2:15443": 0.5,
    }


LABEL = {names.NETWORK_LABEL: "network2"}


def second_gateway(labels: dict[str, str]) -> ServiceFacts:
    return ServiceFacts(
        namespace="edge",
        name="second",
        kind="LoadBalancer",
        labels=labels,
        addresses=("198.18.2.7",),
        ports=(PortFacts(name="tls", number=15443), PortFacts(name="other", number=8443)),
    )


def with_services(snapshot: Snapshot, *more: ServiceFacts, declared: str = "") -> Snapshot:
    """With more Services in the second cluster, and gateways in meshNetworks."""
    found = declared_gateways(declared)
    one, two = (replace(each, settings=MeshSettings(declared=found)) for each in snapshot.facts)
    return Snapshot(mesh=snapshot.mesh, facts=(one, replace(two, services=(*two.services, *more))))


def keys(snapshot: Snapshot) -> set[str]:
    return set(expected_weights(snapshot, snapshot.mesh.clusters[0])) - {"10.1.0.1:8080"}


def test_a_network_may_have_two_gateways() -> None:
    plain = snapshot_of("multi-primary-multinet")
    both = with_services(plain, second_gateway(LABEL))
    assert keys(both) == {"198.18.2.1:15443", "198.18.2.7:15443"}
    assert [(c.name, s.name, shown(g)) for c, s, g in unproven_gateways(both)] == [
        ("cluster1", "cluster2", "198.18.2.7:15443 of cluster2 into network2")
    ]
    ported = second_gateway(LABEL | {"networking.istio.io/gatewayPort": "8443"})
    assert keys(with_services(plain, ported)) == {"198.18.2.1:15443", "198.18.2.7:8443"}
    for no_gateway in ({}, {names.NETWORK_LABEL: "network1"}, LABEL | {"networking.istio.io/gatewayPort": "15008"}):
        assert keys(with_services(plain, second_gateway(no_gateway))) == {"198.18.2.1:15443"}


MESH_NETWORKS = """
networks:
  network2:
    endpoints: [{fromRegistry: cluster2}]
    gateways: [GATEWAY]
"""


def test_gateways_may_be_named_by_the_mesh_configuration() -> None:
    plain = snapshot_of("multi-primary-multinet")
    by_address = MESH_NETWORKS.replace("GATEWAY", "{address: 198.18.2.1, port: 15443}")
    seen = with_services(plain, declared=by_address)
    assert keys(seen) == {"198.18.2.1:15443"}
    assert {shown(g) for g in real_gateways(seen)} == {
        "198.18.1.1:15443 of cluster1 into network1",
        "198.18.2.1:15443 of the mesh configuration into network2",
    }
    assert unproven_gateways(seen) == []
    elsewhere = MESH_NETWORKS.replace("GATEWAY", "{address: 203.0.113.9, port: 443}")
    assert [shown(g) for _, _, g in unproven_gateways(with_services(plain, declared=elsewhere))] == [
        "203.0.113.9:443 of the mesh configuration into network2"
    ]
    service = "{registryServiceName: second.edge.svc.cluster.local, port: 8443}"
    by_service = with_services(plain, second_gateway({}), declared=MESH_NETWORKS.replace("GATEWAY", service))
    assert keys(by_service) == {"198.18.2.7:8443"}
    assert declared_gateways("networks: [") == declared_gateways("") == ()


def test_hbone_gateways_are_of_no_interest_to_sidecars() -> None:
    wanted = frozenset(real_gateways(snapshot_of("multi-primary-multinet")))
    hbone = NetworkGateway(network="network2", cluster="cluster2", address="198.18.2.8", port=0)
    assert gateway_problems({*wanted, hbone}, wanted) == []


def tcp(address: str, accepted: bool) -> TcpAnswer:
    return TcpAnswer(address=address, port=8080, accepted=accepted, reason="" if accepted else "timed out")


def test_foreign_pods_must_not_be_reached_and_own_ones_must() -> None:
    assert isolation_problems([tcp("10.1.0.1", True)], [tcp("10.2.0.1", False)]) == []
    assert isolation_problems([tcp("10.1.0.1", False)], [tcp("10.2.0.1", True)]) == [
        "reaches 10.2.0.1:8080 on another network directly",
        "positive control failed: it reaches no pod of its own cluster either "
        "(10.1.0.1:8080 does not accept TCP (timed out))",
    ]


def test_a_stranger_is_neither_answered_nor_taken_for_granted() -> None:
    chain = ("a certificate",)

    def reply(*, status: int = 0, completed: bool = True, asks: bool = True) -> AttemptReply:
        found: Any = chain if completed else ()
        return AttemptReply(tls=TlsAnswer(chain=found, requests_client_certificate=asks, reason="reset"), status=status)

    assert anonymous_caller_problems(reply()) == anonymous_caller_problems(reply(completed=False, asks=False)) == []
    assert anonymous_caller_problems(reply(status=404)) == ["it answered HTTP 404 without a client certificate"]
