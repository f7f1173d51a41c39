"""Parsing Envoy's admin interface. The shapes are those that Envoy 1.40.0 gave."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from meshproof.clients.envoy_admin import (
    Endpoint,
    Security,
    admin,
    parse_endpoints,
    parse_host_counters,
    parse_identity,
    parse_security,
    parse_stats,
)
from meshproof.clients.kubernetes.client import ExecResult
from meshproof.core.errors import Broken
from meshproof.pki.issue import make_intermediate, make_root, make_workload, pem_of
from tests.fakes import LocalKube

NAME = "outbound|80||mockshop.meshproof-app.svc.cluster.local"


class LeavingKube(LocalKube):
    """A cluster whose proxies have gone."""

    def exec(self, *args: Any, **options: Any) -> ExecResult:
        said = "2026/11/28 06:23:55 INFO GOMEMLIMIT is already set, skipping\nError: connection refused\n"
        return ExecResult(stdout="", stderr=said, exit_code=1)


def test_why_a_proxy_did_not_answer_is_told_without_what_its_agent_says_each_time() -> None:
    with pytest.raises(Broken, match=r"proxy in shop/till-1 on cluster1: Error: connection refused$"):
        admin(LeavingKube("cluster1"), "shop", "till-1", "/clusters")


def lb_endpoint(address: str, port: int, health: str = "HEALTHY", weight: int | None = 1) -> dict[str, object]:
    found: dict[str, object] = {
        "endpoint": {
            "address": {"socket_address": {"address": address, "port_value": port}},
            "health_check_config": {},
        },
        "health_status": health,
        "metadata": {"filter_metadata": {"istio": {"workload": "mockshop"}}},
    }
    return found | ({"load_balancing_weight": weight} if weight is not None else {})


def test_endpoints_come_sorted_with_weight_health_and_locality() -> None:
    dump = {
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig",
                "endpoint_config": {
                    "cluster_name": NAME,
                    "endpoints": [
                        {"locality": {}, "lb_endpoints": [lb_endpoint("198.18.2.1", 15443, weight=2)]},
                        {
                            "locality": {"region": "eu", "zone": "a"},
                            "priority": 1,
                            "lb_endpoints": [lb_endpoint("10.1.0.9", 8080, "UNHEALTHY", None)],
                        },
                    ],
                },
            },
            {
                "endpoint_config": {
                    "cluster_name": "other",
                    "endpoints": [{"lb_endpoints": [lb_endpoint("10.9.9.9", 1)]}],
                }
            },
        ]
    }
    assert parse_endpoints(json.dumps(dump), NAME) == (
        Endpoint(address="10.1.0.9", port=8080, weight=1, health="UNHEALTHY", locality="eu/a", priority=1),
        Endpoint(address="198.18.2.1", port=15443, weight=2, health="HEALTHY", locality="", priority=0),
    )


def test_no_endpoints_is_an_answer() -> None:
    assert parse_endpoints("{}\n", NAME) == ()


def test_the_identity_holds_certificates_and_never_the_key() -> None:
    root = make_root()
    chain, key = make_workload(make_intermediate(root, locality="cluster1"), "spiffe://cluster.local/ns/a/sa/b")

    def inline(data: bytes) -> dict[str, str]:
        return {"inline_bytes": base64.b64encode(data).decode()}

    dump = {
        "configs": [
            {
                "name": "default",
                "secret": {"tls_certificate": {"certificate_chain": inline(chain), "private_key": inline(key)}},
            },
            {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": inline(pem_of(root.cert))}}},
        ]
    }
    identity = parse_identity(json.dumps(dump), "a/b")
    assert identity.roots == (root.cert,)
    assert len(identity.chain) == 3
    assert "PRIVATE" not in repr(identity)


def test_a_proxy_without_a_certificate_is_named() -> None:
    with pytest.raises(Broken, match=r"proxy in ns/pod on c: it has no certificate and root yet"):
        parse_identity('{"configs": []}', "ns/pod on c")


def test_host_counters_treat_a_missing_value_as_zero() -> None:
    statuses = {
        "cluster_statuses": [
            {
                "name": "outbound_.80_._.mockshop.meshproof-app.svc.cluster.local",
                "host_statuses": [
                    {
                        "address": {"socket_address": {"address": "10.1.0.2", "port_value": 8080}},
                        "stats": [
                            {"name": "cx_total", "value": "7"},
                            {"name": "rq_total"},
                            {"name": "cx_active", "type": "GAUGE", "value": "2"},
                        ],
                    }
                ],
            },
            {"name": "xds-grpc", "host_statuses": [{"address": {"pipe": {"path": "./etc/istio/proxy/XDS"}}}]},
        ]
    }
    (host,) = parse_host_counters(json.dumps(statuses), "mockshop")
    assert (host.key, host.cx_total, host.rq_total) == ("10.1.0.2:8080", 7, 0)


def test_stats_leave_histograms_out() -> None:
    text = '{"stats":[{"name":"server.uptime","value":3},{"histograms":{"computed_quantiles":[]}}]}'
    assert dict(parse_stats(text)) == {"server.uptime": 3}


def tls_socket(*sans: str, shows: bool = True) -> dict[str, Any]:
    context: dict[str, Any] = {"tls_certificate_sds_secret_configs": [{"name": "default"}]} if shows else {}
    validation = {"match_subject_alt_names": [{"exact": san} for san in sans]}
    context |= {"combined_validation_context": {"default_validation_context": validation}}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"common_tls_context": context}}


def test_security_follows_from_what_endpoints_and_clusters_say() -> None:
    """As istiod writes them: an endpoint that says tlsMode istio gets the first socket, any other the last."""

    def endpoint(address: str, **matched: str) -> dict[str, Any]:
        place = {"address": {"socket_address": {"address": address, "port_value": 8080}}}
        return {"endpoint": place, "metadata": {"filter_metadata": {"envoy.transport_socket_match": matched}}}

    plain = {"name": "envoy.transport_sockets.raw_buffer"}
    matches = [
        {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls_socket("spiffe://a")},
        {"name": "tlsMode-disabled", "match": {}, "transport_socket": plain},
    ]
    endpoints = [{"lb_endpoints": [endpoint("10.0.0.1", tlsMode="istio"), endpoint("10.0.0.2")]}]
    assignment = json.dumps({"configs": [{"endpoint_config": {"cluster_name": "c", "endpoints": endpoints}}]})

    def seen(**cluster: Any) -> dict[str, Security]:
        return dict(parse_security(json.dumps({"configs": [{"cluster": {"name": "c", **cluster}}]}), assignment, "c"))

    mutual = Security(tls=True, mutual=True, sans=("spiffe://a",))
    assert seen(transport_socket_matches=matches) == {"10.0.0.1:8080": mutual, "10.0.0.2:8080": Security(tls=False)}
    assert set(seen().values()) == {Security(tls=False)}
    assert set(seen(transport_socket=tls_socket(shows=False)).values()) == {Security(tls=True)}
    assert parse_security("{}", "{}", "c") == {}
