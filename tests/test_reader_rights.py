"""istiod's rights in other clusters: one table, what Istio's chart gives, and both that judge by it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from meshproof.clients.istio.reader_rights import reader_rights
from meshproof.clients.kubernetes.client import ExecResult
from meshproof.clients.kubernetes.rbac import READ, AccessRule, each_right, right_text
from meshproof.core.versions import parse_target
from meshproof.discovery.remote_secrets import RemoteSecret, try_secret
from meshproof.upgrade.precheck.check import judged
from meshproof.upgrade.precheck.facts import Facts, ReaderAccount
from tests.fakes import LocalKube, pod
from tests.test_upgrade_rules import EAST, NOW


def rule(group: str, resources: str, verbs: tuple[str, ...] = READ) -> AccessRule:
    return AccessRule(group=group, resources=tuple(resources.split()), verbs=verbs)


ISTIO = ("config", "security", "networking", "authentication", "rbac", "telemetry", "extensions")
CHART = (
    *(rule(f"{name}.istio.io", "*") for name in ISTIO),
    rule("", "endpoints pods services nodes replicationcontrollers namespaces secrets configmaps"),
    rule("networking.istio.io", "workloadentries"),
    rule("networking.x-k8s.io", "gateways"),
    rule("gateway.networking.k8s.io", "gateways"),
    rule("apiextensions.k8s.io", "customresourcedefinitions"),
    rule("discovery.k8s.io", "endpointslices"),
    rule("multicluster.x-k8s.io", "serviceexports", (*READ, "create", "delete")),
    rule("multicluster.x-k8s.io", "serviceimports"),
    rule("apps", "replicasets"),
    rule("authentication.k8s.io", "tokenreviews", ("create",)),
    rule("authorization.k8s.io", "subjectaccessreviews", ("create",)),
)
"""The rules of reader-clusterrole.yaml, as 1.30 and 1.31 have them."""
CHART_REMOTE = (
    rule("", "configmaps", ("create", *READ, "update")),
    rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", (*READ, "update", "patch")),
    rule("admissionregistration.k8s.io", "validatingwebhookconfigurations", (*READ, "update")),
)
"""Those under `istiodRemote.enabled`."""
NOT_NEEDED = {
    **{f"*.{name}.istio.io": "configuration is read from the config cluster" for name in ISTIO},
    "endpoints": "EndpointSlices instead, since 1.17",
    "replicationcontrollers": "not read",
    "replicasets.apps": "not read",
    "gateways.networking.x-k8s.io": "not read",
    "gateways.gateway.networking.k8s.io": "only with the Gateway API's CRDs",
    "serviceexports.multicluster.x-k8s.io": "only with ENABLE_MCS_AUTO_EXPORT or ENABLE_MCS_SERVICE_DISCOVERY",
    "serviceimports.multicluster.x-k8s.io": "only with ENABLE_MCS_HOST",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "watched in istiod's own cluster alone",
}
"""By resource why istiod does without what the chart gives."""

Rights = set[tuple[str, str, str]]


@pytest.mark.parametrize(("controlled", "chart"), [(False, CHART), (True, (*CHART, *CHART_REMOTE))])
def test_the_table_is_the_charts_without_what_istiod_does_not_need(
    controlled: bool, chart: tuple[AccessRule, ...]
) -> None:
    table, given = set(each_right(reader_rights(controlled=controlled))), set(each_right(chart))
    assert table <= given
    without = {right_text(group, resource, "").strip() for group, resource, _ in given - table}
    assert without == {name for name in NOT_NEEDED if controlled or not name.startswith("validating")}


@pytest.mark.parametrize("controlled", [False, True])
def test_a_remote_secret_is_tried_for_the_rights_that_an_upgrade_needs(controlled: bool) -> None:
    assert tried(controlled=controlled) == needed_by_an_upgrade(controlled=controlled)
    assert tried(controlled=controlled) == set(each_right(reader_rights(controlled=controlled)))


def tried(*, controlled: bool) -> Rights:
    """What DISCOVERY-04 sends to the API server."""

    class Spy(LocalKube):
        stdin: str

        def exec(self, namespace: str, pod: str, argv: object, **more: object) -> ExecResult:
            self.stdin = str(more["stdin"])
            allowed = json.dumps({"status": {"allowed": True}}) + "\nmeshproof status 201\n"
            first = '{"metadata": {"uid": "u"}}\nmeshproof status 200\n'
            reviews = allowed * self.stdin.count("SelfSubjectAccessReview")
            return ExecResult(stdout=f"{first}{reviews}meshproof exit 0\n", stderr="", exit_code=0)

    kube = Spy()
    record = RemoteSecret(
        namespace="istio-system", secret="s", cluster="far", annotated="far", server="https://far:6443", token="t"
    )
    try_secret(kube, pod("client"), record, controlled=controlled)
    bodies = [json.loads(json.loads(text)) for text in re.findall(r"data = (\".*\")", kube.stdin)]
    found = [body["spec"]["resourceAttributes"] for body in bodies]
    return {(each["group"], each["resource"], each["verb"]) for each in found}


def needed_by_an_upgrade(*, controlled: bool) -> Rights:
    """What READER-01 says that an account without any right lacks."""
    seen = replace(
        EAST, name="far", is_primary=not controlled, istiods=(), reader=ReaderAccount(account="a:b", rights=())
    )
    reasons = judged(Facts(now=NOW, clusters=(EAST, seen), proxies=()), parse_target("1.31"))
    (text,) = [each.what for each in reasons if each.rule == "READER-01"]
    rights: Rights = set()
    for part in text.partition("it may not ")[2].split("; "):
        verbs, _, what = part.rpartition(" ")
        resource, _, group = what.partition(".")
        rights |= {(group, resource, verb) for verb in verbs.split(", ")}
    return rights
