"""What proxies hold against what their istiod would send: found by content, not by what istiod remembers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshproof.clients.istio.config_dump import difference, parse_dump
from meshproof.core.errors import Broken
from meshproof.discovery.sync import config_differences

CLUSTER = "outbound|80||shop.ns.svc.cluster.local"


def of_istiod(policy: str = "LEAST_REQUEST") -> str:
    cluster = {"name": CLUSTER, "lbPolicy": policy, "connectTimeout": "10s"}
    listener = {"name": "virtualInbound", "trafficDirection": "INBOUND"}
    return json.dumps(
        {
            "configs": [
                {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump"},
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
                    "dynamicActiveClusters": [{"cluster": cluster}],
                },
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
                    "dynamicListeners": [{"name": "virtualInbound", "activeState": {"listener": listener}}],
                },
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                    "dynamicRouteConfigs": [{"routeConfig": {"name": "80", "virtualHosts": [{"name": "shop"}]}}],
                },
            ]
        }
    )


def of_envoy(*, listener: bool = True) -> str:
    cluster = {"name": CLUSTER, "lb_policy": "LEAST_REQUEST", "connect_timeout": "10s"}
    state = {"active_state": {"listener": {"name": "virtualInbound", "traffic_direction": "INBOUND"}}}
    failed = {"error_state": {"details": "port 15006 is taken"}}
    return json.dumps(
        {
            "configs": [
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
                    "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
                    "dynamic_active_clusters": [{"cluster": cluster, "last_updated": "2026-11-25T07:00:00Z"}],
                },
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
                    "dynamic_listeners": [{"name": "virtualInbound", **(state if listener else failed)}],
                },
                {
                    "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
                    "dynamic_route_configs": [{"route_config": {"name": "80", "virtual_hosts": [{"name": "shop"}]}}],
                },
            ]
        }
    )


def test_a_proxy_that_holds_what_istiod_would_send_is_good() -> None:
    wants, holds = parse_dump(of_istiod(), "istiod"), parse_dump(of_envoy(), "envoy")
    assert set(wants) == {f"cluster {CLUSTER}", "listener virtualInbound", "route 80"}
    assert config_differences(wants, holds) == []


def test_an_old_form_is_told_with_both_sides_but_not_across_versions() -> None:
    wants, holds = parse_dump(of_istiod("CLUSTER_PROVIDED"), "istiod"), parse_dump(of_envoy(), "envoy")
    assert config_differences(wants, holds) == [
        f'cluster {CLUSTER} is stale: lbPolicy: istiod has "CLUSTER_PROVIDED", the proxy has "LEAST_REQUEST"'
    ]
    assert config_differences(wants, holds, contents=False) == []


def test_what_is_missing_or_left_over_is_told() -> None:
    wants, holds = parse_dump(of_istiod(), "istiod"), parse_dump(of_envoy(), "envoy")
    less = {name: thing for name, thing in wants.items() if not name.startswith("route")}
    assert config_differences(wants, less, contents=False) == ["route 80 is missing, although istiod would send it"]
    assert config_differences(less, holds, contents=False) == ["route 80 is left over: istiod would not send it"]


def test_a_listener_that_was_never_good_shows_why() -> None:
    (problem,) = config_differences(parse_dump(of_istiod(), "istiod"), parse_dump(of_envoy(listener=False), "envoy"))
    assert problem == (
        "listener virtualInbound is stale: "
        'errorState: istiod has nothing, the proxy has {"details": "port 15006 is taken"}'
    )


def test_a_listener_that_only_drains_is_gone() -> None:
    dump = json.loads(of_envoy())
    draining = {"name": "0.0.0.0_81", "draining_state": {"listener": {"name": "0.0.0.0_81"}}}
    dump["configs"][1]["dynamic_listeners"].append(draining)
    assert config_differences(parse_dump(of_istiod(), "istiod"), parse_dump(json.dumps(dump), "envoy")) == []


def test_the_first_difference_is_named_by_its_place() -> None:
    assert difference({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}) == (
        "a[1].b: istiod has 2, the proxy has 3"
    )
    assert difference({"a": [1]}, {"a": [1, 2]}) == "a: istiod has [1], the proxy has [1, 2]"
    assert difference({"key": "secret"}, {"key": "[redacted]"}) == ""


def test_an_answer_that_is_no_dump_is_our_trouble() -> None:
    with pytest.raises(Broken, match="config dump of istiod: cannot be parsed: 'Proxy not connected"):
        parse_dump("Proxy not connected to this Pilot instance", "istiod")


PROBE = "outbound|81||probe.meshproof-testbed-1.svc.cluster.local"


def with_traces_of_a_probe() -> dict[str, dict[str, Any]]:
    """What a proxy has: its own, and what a probe has left that istiod no longer sends."""
    held = dict(parse_dump(of_envoy(), "envoy"))
    everyone = {"name": "allow_any", "domains": ["*"]}
    theirs = {"name": "probe.meshproof-testbed-1.svc:81", "domains": ["probe"]}
    shared = {"name": "80", "virtualHosts": [{"name": "shop"}, theirs]}
    by_route = {"name": "0.0.0.0_81", "filters": [{"rds": {"routeConfigName": "81"}}]}
    return held | {
        f"cluster {PROBE}": {"name": PROBE},
        "route 81": {"name": "81", "virtualHosts": [theirs, everyone]},
        "route 80": shared,
        "listener 0.0.0.0_81": by_route,
        "listener 10.1.0.9_90": {"name": "10.1.0.9_90", "filters": [{"cluster": PROBE}]},
    }


def test_what_a_probe_has_left_is_no_matter() -> None:
    assert config_differences(parse_dump(of_istiod(), "istiod"), with_traces_of_a_probe()) == []


def test_what_others_have_left_is_told_beside_it() -> None:
    other: dict[str, Any] = {"name": "outbound|81||other.ns"}
    holds = with_traces_of_a_probe() | {
        "cluster outbound|81||other.ns": other,
        "listener 0.0.0.0_82": {"name": "0.0.0.0_82", "filters": [{"rds": {"routeConfigName": "82"}}]},
        "route 82": {"name": "82", "virtualHosts": [{"name": "allow_any", "domains": ["*"]}]},
    }
    assert config_differences(parse_dump(of_istiod(), "istiod"), holds) == [
        "cluster outbound|81||other.ns is left over: istiod would not send it",
        "listener 0.0.0.0_82 is left over: istiod would not send it",
        "route 82 is left over: istiod would not send it",
    ]
