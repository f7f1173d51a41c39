"""Two records of a mesh: where they differ, what explains it, and that nothing explains harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import BadInput
from meshproof.core.structural_diff import differences
from meshproof.core.versions import Version
from meshproof.mesh.handles import Mesh
from meshproof.upgrade.baseline.compare import BaselineComparison, compare_records
from meshproof.upgrade.baseline.diff import Difference, by_name
from meshproof.upgrade.baseline.expected_changes import RULES
from meshproof.upgrade.baseline.model import BaselineRecord, Content, Key, Sample
from meshproof.upgrade.baseline.render import comparison_text
from meshproof.upgrade.baseline.rule import BaselineRule, explanation
from tests.fakes import mesh_of
from tests.record_fakes import ALIKE, KEY, SHOP, dump, endpoint, parts, pod, record

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "record.md"


@pytest.fixture
def mesh() -> Mesh:
    return mesh_of("multi-primary-multinet")


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
    assert list(differences(before, after, lists=by_name)) == expected


def versions(istiod: str) -> dict[Key, Content]:
    return {Key(cluster="cluster1", workload="istio-system/istiod", kind="version", name="istiod"): {"istio": istiod}}


def test_the_same_difference_in_several_places_is_reported_once() -> None:
    before = record({KEY: {"weight": 1}, ALIKE: {"weight": 1}})
    (found,) = compare_records(before, record({KEY: {"weight": 2}, ALIKE: {"weight": 2}})).unexplained
    assert found.places == ("cluster1 ns/client", "cluster1 ns/shop")
    assert (found.kind, found.name, found.path, found.before, found.after) == ("endpoints", SHOP, "weight", 1, 2)


def test_a_workload_that_is_gone_is_one_difference() -> None:
    before = record({KEY: 1, replace(KEY, name="other"): 2, ALIKE: 1})
    text = comparison_text(compare_records(before, record({ALIKE: 1})))
    assert "differences that no rule explains: 1\n  ns/shop is gone: cluster1" in text


def compared() -> BaselineComparison:
    before = versions("1.30.4-abc-Clean") | {KEY: {"weight": 1}}
    after = versions("1.31.0-def-Clean") | {KEY: {"weight": 3}}
    return compare_records(record(before), record(after))


def test_versions_are_explained_by_the_upgrade_and_nothing_else_is() -> None:
    found = compared()
    assert (found.from_version, found.to_version) == ("1.30.4", "1.31.0")
    assert [each.rule.id for each in found.explained] == ["VERSION-1"]
    assert [each.path for each in found.unexplained] == ["weight"]


def test_a_comparison_reads_as_it_should() -> None:
    assert compared().gaps == ()
    assert comparison_text(compared()) == (
        "multi-primary-multinet: 2026-11-25 10:00:00 and 2026-11-25 10:00:00 UTC\n"
        "Istio 1.30.4 and 1.31.0; 2 parts of configuration\n"
        "differences that no rule explains: 1\n"
        f"  endpoints {SHOP} weight: was 1, is 3\n"
        "    at cluster1 ns/shop\n"
        "differences that a rule explains: 1\n"
        "  VERSION-1 istiods and proxies have the new version (the upgrade itself)\n"
        "    version istiod istio: was 1.30.4-abc-Clean, is 1.31.0-def-Clean\n"
        "      at cluster1 istio-system/istiod"
    )


def test_what_neither_record_has_is_not_equal() -> None:
    """An empty record differs from no mesh; it is one that could not be taken."""
    nothing, istiod, all_of_it = record({}), record(versions("1.31.0")), record(versions("1.31.0") | {KEY: 1})
    assert compare_records(nothing, nothing).gaps == (
        "the record before has no istiod",
        "the record before has no proxy",
        "the record after has no istiod",
        "the record after has no proxy",
    )
    found = compare_records(all_of_it, istiod)
    assert found.gaps == ("the record after has no proxy",)
    assert "\nNOT KNOWN: the record after has no proxy\n" in comparison_text(found)
    same = compare_records(istiod, istiod)
    assert (same.equal, comparison_text(same).splitlines()[-1]) == (True, "no difference in the rest")


def test_requests_of_before_are_compared_unless_nobody_wants_that() -> None:
    parts: dict[Key, Content] = versions("1.31.0") | {KEY: 1}
    some = Sample(counts={"v1": 100, "v2": 100}, promised={"v1": 0.5, "v2": 0.5}, latency={})
    both, one = record(parts, east=some, west=some), record(parts, east=some)
    assert compare_records(both, both).gaps == compare_records(one, both).gaps == ()
    assert compare_records(both, one).gaps == (
        "the record after has no requests from west (--no-traffic: do not compare requests)",
    )
    assert compare_records(both, one, traffic=False).gaps == ()


def test_what_is_the_same_in_many_parts_is_reported_in_one_line() -> None:
    keys = [replace(KEY, name=f"c{number}") for number in range(10)]
    found = compare_records(record(dict.fromkeys(keys, 1)), record(dict.fromkeys(keys, 2)))
    assert len(found.unexplained) == 10
    assert (
        "  endpoints c0, c1, c2, c3, c4, c5, c6, c7 and 2 more: was 1, is 2\n    at cluster1 ns/shop"
        in comparison_text(found)
    )


def test_what_came_and_what_went_is_called_that() -> None:
    stays, part = replace(KEY, name="stays"), replace(KEY, kind="listener", name="0.0.0.0_81")
    with_it, without = record({stays: {"a": 1}, part: "whole"}), record({stays: {"a": 1, "b": 2}})
    assert "  listener 0.0.0.0_81 is gone; it was whole\n" in comparison_text(compare_records(with_it, without))
    text = comparison_text(compare_records(without, with_it))
    assert "  listener 0.0.0.0_81 is new: whole\n" in text
    assert "  endpoints stays b is gone; it was 2\n" in text


def unready(version: str, *, healthy: int) -> BaselineRecord:
    """One pod of the shop more than `healthy`, which is not ready: reported from 1.31 on."""
    mesh = mesh_of("multi-primary-multinet")
    pods = [pod(f"shop-abc-x{number}", f"10.1.0.{number}", owner="shop") for number in range(1, 4)]
    rows = [endpoint(f"10.1.0.{number + 1}") for number in range(healthy)]
    rows += [endpoint("10.1.0.3", health="UNHEALTHY")] if version.startswith("1.31") else []
    istiod = {
        Key(cluster="cluster1", workload="istio-system/istiod", kind="version", name="istiod"): {"istio": version}
    }
    return record(parts(mesh, dump(*rows, version=version), *pods) | istiod)


def test_endpoints_that_are_not_ready_are_explained_but_not_that_one_no_longer_is() -> None:
    found = compare_records(unready("1.30.4-abc", healthy=1), unready("1.31.0-def", healthy=1))
    assert sorted({each.rule.id for each in found.explained}) == ["UNREADY-1", "VERSION-1"]
    assert found.unexplained == ()
    found = compare_records(unready("1.30.4-abc", healthy=2), unready("1.31.0-def", healthy=1))
    (lost,) = found.unexplained
    assert (lost.path, lost.before, lost.after) == ("endpoints[cluster1 ns/shop:8080].count", 2, 1)
    found = compare_records(unready("1.31.0-abc", healthy=1), unready("1.31.1-abc", healthy=1))
    assert [each.rule.id for each in found.explained] == ["VERSION-1", "VERSION-1"]


def test_the_weight_of_a_locality_is_recorded_where_it_is_configured(mesh: Mesh) -> None:
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
    comparison_text = {
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
        for (workload, kind, name), content in comparison_text.items()
    }


def test_the_name_of_the_revision_does_not_count() -> None:
    found = compare_records(record(of_revision("")), record(of_revision("-1-31")))
    assert found.equal, comparison_text(found)
    assert compare_records(record(of_revision("-1-30")), record(of_revision("-1-31"))).equal


def test_two_revisions_side_by_side_are_kept_apart() -> None:
    both = of_revision("") | of_revision("-1-31")
    found = compare_records(record(of_revision("")), record(both))
    assert [each.name for each in found.unexplained if each.kind == "holder"] == ["istio-system/istiod-1-31"]


def test_what_the_old_revision_has_left_behind_is_seen() -> None:
    listener = replace(KEY, kind="listener", name="Service istio-system/istiod_15012")
    left = of_revision("-1-31") | {listener: {"filterChains": ["istiod.istio-system.svc"]}}
    (found,) = compare_records(record(of_revision("")), record(left)).unexplained
    assert (found.kind, found.name, found.before) == ("listener", "Service istio-system/istiod-1-31_15012", None)


def test_another_version_than_that_of_the_upgrade_is_red() -> None:
    before, after = record(versions("1.30.4-abc")), record(versions("1.30.5-abc"))
    assert compare_records(before, after, from_version="1.30", to_version="1.31").unexplained


def test_another_build_of_the_same_version_is_red() -> None:
    assert compare_records(record(versions("1.31.0-abc")), record(versions("1.31.0-def"))).unexplained


def test_what_installing_once_more_does_is_explained_where_the_version_is_the_same() -> None:
    kind, name, path, was, now = EXAMPLES["INSTALL-1"]
    met = Difference(places=("cluster2",), kind=kind, name=name, path=path, before=was, after=now)
    assert explanation(met, "1.30.4", "1.30.4", RULES) is not None


def test_records_of_two_meshes_are_not_compared() -> None:
    with pytest.raises(BadInput, match="they are of different meshes"):
        compare_records(record({}), replace(record({}), mesh="other"))


RULE = BaselineRule(
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
    ("webhook", "trusted", "nobody", "it cannot be read"),
    ("webhook", "objectSelector.matchExpressions", None, [{"key": "x", "operator": "Exists"}]),
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


OFF = {"matchLabels": {"istio.io/deactivated": "never-match"}}
INJECTOR = "istio-sidecar-injector {}.sidecar-injector.istio.io"
OF_REVISION = {"key": "istio.io/rev", "operator": "In", "values": ["default"]}
NOT_REFUSED = {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_document_has_every_rule(rule: BaselineRule) -> None:
    row = f"| {rule.id} | {rule.sentence} | {rule.since or 'every'} | {rule.source} |"
    assert row in DOCUMENT.read_text(), row


EXAMPLES: dict[str, tuple[str, str, str, object, object]] = {
    "VERSION-1": ("version", "proxy", "istio", "1.30.4-9739e10eb9d7", "1.31.0-eed52ebb66ad"),
    "UNREADY-1": (
        "endpoints",
        SHOP,
        "endpoints[c ns/shop:80 unhealthy]",
        None,
        {"count": 1, "health": "UNHEALTHY", "w": 1},
    ),
    "UNREADY-2": ("cluster", SHOP, "commonLbConfig.healthyPanicThreshold", None, {}),
    "REVISION-1": (
        "webhook",
        INJECTOR.format("namespace"),
        "",
        {"namespaceSelector": OFF, "objectSelector": OFF, "z": 1},
        None,
    ),
    "REVISION-2": ("webhook", INJECTOR.format("rev.object"), "objectSelector.matchLabels", OFF["matchLabels"], None),
    "REVISION-3": (
        "webhook",
        INJECTOR.format("rev.object"),
        "objectSelector.matchExpressions",
        None,
        [NOT_REFUSED, OF_REVISION],
    ),
    "INSTALL-1": (
        "webhook",
        "istiod-default-validator validation.istio.io",
        "trusted",
        "nobody",
        ["CN=Root SHA-256 AA"],
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_explains_what_was_met_and_nothing_near_it(rule: BaselineRule) -> None:
    kind, name, path, was, now = EXAMPLES[rule.id]
    met = Difference(places=("cluster1",), kind=kind, name=name, path=path, before=was, after=now)
    assert explanation(met, "1.30.4", "1.31.0", RULES) is rule
    for near in (replace(met, kind="route"), replace(met, path="else"), replace(met, before=now, after=was)):
        assert explanation(near, "1.30.4", "1.31.0", RULES) is None


@pytest.mark.parametrize(("kind", "path", "was", "now"), HARM)
def test_no_rule_explains_harm(kind: str, path: str, was: object, now: object) -> None:
    hooks = ("rev.object.sidecar-injector.istio.io", "namespace.sidecar-injector.istio.io")
    webhooks = [f"istio-sidecar-injector {hook}" for hook in hooks] + ["istiod-default-validator validation.istio.io"]
    for name in ("istiod", "proxy", SHOP, "virtualInbound", "default", *webhooks):
        harm = Difference(places=("cluster1",), kind=kind, name=name, path=path, before=was, after=now)
        assert explanation(harm, "1.30.4", "1.31.0", RULES) is None


def test_rules_have_ids_of_their_own_and_sources() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.sentence, rule.id
        assert rule.source, rule.id
        assert ".*" not in (rule.kind, rule.path), f"{rule.id} would explain whatever comes"
