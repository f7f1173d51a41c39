"""Parsing istiod's debug endpoints. The texts have the shapes of pilot/pkg/xds/debug.go (1.31)."""

from __future__ import annotations

import pytest

from meshproof.clients.istio.istiod_debug import (
    KnownCluster,
    NetworkGateway,
    parse_clusterz,
    parse_networkz,
    parse_syncz,
)
from meshproof.core.errors import Broken

SYNCZ = """[{"cluster_id":"cluster2","proxy":"client-1.meshproof-clients","proxy_type":"sidecar",
"istio_version":"1.31.0",
"cluster_sent":"a","cluster_acked":"a","resources":{
"type.googleapis.com/envoy.config.cluster.v3.Cluster":{"sent":"a","acked":"a","sentTime":"2026-01-01T00:00:00Z"},
"type.googleapis.com/envoy.config.listener.v3.Listener":{"sent":"b","acked":"a"},
"type.googleapis.com/envoy.config.route.v3.RouteConfiguration":{"sent":"c","acked":"c","lastError":"duplicate port"},
"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret":{}}}]"""


def test_clusterz_lists_the_own_cluster_without_a_secret() -> None:
    text = (
        '[{"id":"cluster1","secretName":"","syncStatus":"synced"},'
        '{"id":"cluster2","secretName":"istio-system/istio-remote-secret-cluster2","syncStatus":"timeout"}]\n'
    )
    assert parse_clusterz(text) == (
        KnownCluster(cluster="cluster1", secret="", status="synced"),
        KnownCluster(cluster="cluster2", secret="istio-system/istio-remote-secret-cluster2", status="timeout"),
    )


def test_syncz_tells_rejected_pending_and_good_resources_apart() -> None:
    (proxy,) = parse_syncz(SYNCZ)
    assert (proxy.proxy, proxy.cluster, proxy.version) == ("client-1.meshproof-clients", "cluster2", "1.31.0")
    assert proxy.problems == ["Listener sent but not acknowledged", "RouteConfiguration rejected: duplicate port"]


def test_syncz_of_older_istiods_has_flat_fields() -> None:
    (proxy,) = parse_syncz('[{"proxy":"a.b","cluster_id":"c","endpoint_sent":"2","endpoint_acked":"1"}]')
    assert proxy.problems == ["ClusterLoadAssignment sent but not acknowledged"]


def test_networkz_is_sorted_and_may_be_null() -> None:
    text = (
        '[{"Network":"n2","Cluster":"c2","Addr":"198.18.2.1","Port":15443,"HBONEPort":0,"ServiceAccount":{}},'
        '{"Network":"n1","Cluster":"c1","Addr":"198.18.1.1","Port":15443,"HBONEPort":0,"ServiceAccount":{}}]'
    )
    first = NetworkGateway(network="n1", cluster="c1", address="198.18.1.1", port=15443)
    assert parse_networkz(text)[0] == first
    assert parse_networkz("null\n") == ()


@pytest.mark.parametrize("text", ["", "not json", '{"a": 1}'])
def test_anything_else_is_our_failure_and_quotes_it(text: str) -> None:
    with pytest.raises(Broken, match="/debug/clusterz of istiod"):
        parse_clusterz(text)
