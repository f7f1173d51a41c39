"""What speaks against an upgrade, rule by rule, on facts that are made up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from meshproof.clients.istio.reader_rights import READER_RIGHTS, reader_rights
from meshproof.clients.istio.release_notes import (
    BUNDLES,
    CHANGED,
    CRDS,
    GONE_ANNOTATIONS,
    KUBERNETES,
    LAST_KNOWN,
    REMOVED,
)
from meshproof.clients.kubernetes.rbac import AccessRule as Right
from meshproof.core.errors import BadInput
from meshproof.core.versions import Version, parse_target
from meshproof.upgrade.precheck.check import RULES, judged
from meshproof.upgrade.precheck.facts import (
    ClusterSeen,
    Crd,
    ExpiringCredential,
    Facts,
    Hook,
    InjectedPod,
    IstiodFacts,
    Namespace,
    Patch,
    Proxy,
    ReaderAccount,
    Withheld,
)
from meshproof.upgrade.precheck.rule import Reason, Severity

NOW = datetime(2026, 9, 1, tzinfo=UTC)


def istiod(version: str = "1.30.4", **how: object) -> IstiodFacts:
    settings = {"name": "istiod", "revision": "default", "image": f"docker.io/istio/pilot:{version}"}
    return IstiodFacts(version=version, **{**settings, **how})  # type: ignore[arg-type]


HOOK = Hook(name="istio-sidecar-injector", revision="default", tag="", services=("istio-system/istiod",), injects=True)
EAST = ClusterSeen(
    name="east",
    is_primary=True,
    readers=("west",),
    kubernetes="v1.34.2",
    istiods=(istiod(),),
    crds=tuple(Crd(name=name, served=served, stored=frozenset({"v1"}) & served) for name, served in CRDS.items()),
    hooks=(HOOK,),
    services=frozenset({"istio-system/istiod"}),
    alive=frozenset({"istio-system/istiod"}),
    reader=ReaderAccount(account="istio-system:reader", rights=reader_rights(controlled=True)),
)
"""A primary that is ready for 1.31; others read it."""


def reasons_against(*clusters: ClusterSeen, to: str = "1.31", proxies: tuple[Proxy, ...] = ()) -> list[Reason]:
    """Reasons against the upgrade, without notes."""
    facts = Facts(now=NOW, clusters=clusters, proxies=proxies)
    return [reason for reason in judged(facts, parse_target(to)) if reason.severity is not Severity.NOTE]


def one(*clusters: ClusterSeen, to: str = "1.31", proxies: tuple[Proxy, ...] = ()) -> Reason:
    (reason,) = reasons_against(*clusters, to=to, proxies=proxies)
    return reason


def test_nothing_speaks_against_a_mesh_that_is_ready() -> None:
    assert reasons_against(EAST) == reasons_against(EAST, to="1.31.4") == reasons_against(EAST, to="v1.30.5") == []


def test_every_rule_is_whole_and_has_an_id_of_its_own() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    for rule in RULES:
        for text in (rule.sentence, rule.source, rule.repair):
            assert text.strip() == text != ""


def test_every_record_of_a_release_has_a_source_and_is_known() -> None:
    for each in (*REMOVED, *CHANGED, *GONE_ANNOTATIONS):
        assert each.source
        assert Version(1, 28) <= each.since <= LAST_KNOWN
    assert [each.istio.minor for each in KUBERNETES] == list(range(28, LAST_KNOWN.minor + 1))
    assert all(each.source and each.first < each.last for each in KUBERNETES)
    assert len({change.name for change in CHANGED}) == len(CHANGED)


@pytest.mark.parametrize(("text", "proxies"), [("1.31", "1.31.0"), ("v1.30.4", "1.30.4"), ("1.31.0-rc.1", "1.31.0")])
def test_a_target_is_a_version(text: str, proxies: str) -> None:
    assert parse_target(text).reported_by_proxies == proxies


@pytest.mark.parametrize("text", ["", "131", "latest", "2.0", "1.31.x"])
def test_an_invalid_target_is_rejected(text: str) -> None:
    with pytest.raises(BadInput, match=r"--to=.*: not a version of Istio\n  repair: write it as 1\.31 or 1\.31\.2"):
        parse_target(text)


# -- versions ---------------------------------------------------------------------------------------------------------


def test_what_a_target_changes_that_is_newer_than_the_rules_is_not_known() -> None:
    reason = one(replace(EAST, istiods=(istiod("1.31.0"),)), to="1.32")
    assert (reason.rule, reason.severity) == ("DATA-01", Severity.WARNING)
    assert reason.what == "the changes of 1.32 are unknown: these rules cover releases up to 1.31"


@pytest.mark.parametrize(
    ("version", "severity", "words"),
    [
        ("1.29.1", Severity.WARNING, "1.29.1 is two minor versions behind 1.31: that needs an upgrade by revision"),
        ("1.28.0", Severity.NO_GO, "1.28.0 is too far from 1.31: 3 minor versions"),
        ("1.32.0", Severity.NO_GO, "1.32.0 is newer than 1.31: that is not an upgrade, and its proxies would be ahead"),
        ("dev", Severity.WARNING, "its version 'dev' cannot be parsed, so the distance to 1.31 is unknown"),
    ],
)
def test_one_minor_version_at_a_time(version: str, severity: Severity, words: str) -> None:
    reason = one(replace(EAST, istiods=(istiod(version),)))
    assert (reason.rule, reason.severity, reason.where, reason.what) == ("SKEW-01", severity, "east istiod", words)


def test_a_primary_has_an_istiod() -> None:
    bare = replace(EAST, istiods=())
    reason = one(bare)
    assert (reason.rule, reason.severity, reason.what) == ("SKEW-01", Severity.NO_GO, "there is no istiod")
    withheld = Withheld(where="east", what="Deployment objects", reason="forbidden")
    facts = Facts(now=NOW, clusters=(bare,), withheld=(withheld,))
    assert [each.rule for each in judged(facts, parse_target("1.31"))] == ["UNKNOWN"]


def test_proxies_are_neither_ahead_nor_left_too_far_behind() -> None:
    old = Proxy(where="east a.shop", version="1.29.0", istiod="1.30.4")
    new = Proxy(where="east b.shop", version="1.31.0", istiod="1.30.4")
    good = Proxy(where="east c.shop", version="1.30.1", istiod="1.30.4")
    behind, ahead = reasons_against(EAST, proxies=(old, new, good))
    assert (behind.rule, behind.where) == ("SKEW-02", "east a.shop")
    assert behind.what == "1.29.0 would be more than one minor version behind 1.31"
    assert (ahead.where, ahead.what) == ("east b.shop", "1.31.0 is ahead of its istiod, 1.30.4")
    assert {behind.severity, ahead.severity} == {Severity.NO_GO}


def test_the_target_supports_kubernetes() -> None:
    old = one(replace(EAST, kubernetes="v1.31.9-gke.100"))
    assert (old.rule, old.severity) == ("K8S-01", Severity.NO_GO)
    assert old.what == "Kubernetes v1.31.9-gke.100 is older than what 1.31 supports (1.32 to 1.36)"
    new = one(replace(EAST, kubernetes="v1.37.0"))
    assert (new.severity, new.source) == (
        Severity.WARNING,
        "istio.io, Announcing Istio 1.31.0; istio/istio, istioctl/pkg/install/k8sversion/version.go",
    )


def test_objects_are_not_stored_in_a_version_that_goes() -> None:
    crd = Crd(name="gateways.networking.istio.io", served=frozenset({"v1"}), stored=frozenset({"v1", "v1alpha2"}))
    others = tuple(each for each in EAST.crds if each.name != crd.name)
    lost, older = reasons_against(replace(EAST, crds=(crd, *others)))
    assert (lost.rule, lost.severity) == ("CRD-01", Severity.NO_GO)
    assert lost.what == (
        "CRD gateways.networking.istio.io has objects stored as v1alpha2, a version that 1.31 has removed"
    )
    assert (older.rule, older.severity) == ("CRD-02", Severity.WARNING)
    assert older.what == "CRDs of 1.31 are missing or older: gateways.networking.istio.io"


@pytest.mark.parametrize(
    ("in_use", "severity"), [(True, Severity.NO_GO), (None, Severity.WARNING), (False, Severity.NOTE)]
)
def test_crds_of_the_gateway_api_are_new_enough_if_they_are_used(in_use: bool | None, severity: Severity) -> None:
    tcp = Crd(
        name="tcproutes.gateway.networking.k8s.io",
        served=frozenset({"v1alpha2"}),
        stored=frozenset(),
        bundle="v1.5.1",
        in_use=in_use,
    )
    facts = Facts(now=NOW, clusters=(replace(EAST, crds=(*EAST.crds, tcp)),))
    found = [reason for reason in judged(facts, parse_target("1.31")) if reason.rule == "GWAPI-01"]
    assert [reason.severity for reason in found] == [severity]
    assert "is of Gateway API v1.5.1, but 1.31 uses only 1.6.0 or newer" in found[0].what
    new = replace(tcp, bundle="v1.6.0-rc.1")
    facts = Facts(now=NOW, clusters=(replace(EAST, crds=(*EAST.crds, new)),))
    assert not [reason for reason in judged(facts, parse_target("1.31")) if reason.rule == "GWAPI-01"]
    facts = Facts(now=NOW, clusters=(replace(EAST, crds=(*EAST.crds, tcp)),))
    assert not [reason for reason in judged(facts, parse_target("1.30")) if reason.rule == "GWAPI-01"]
    assert {each.crd for each in BUNDLES} >= {tcp.name}


def test_crds_of_the_gateway_api_serve_v1beta1() -> None:
    crd = Crd(name="httproutes.gateway.networking.k8s.io", served=frozenset({"v1alpha2"}), stored=frozenset())
    reason = one(replace(EAST, crds=(*EAST.crds, crd)))
    assert (reason.rule, reason.severity) == ("GWAPI-02", Severity.NO_GO)
    assert reason.what == "CRD httproutes.gateway.networking.k8s.io serves v1alpha2, but not v1beta1"


# -- webhooks, rights, certificates -----------------------------------------------------------------------------------


def test_a_tag_that_leads_nowhere_is_a_no_go() -> None:
    tag = Hook(
        name="istio-revision-tag-prod",
        revision="1-29",
        tag="prod",
        services=("istio-system/istiod-1-29",),
        injects=True,
    )
    reason = one(replace(EAST, hooks=(HOOK, tag)))
    assert (reason.rule, reason.severity) == ("HOOK-01", Severity.NO_GO)
    assert reason.where == "east webhook istio-revision-tag-prod"
    assert reason.what == (
        "it is of tag prod of revision 1-29 and calls Service istio-system/istiod-1-29, which does not exist: pods "
        "that it selects are rejected"
    )
    assert reason.repair.startswith("move the tag to a revision that runs: istioctl tag set prod --revision=REVISION")
    dead = one(replace(EAST, alive=frozenset()))
    assert "Service istio-system/istiod, which has no ready endpoint" in dead.what


def test_a_namespace_names_a_revision_that_there_is() -> None:
    tagged = replace(HOOK, name="tag", tag="prod")
    shop, left = Namespace(name="shop", revision="prod"), Namespace(name="left", revision="1-29")
    reason = one(replace(EAST, hooks=(HOOK, tagged), namespaces=(shop, left)))
    assert (reason.rule, reason.severity, reason.where) == ("HOOK-02", Severity.NO_GO, "east namespace left")
    assert "istio.io/rev=1-29 is neither a revision nor a tag (default, prod)" in reason.what


def test_a_pod_names_a_revision_that_there_is_and_has_a_proxy_of_one() -> None:
    good = (
        InjectedPod(name="shop/a", has="default"),
        InjectedPod(name="istio-system/gate", wants="default", has="default"),
    )
    gone = InjectedPod(name="istio-system/gate-2", wants="1-29")
    old = InjectedPod(name="shop/b", has="1-29")
    wants = one(replace(EAST, hooks=(HOOK,), members=(*good, gone)))
    assert (wants.rule, wants.severity, wants.where) == ("HOOK-03", Severity.NO_GO, "east pod istio-system/gate-2")
    assert "istio.io/rev=1-29 is neither a revision nor a tag (default): pods like it are no longer" in wants.what
    has = one(replace(EAST, hooks=(HOOK,), members=(*good, old)))
    assert (has.where, has.repair) == ("east pod shop/b", "restart the pod")


def test_a_reader_role_of_an_older_release_is_a_no_go() -> None:
    rights = tuple(right for right in READER_RIGHTS if right.group)
    old = Right(group="", resources=("namespaces", "nodes", "pods", "services", "secrets"), verbs=("*",))
    reader = ReaderAccount(account="istio-system:reader", rights=(*rights, old))
    reason = one(replace(EAST, reader=reader))
    assert (reason.rule, reason.severity) == ("READER-01", Severity.NO_GO)
    assert reason.where == "east account istio-system:reader"
    assert reason.what == "istiod of west reads the cluster with it, but it may not get, list, watch configmaps"
    assert reasons_against(replace(EAST, reader=reader, readers=())) == []
    assert reasons_against(replace(EAST, reader=reader, istiods=(istiod("1.27.0"),)), to="1.28") == []


def test_the_reader_of_a_remote_must_write_too() -> None:
    remote = replace(
        EAST, name="far", is_primary=False, istiods=(), reader=ReaderAccount(account="a:b", rights=READER_RIGHTS)
    )
    reason = one(EAST, remote)
    assert reason.where == "far account a:b"
    assert reason.what.endswith(
        "it may not create, update configmaps; get, list, watch, update, patch "
        "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    )


def test_nothing_ends_while_the_upgrade_goes_on() -> None:
    ca = ExpiringCredential(what="CN=east", ends=NOW + timedelta(days=45))
    token = ExpiringCredential(what="the token", ends=NOW - timedelta(days=1), token=True)
    late = ExpiringCredential(what="CN=root", ends=NOW + timedelta(days=61))
    no_go, warning = reasons_against(replace(EAST, expiring=(ca, token, late)))
    assert (no_go.rule, no_go.severity) == ("CERT-01", Severity.NO_GO)
    assert no_go.what == "CN=east expires at 2026-10-16 00:00 UTC, within the 60 days that an upgrade may take"
    assert (warning.severity, warning.what[:17]) == (Severity.WARNING, "the token expired")


# -- settings ---------------------------------------------------------------------------------------------------------

SPANS = "PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY"


def test_a_switch_that_the_target_no_longer_reads_is_a_no_go() -> None:
    old = replace(EAST, istiods=(istiod(env=MappingProxyType({SPANS: "false"})),))
    reason = one(old)
    assert (reason.rule, reason.severity) == ("SET-01", Severity.NO_GO)
    assert reason.what == f"{SPANS}=false has no effect from 1.31 on"
    assert reason.repair.startswith("remove it; gateways always create a span")
    assert reasons_against(old, to="1.30.9") == []
    over = one(replace(EAST, istiods=(istiod("1.31.0", env=MappingProxyType({SPANS: "true"})),)))
    assert (over.severity, over.what) == (Severity.WARNING, f"{SPANS}=true has had no effect since 1.31")


def test_a_new_default_is_a_warning_where_it_touches_something_and_else_a_note() -> None:
    def found(cluster: ClusterSeen) -> dict[str, Reason]:
        facts = Facts(now=NOW, clusters=(cluster,))
        return {reason.what[:60]: reason for reason in judged(facts, parse_target("1.31")) if reason.rule == "SET-02"}

    assert {reason.severity for reason in found(EAST).values()} == {Severity.NOTE}
    assert len(found(EAST)) == 2
    rules = tuple(f"DestinationRule shop/{name}" for name in "abcd")
    touched = replace(EAST, configured=MappingProxyType({"outlierDetection": rules}))
    (warning,) = (reason for reason in found(touched).values() if reason.severity is Severity.WARNING)
    assert warning.what.endswith(
        "; this affects DestinationRule shop/a, DestinationRule shop/b, DestinationRule shop/c and 1 more"
    )
    assert warning.repair == "confirm that this is intended, or set PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS=false on istiod"
    decided = istiod(env=MappingProxyType({"PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS": "true"}))
    assert len(found(replace(touched, istiods=(decided,)))) == 1
    assert found(replace(touched, istiods=(istiod(compatibility="1.30"),))) == {}


def test_a_compatibility_version_is_one_that_the_target_knows() -> None:
    reason = one(replace(EAST, istiods=(istiod(compatibility="1.24"),)))
    assert (reason.rule, reason.severity) == ("SET-03", Severity.NO_GO)
    assert reason.what == "compatibilityVersion=1.24 is not supported by 1.31 (1.25 to 1.30): its chart rejects it"


def test_annotations_that_nobody_reads_any_more_are_warnings() -> None:
    pods = MappingProxyType({"sidecar.istio.io/statsCompression": ("shop/a",)})
    reason = one(replace(EAST, annotated=pods))
    assert (reason.rule, reason.severity) == ("SET-04", Severity.WARNING)
    assert reason.what == (
        "annotation sidecar.istio.io/statsCompression has had no effect since 1.29; this affects shop/a"
    )


def test_images_come_from_where_the_target_is() -> None:
    reason = one(replace(EAST, istiods=(istiod(image="gcr.io/istio-release/pilot:1.30.4"),)))
    assert (reason.rule, reason.severity) == ("IMAGE-01", Severity.WARNING)
    assert reason.what == "its image is from gcr.io/istio-release, where 1.31 is not published"


def test_a_filter_that_new_proxies_refuse_is_a_no_go() -> None:
    untyped = Patch(filter="shop/tap", kind="HTTP_FILTER", version=r"^1\.31.*", untyped=("envoy.filters.http.tap",))
    with_old = Patch(filter="shop/old", kind="HTTP_FILTER", version="", old_types=("type.googleapis.com/envoy.x",))
    found = reasons_against(replace(EAST, patches=(untyped, with_old)))
    assert [(reason.rule, reason.severity) for reason in found] == [
        ("FILTER-01", Severity.NO_GO),
        ("FILTER-01", Severity.NO_GO),
        ("FILTER-03", Severity.WARNING),
    ]
    assert found[0].where == "east EnvoyFilter shop/tap"
    assert found[0].what == "HTTP_FILTER envoy.filters.http.tap has no typed_config: proxies of 1.31 reject it"
    assert found[2].what == "EnvoyFilters change the configuration of proxies of 1.31: shop/tap, shop/old"


def test_a_filter_for_old_proxies_only_is_reported_unless_it_has_one_for_new_ones() -> None:
    old = Patch(filter="shop/lua", kind="HTTP_FILTER", version=r"^1\.30.*")
    reason = one(replace(EAST, patches=(old,)))
    assert (reason.rule, reason.severity) == ("FILTER-02", Severity.WARNING)
    assert reason.what == r"HTTP_FILTER applies to proxies ^1\.30.* only: those of 1.31 do not get it"
    both = (old, replace(old, version=r"^1\.31.*"))
    assert [reason.rule for reason in reasons_against(replace(EAST, patches=both))] == ["FILTER-03"]


def test_what_could_not_be_read_is_reported() -> None:
    withheld = Withheld(where="east", what="ClusterRole objects", reason="forbidden")
    facts = Facts(now=NOW, clusters=(EAST,), withheld=(withheld, withheld))
    found = [reason for reason in judged(facts, parse_target("1.31")) if reason.rule == "UNKNOWN"]
    assert [reason.what for reason in found] == [
        "ClusterRole objects could not be read (forbidden), so the rules about them were not applied"
    ]
    assert found[0].severity is Severity.WARNING
