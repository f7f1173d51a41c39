"""How claims about configuration, policies, protocols and failover judge what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from meshproof.clients.envoy_admin import Security, parse_hosts_of_routes, parse_weights_of_route
from meshproof.clients.istio.configuration import istio, probe_route
from meshproof.clients.kubernetes.client import Json
from meshproof.controlplane.config_admission import admission_problems, validation_off
from meshproof.controlplane.config_consistency import compare_primaries, ignored_in_remote, service_hosts
from meshproof.controlplane.config_propagation import host_problems
from meshproof.core.waiting import poll_until_clean
from meshproof.probes.admission import Answer, ConfigAdmission, DryRun
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http_batch import HttpCall, HttpReply, reply_of, summarize_replies
from meshproof.probes.http_bodies import BodyAnswer, parse_bodies
from meshproof.probes.pod_script import parse_curl
from meshproof.traffic.identity_policies import guard_problems
from meshproof.traffic.locality_failover import failover_problems, failover_without_outlier_detection
from meshproof.traffic.mtls_policies import security_problems, strict_problems
from meshproof.traffic.protocols import body_problems, protocol_problems
from meshproof.traffic.unknown_hosts import refusal_problems
from meshproof.workloads.testbed.configuration import configuration, weights
from meshproof.workloads.testbed.envoy import probe_envoy_config
from tests.fakes import mesh_of, row


def reply(server: str = "", status: int = 200, **changes: Any) -> HttpReply:
    defaults: dict[str, Any] = {"status": status, "version": server, "seconds": 0.01}
    return HttpReply(**(defaults | changes))


LOST = reply(status=0, error="Connection refused")


def test_hosts_that_are_missing_and_hosts_that_are_too_much_are_told_apart() -> None:
    found = {"cluster1": {"a"}, "cluster2": {"a", "b"}}
    assert host_problems(found, {"cluster1": {"a"}, "cluster2": {"a", "b"}}) == []
    assert host_problems(found, {"cluster1": {"a", "b"}, "cluster2": {"b"}}) == [
        "cluster1 has no route for b",
        "cluster2 has an unexpected route for a",
    ]


ROUTES = """{"configs": [{"route_config": {"name": "80", "virtual_hosts": [
  {"domains": ["a.invalid", "a.invalid:80"], "routes": [{"route": {"weighted_clusters": {"clusters": [
    {"name": "outbound|80|one|a", "weight": 80}, {"name": "outbound|80|two|a", "weight": 20}]}}}]},
  {"domains": ["b.invalid"], "routes": [{"route": {"cluster": "x"}}]}]}}, {"route_config": {"name": "81"}}]}"""


def test_routes_are_read_by_name_and_host() -> None:
    assert parse_hosts_of_routes(ROUTES, "80") == {"a.invalid", "a.invalid:80", "b.invalid"}
    assert parse_hosts_of_routes(ROUTES, "81") == frozenset()
    assert parse_weights_of_route(ROUTES, "80", "a.invalid") == {"outbound|80|one|a": 80, "outbound|80|two|a": 20}
    assert parse_weights_of_route(ROUTES, "80", "b.invalid") == {}
    assert parse_weights_of_route(ROUTES, "80", "c.invalid") == {}


# -- CONTROL ----------------------------------------------------------------------------------------------------------


def rule(host: str, **policy: Any) -> Json:
    return istio("DestinationRule", host.partition(".")[0], "shop", {"host": host, "trafficPolicy": policy})


SERVICES = {
    "cluster1": service_hosts([("shop", "cart"), ("shop", "only1")]),
    "cluster2": service_hosts([("shop", "cart")]),
}


def test_primaries_that_are_told_the_same_are_alike() -> None:
    """Probes of a run that has just ended go at different times from the clusters: they do not count."""
    ours = istio("DestinationRule", "probe-failover", "meshproof-testbed-1", {"host": "a"})
    both = [rule("cart.shop.svc.cluster.local"), probe_route("x")[1], ours]
    assert compare_primaries({"cluster1": both, "cluster2": both[:1]}, SERVICES).problems == {}


def test_an_object_in_one_primary_only_is_named() -> None:
    route = istio("VirtualService", "cart", "shop", {"hosts": ["cart"]})
    seen = compare_primaries({"cluster1": [route], "cluster2": []}, SERVICES)
    assert seen.problems == {"VirtualService shop/cart": ["it is in cluster1 only, not in cluster2"]}


def test_a_difference_is_told_with_both_values() -> None:
    one = rule("cart.shop.svc.cluster.local", connectionPool={"tcp": {"maxConnections": 1}})
    two = rule("cart.shop.svc.cluster.local", connectionPool={"tcp": {"maxConnections": 2}})
    assert compare_primaries({"cluster1": [one], "cluster2": [two]}, SERVICES).problems == {
        "DestinationRule shop/cart": [
            "cluster1 and cluster2 differ in spec.trafficPolicy.connectionPool.tcp.maxConnections: 1 and 2"
        ]
    }


def test_another_number_of_routes_is_a_difference() -> None:
    def route(*subsets: str) -> Json:
        destinations = [{"destination": {"host": "cart", "subset": subset}} for subset in subsets]
        return istio("VirtualService", "shop", "shop", {"hosts": ["mockshop.com"], "http": [{"route": destinations}]})

    seen = compare_primaries({"cluster1": [route("v1", "v2")], "cluster2": [route("v1")]}, SERVICES)
    (difference,) = seen.problems["VirtualService shop/shop"]
    assert difference.startswith("cluster1 and cluster2 differ in spec.http[0].route: [")


def test_what_one_cluster_has_alone_may_be_configured_there_alone() -> None:
    seen = compare_primaries(
        {"cluster1": [rule("only1"), rule("only1.shop.svc.cluster.local")], "cluster2": []}, SERVICES
    )
    assert seen.problems == {}
    assert seen.own == ("DestinationRule shop/only1",)


def test_hosts_of_nobody_and_policies_are_everybodys() -> None:
    outside = istio("VirtualService", "shop", "shop", {"hosts": ["mockshop.com"]})
    policy = istio("AuthorizationPolicy", "all", "shop", {"action": "ALLOW"})
    assert set(compare_primaries({"cluster1": [outside, policy], "cluster2": []}, SERVICES).problems) == {
        "VirtualService shop/shop",
        "AuthorizationPolicy shop/all",
    }


def test_what_lies_in_a_remote_is_named_but_not_our_probe() -> None:
    assert ignored_in_remote([rule("cart"), probe_route("x")[1]]) == (["DestinationRule shop/cart"], [])


def test_a_copy_of_what_the_primary_has_does_no_harm() -> None:
    here = [rule("cart"), rule("basket", tls={"mode": "DISABLE"})]
    there = [rule("cart"), rule("basket")]
    assert ignored_in_remote(here, there) == (["DestinationRule shop/basket"], ["DestinationRule shop/cart"])


def test_somebodys_own_namespace_may_be_configured_in_its_cluster_alone() -> None:
    """Unless it is for a Service that the others have, too."""
    namespaces = {"cluster1": frozenset({"shop", "theirs"}), "cluster2": frozenset({"shop"})}
    policy = istio("AuthorizationPolicy", "all", "theirs", {"action": "ALLOW"})
    outside = istio("VirtualService", "web", "theirs", {"hosts": ["web.example.com"]})
    hijack = istio("VirtualService", "cart", "theirs", {"hosts": ["cart.shop.svc.cluster.local"]})
    shared = istio("VirtualService", "web", "shop", {"hosts": ["web.example.com"]})
    seen = compare_primaries({"cluster1": [policy, outside, hijack, shared], "cluster2": []}, SERVICES, namespaces)
    assert set(seen.problems) == {"VirtualService theirs/cart", "VirtualService shop/web"}
    assert seen.own == ("AuthorizationPolicy theirs/all", "VirtualService theirs/web")


def test_validation_that_the_operator_has_turned_off_is_named() -> None:
    assert validation_off('{"global": {"configValidation": true}}') == validation_off("{}") == validation_off("[") == ""
    assert validation_off('{"global": {"configValidation": false}}') == (
        "validation is turned off (values.global.configValidation is false)"
    )


GOOD = Answer(verdict=DryRun.ACCEPTED)
BAD = Answer(verdict=DryRun.REFUSED, words="admission webhook denied the request: must be non-negative")
DEAD = Answer(verdict=DryRun.REFUSED, words="failed calling webhook: connection refused")


@pytest.mark.parametrize(
    ("good", "bad", "guarded", "dead", "problems"),
    [
        (GOOD, BAD, True, {}, []),
        (GOOD, GOOD, True, {}, ["a DestinationRule with a negative number of connections is accepted"]),
        (
            DEAD,
            DEAD,
            True,
            {"istiod-default-validator validation.istio.io": "istio-system/istiod-old"},
            [
                "istiod-default-validator validation.istio.io points at istio-system/istiod-old, which has no ready "
                "endpoint",
                "a valid object is refused (failed calling webhook: connection refused)",
                "an invalid object was not validated: the webhook could not be called",
            ],
        ),
        (GOOD, BAD, False, {}, ["no validation webhook of Istio is set to fail closed (failurePolicy Fail)"]),
    ],
)
def test_admission_must_judge_and_not_only_refuse(
    good: Answer, bad: Answer, guarded: bool, dead: dict[str, str], problems: list[str]
) -> None:
    seen = ConfigAdmission(good=good, bad=bad, guarded=guarded, targets=dead, dead=dead)
    assert admission_problems(seen) == problems


# -- TRAFFIC ----------------------------------------------------------------------------------------------------------


def test_failover_costs_what_outlier_detection_needs_to_see_and_no_more() -> None:
    """Ten requests a second: those of the first four seconds after three errors may be lost, the others not."""
    well, failed, other = [reply("cluster1")] * 10, [reply("cluster1", 500)], [reply("cluster2")]
    assert failover_problems("cluster1", well, failed * 3 + other * 47) == []
    assert failover_problems("cluster1", well, failed * 43 + other * 7) == []
    assert failover_problems("cluster1", well, failed * 44 + other * 6) == [
        "4 s after 3 errors 1 of 7 requests were still lost or served by cluster1: HTTP 500"
    ]
    assert failover_problems("cluster1", well[:9] + other, failed * 3 + other * 47) == [
        "without a fault 1 of 10 requests left the cluster or failed: cluster2"
    ]
    assert failover_problems("cluster1", well, failed * 50) == [
        "4 s after 3 errors 7 of 7 requests were still lost or served by cluster1: HTTP 500"
    ]
    assert failover_problems("cluster1", well, other * 47 + failed * 3) == [
        "the first 3 requests during the fault did not go to cluster1: cluster2 x3",
        "4 s after 3 errors 3 of 7 requests were still lost or served by cluster1: HTTP 500",
    ]


def test_failover_is_judged_by_what_was_sent_while_the_ejection_lasts() -> None:
    well, failed, slow = [reply("cluster1")] * 10, [reply("cluster1", 500)], [reply("cluster2", seconds=0.5)]
    assert failover_problems("cluster1", well, failed * 3 + slow * 20 + failed * 27) == [], "it may serve again"
    assert failover_problems("cluster1", well, failed * 3 + [reply("cluster2", seconds=2.5)] * 47) == [
        "4 s after 3 errors only 1 requests were answered while the ejection lasts (7 s)"
    ]


def test_failover_without_outlier_detection_is_found_in_rules() -> None:
    asks = {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["topology.istio.io/cluster"]}}}
    assert failover_without_outlier_detection(rule("a", **asks)) == [
        "its locality failover has no outlierDetection, so it never happens"
    ]
    assert failover_without_outlier_detection(rule("a", **asks, outlierDetection={"interval": "1s"})) == []
    assert failover_without_outlier_detection(rule("a", loadBalancer={"localityLbSetting": {"enabled": False}})) == []
    assert failover_without_outlier_detection(rule("a")) == []
    subset: Json = {"spec": {"host": "a", "subsets": [{"name": "v1", "trafficPolicy": asks}]}}
    assert failover_without_outlier_detection(subset) == [
        "its locality failover of subset v1 has no outlierDetection, so it never happens"
    ]


def test_plain_text_must_be_refused_where_plain_text_could_arrive() -> None:
    served, open_port = {"10.2.0.9:8080": reply("cluster2")}, {"10.2.0.9:8081": reply("cluster2")}
    refused = {"10.2.0.9:8080": LOST}
    assert strict_problems(refused, open_port, reply("cluster2"), "cluster2") == []
    assert strict_problems(served, open_port, reply("cluster2"), "cluster2") == [
        "plain text to 10.2.0.9:8080 was answered: cluster2"
    ]
    assert strict_problems(refused, {"10.2.0.9:8081": LOST}, LOST, "cluster2") == [
        "positive control failed: the open port 10.2.0.9:8081 did not serve plain text: Connection refused",
        "a mesh client got: Connection refused",
    ]
    assert strict_problems({}, {}, reply("cluster2"), "cluster2") == ["no address to send plain text to"]


def test_each_guarded_path_has_its_own_answer() -> None:
    yes, no = [reply("cluster1")] * 3, [reply(status=403)] * 3
    assert guard_problems([yes, no, no, yes]) == []
    assert guard_problems([no, yes, no, yes]) == [
        "/guarded/allowed (allowed to this identity): HTTP 403 x3, expected HTTP 200",
        "/guarded/others (allowed to another identity only): cluster1 x3, expected HTTP 403",
    ]


def protocols(**changes: list[HttpReply]) -> dict[str, list[HttpReply]]:
    well = {
        "http": [reply("cluster1", protocol="HTTP/1.1", proxied=True)],
        "grpc": [reply("cluster1", protocol="HTTP/2", grpc_status="0", proxied=True)],
        "tcp": [reply("cluster1", protocol="HTTP/1.1")],
    }
    return well | changes


def test_protocols_must_arrive_as_they_were_sent() -> None:
    assert protocol_problems(protocols(), {"cluster1"}) == []
    seen = protocols(
        grpc=[reply("cluster1", protocol="HTTP/1.1")], tcp=[reply("cluster1", protocol="HTTP/1.1", proxied=True)]
    )
    assert protocol_problems(seen, {"cluster1"}) == [
        "grpc: reached the service as HTTP/1.1",
        "grpc: the grpc-status trailer is missing or not 0",
        "tcp: a proxy handled it as HTTP",
    ]
    assert protocol_problems(protocols(tcp=[LOST]), {"cluster1"}) == [
        "tcp: answered by Connection refused x1, expected cluster1"
    ]


def test_unknown_hosts_and_paths_need_known_ones_beside_them() -> None:
    def answer(status: int) -> HttpAnswer:
        return HttpAnswer(status=status, version="v1", seconds=0.01)

    def seen(*statuses: int) -> dict[str, HttpAnswer]:
        kinds = ("the application", "a known path", "an unknown host", "an unknown path")
        return {kind: answer(status) for kind, status in zip(kinds, statuses, strict=True)}

    assert refusal_problems(seen(200, 200, 404, 404)) == []
    assert refusal_problems(seen(404, 200, 404, 200)) == [
        "the application is not served: HTTP 404",
        "an unknown path got v1, expected HTTP 404",
    ]
    assert refusal_problems(seen(200, 200, 301, 404)) == ["an unknown host got HTTP 301, expected HTTP 404"]
    assert refusal_problems(seen(200, 200, 301, 404), open_to_all=True) == []
    assert refusal_problems(seen(200, 200, 301, 301), open_to_all=True) == [
        "an unknown path got HTTP 301, expected HTTP 404"
    ]


def body(**changes: Any) -> BodyAnswer:
    well: dict[str, Any] = {"size": 1024, "status": 200, "server": "cluster1", "sent": "aa", "returned": "aa"}
    return BodyAnswer(**(well | changes))


def test_bodies_must_come_back_unchanged_from_where_they_went() -> None:
    seen = [body(), body(returned="bb"), body(status=413), body(status=0, error="timed out"), body(server="")]
    assert body_problems(seen, "cluster1") == [
        "1024 bytes came back changed",
        "1024 bytes: HTTP 413",
        "1024 bytes: timed out",
        "1024 bytes were answered by an unknown server",
    ]


def test_lines_of_scripts_are_parsed() -> None:
    back = f"{row(200, x_app_version='cluster1')}\naa *0.sent\nbb *0.back\n\n"
    error = f"{row(503)}\naa *0.sent\ncc *0.back\nupstream connect error, reset reason: connection termination \n"
    answered, refused = parse_bodies(back + error, (1024, 1024))
    assert answered == body(returned="bb")
    assert refused.problem == "1024 bytes: HTTP 503, upstream connect error, reset reason: connection termination"
    answer = row(
        200, x_app_version="cluster1", x_meshproof_protocol="HTTP/2", grpc_status="0", x_envoy_upstream_service_time="1"
    )
    assert reply_of(parse_curl(answer)) == (
        reply("cluster1", seconds=0.004, protocol="HTTP/2", grpc_status="0", proxied=True)
    )
    failed = reply_of(parse_curl(row(0, code=28, message="Operation timed out; really")))
    assert (failed.status, failed.error) == (0, "Operation timed out; really")
    assert summarize_replies([failed, failed, reply("cluster2")]) == "Operation timed out; really x2, cluster2 x1"


def test_a_call_shares_a_connection_unless_each_request_needs_one_of_its_own() -> None:
    shared, fresh = (
        HttpCall(url="http://a/", count=3, headers={"x": "y z"}),
        HttpCall(url="http://b/", count=2, fresh=True),
    )
    lines = [call.command(5) for call in (shared, fresh)]
    assert [line.count("request") for line in lines] == [1, 2]
    assert "-H 'x: y z' --fail-early 'http://a/?n=[1-3]'" in lines[0]
    assert [part.rpartition(" ")[2] for part in lines[1].split(" && ")] == [
        "'http://b/?n=1'",
        "'http://b/?n=2'",
    ]


def test_problems_that_go_away_in_time_are_none() -> None:
    answers = iter([["not yet"], []])
    assert poll_until_clean(lambda: next(answers), timeout_s=5) == []
    assert poll_until_clean(lambda: ["still"], timeout_s=0.1) == ["still"]


# -- the test bed ------------------------------------------------------------------------------------------------------


def test_weights_sum_to_a_hundred() -> None:
    assert weights(mesh_of("multi-primary-samenet")) == {"cluster1": 80, "cluster2": 20}


def test_nothing_of_the_stage_reaches_beyond_it() -> None:
    """Every policy selects the probes, every host lies in its namespace or under a name that nobody can own."""
    for item in configuration(mesh_of("primary-remote-multinet"), "meshproof-testbed-x", ()):
        assert item["metadata"]["namespace"] == "meshproof-testbed-x"
        spec = item["spec"]
        hosts = [*spec.get("hosts", []), *filter(None, [spec.get("host")])]
        hosts += [host for server in spec.get("servers", []) for host in server["hosts"]]
        assert all("meshproof-testbed-x" in host for host in hosts)
        assert hosts or spec["selector"] == {"matchLabels": {"app": "probe"}}


def test_a_probe_fails_only_for_those_who_name_its_cluster() -> None:
    (http, *_) = probe_envoy_config("cluster2")["static_resources"]["listeners"]
    manager = http["filter_chains"][0]["filters"][0]["typed_config"]
    first = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    assert first["match"]["headers"] == [{"name": "x-meshproof-fail", "string_match": {"exact": "cluster2"}}]
    assert first["direct_response"]["status"] == 500


def test_plain_text_one_sided_tls_and_strangers_are_told_apart() -> None:
    account = "/ns/meshproof-app/sa/"
    good = Security(tls=True, mutual=True, sans=(f"spiffe://td{account}mockshop", f"spiffe://old{account}mockshop"))
    assert security_problems({"10.0.0.1:80": good}, account) == []
    assert security_problems({}, account) == ["has no endpoint of the application"]
    wrong = {
        "10.0.0.1:80": Security(tls=False),
        "10.0.0.2:80": Security(tls=True),
        "10.0.0.3:80": Security(tls=True, mutual=True),
        "10.0.0.4:80": Security(tls=True, mutual=True, sans=("spiffe://other/ns/x/sa/y",)),
    }
    assert security_problems(wrong, account) == [
        "sends plain text to 10.0.0.1:80",
        "presents no certificate to 10.0.0.2:80",
        f"accepts any identity at 10.0.0.3:80, expected {account}",
        f"accepts spiffe://other/ns/x/sa/y at 10.0.0.4:80, expected {account}",
    ]
