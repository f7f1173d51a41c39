"""Reading a mesh for an upgrade check, what istioctl and claims add to it, and how the verdict reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from meshproof.claims.claim import Claim
from meshproof.claims.failure import render_broken
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.cli import main as cli
from meshproof.cli import upgrade_check as command
from meshproof.cli.select_mesh import Chosen
from meshproof.clients.istio.istioctl import parse_messages
from meshproof.clients.kubernetes.client import ApiError, ExecResult, Json, Kube
from meshproof.clients.kubernetes.rbac import AccessRule as Right
from meshproof.clients.process import run
from meshproof.core.errors import BadInput, Broken, NotReady
from meshproof.core.names import SYSTEM_NAMESPACE
from meshproof.core.topology import load_topology
from meshproof.core.versions import parse_target
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.pki import issue as pki
from meshproof.pki.verify import parse_chain
from meshproof.upgrade.precheck.check import RULES, check
from meshproof.upgrade.precheck.facts import Facts, Patch, ReaderAccount
from meshproof.upgrade.precheck.proofs import claim_reasons
from meshproof.upgrade.precheck.read import patches_of, read_facts
from meshproof.upgrade.precheck.reader_role import account_of, lacking, reader_of
from meshproof.upgrade.precheck.rule import Reason, Severity
from meshproof.upgrade.precheck.verdict import UpgradeOutcome, UpgradeVerdict, render_verdict, upgrade_verdict
from tests.install_fakes import TOOLBOX, FakeKube

NOW = datetime(2026, 9, 1, tzinfo=UTC)
READER = "istio-reader-service-account"


class There(FakeKube):
    """A cluster with a mesh of 1.30.4 that is ready for 1.31. `forbidden` are parts of paths that may not be read."""

    def __init__(self, name: str, *, is_primary: bool) -> None:
        super().__init__(name)
        self.forbidden: tuple[str, ...] = ()
        self.objects["/version"] = {"gitVersion": "v1.34.0", "metadata": {"name": ""}}
        self.add("Service", "istiod")
        slice_labels = {"kubernetes.io/service-name": "istiod"}
        self.add("EndpointSlice", "istiod-x", labels=slice_labels, endpoints=[{"addresses": ["10.0.0.1"]}])
        self.hook("istio-sidecar-injector", "istiod")
        bound = {"kind": "ServiceAccount", "name": READER, "namespace": SYSTEM_NAMESPACE}
        self.put(
            {
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "reader"},
                "roleRef": {"kind": "ClusterRole", "name": "reader"},
                "subjects": [bound],
            }
        )
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        self.put({"kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": rules})
        if is_primary:
            container = {
                "name": "discovery",
                "image": "docker.io/istio/pilot:1.30.4",
                "env": [{"name": "A", "value": "b"}],
            }
            spec = {"template": {"spec": {"containers": [container]}}}
            self.add("Deployment", "istiod", labels={"app": "istiod"}, spec=spec)
            self.add("Pod", "istiod-1", labels={"app": "istiod"}, status={"phase": "Running"})

    def add(
        self, kind: str, name: str, *, namespace: str = SYSTEM_NAMESPACE, labels: Json | None = None, **rest: object
    ) -> None:
        self.put({"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, **rest})

    def hook(self, name: str, service: str, **labels: str) -> None:
        config = {"service": {"name": service, "namespace": SYSTEM_NAMESPACE}}
        meta = {"name": name, "labels": {"app": "sidecar-injector", **labels}}
        self.put({"kind": "MutatingWebhookConfiguration", "metadata": meta, "webhooks": [{"clientConfig": config}]})

    def _get(self, path: str, query: dict[str, str], body: object) -> Json:
        if any(part in path for part in self.forbidden):
            raise ApiError(f"GET {path}", 403, "forbidden")
        return super()._get(path, query, body)

    def exec(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 30.0,
    ) -> ExecResult:
        proxies = [{"proxy": "a.shop", "cluster_id": self.name, "istio_version": "1.30.4"}]
        output = json.dumps(proxies) if argv[-1] == "/debug/syncz" else "1.30.4"
        return ExecResult(stdout=output, stderr="", exit_code=0)


def mesh_there(*, istioctl: Path | None = None, topology: str = "primary-remote-samenet") -> Mesh:
    loaded = load_topology(topology)
    clusters = tuple(
        Cluster(
            spec=spec,
            access=ClusterAccess(name=spec.name, kubeconfig=Path("/k"), context=spec.name, server_for_peers=""),
            kube=There(spec.name, is_primary=spec in loaded.primaries),
        )
        for spec in loaded.clusters
    )
    toolbox = Toolbox(**{**{f: getattr(TOOLBOX, f) for f in TOOLBOX.__slots__}, "istioctl": istioctl})
    return Mesh(topology=loaded, clusters=clusters, toolbox=toolbox)


def there(mesh: Mesh, place: int) -> There:
    kube: Kube = mesh.clusters[place].kube
    assert isinstance(kube, There)
    return kube


# -- reading ----------------------------------------------------------------------------------------------------------


def test_facts_of_a_mesh() -> None:
    mesh = mesh_there()
    facts = read_facts(mesh, NOW)
    near, far = facts.clusters
    assert (near.is_primary, near.readers, near.kubernetes) == (True, (), "v1.34.0")
    assert (far.is_primary, far.readers, far.istiods) == (False, ("cluster1",), ())
    (istiod,) = near.istiods
    assert (istiod.version, istiod.image, dict(istiod.env)) == ("1.30.4", "docker.io/istio/pilot:1.30.4", {"A": "b"})
    assert [(p.where, p.version, p.istiod) for p in facts.proxies] == [("cluster1 a.shop", "1.30.4", "1.30.4")]
    assert far.alive == {"istio-system/istiod"}
    assert near.reader is None
    assert far.reader is not None
    assert far.reader.account == f"{SYSTEM_NAMESPACE}:{READER}"
    assert facts.withheld == ()
    assert there(mesh, 0).writes == there(mesh, 1).writes == []


def test_what_may_not_be_read_is_kept_as_such() -> None:
    mesh = mesh_there()
    there(mesh, 1).forbidden = ("/clusterroles", "/secrets/cacerts", "/pods")
    facts = read_facts(mesh, NOW)
    assert [(each.where, each.what, each.reason) for each in facts.withheld] == [
        ("cluster2", "Pod objects", "forbidden"),
        ("cluster2", "ClusterRole objects", "forbidden"),
        ("cluster2", "secret cacerts", "HTTP 403: forbidden"),
    ]
    assert facts.clusters[1].reader is None


def test_services_that_may_not_be_read_and_those_elsewhere_are_not_called_dead() -> None:
    mesh = mesh_there()
    near, far = there(mesh, 0), there(mesh, 1)
    near.forbidden = ("/endpointslices",)
    far.add("Service", "istiod", spec={"externalName": "istiod.example"})
    del far.objects[f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/endpointslices/istiod-x"]
    reasons = check(mesh, parse_target("1.31"), now=NOW).reasons
    assert [(each.where, each.rule) for each in reasons if each.rule in ("HOOK-01", "HOOK-02", "UNKNOWN")] == [
        ("cluster1", "UNKNOWN")
    ]


def test_a_silent_api_server_ends_the_check() -> None:
    mesh = mesh_there()
    del there(mesh, 1).objects["/version"]
    with pytest.raises(Broken, match="GET /version"):
        read_facts(mesh, NOW)


def test_objects_that_an_upgrade_may_touch_are_found() -> None:
    mesh = mesh_there()
    near = there(mesh, 0)
    near.hook("istio-revision-tag-prod", "istiod-1-29", **{"istio.io/tag": "prod", "istio.io/rev": "1-29"})
    near.put({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/rev": "prod"}}})
    for kube in (near, there(mesh, 1)):
        patches = [{"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {}}}]
        kube.add("EnvoyFilter", "f", namespace="shop", spec={"configPatches": patches})
    detection = {"trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 3}}}
    limited = {"subsets": [{"trafficPolicy": {"outlierDetection": {"minHealthPercent": 20}}}]}
    near.add("DestinationRule", "a", namespace="shop", spec=detection)
    near.add("DestinationRule", "b", namespace="shop", spec=limited)
    near.add("DestinationRule", "c", namespace="meshproof-testbed-1", spec=detection)  # a claim's own
    near.add("VirtualService", "a", namespace="shop", spec={"http": [{"mirror": {"host": "b"}}]})
    near.add("Pod", "p", namespace="shop")
    near.objects["/api/v1/namespaces/shop/pods/p"]["metadata"]["annotations"] = {
        "sidecar.istio.io/statsCompression": "x"
    }
    values = {"original-values": json.dumps({"compatibilityVersion": "1.28"})}
    near.add("ConfigMap", "values", data=values)
    crd = {
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "tcproutes.gateway.networking.k8s.io",
            "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.5.1"},
        },
        "spec": {"versions": [{"name": "v1alpha2", "served": True}, {"name": "v1", "served": False}]},
        "status": {"storedVersions": ["v1alpha2"]},
    }
    near.put(crd)
    near.objects["/apis/gateway.networking.k8s.io/v1alpha2/tcproutes"] = {"items": [{"metadata": {"name": "r"}}]}
    cluster, remote = read_facts(mesh, NOW).clusters
    assert [patch.filter for patch in cluster.patches] == ["shop/f"]
    assert remote.patches == ()
    assert [(hook.name, hook.tag, hook.revision, hook.services) for hook in cluster.hooks][1:] == [
        ("istio-revision-tag-prod", "prod", "1-29", ("istio-system/istiod-1-29",))
    ]
    assert [(each.name, each.revision) for each in cluster.namespaces] == [("shop", "prod")]
    assert dict(cluster.configured) == {
        "outlierDetection": ("DestinationRule shop/a",),
        "mirror": ("VirtualService shop/a",),
    }
    assert dict(cluster.annotated) == {"sidecar.istio.io/statsCompression": ("shop/p",)}
    assert cluster.istiods[0].compatibility == "1.28"
    assert [(each.bundle, each.in_use, each.served, each.stored) for each in cluster.crds] == [
        ("v1.5.1", True, frozenset({"v1alpha2"}), frozenset({"v1alpha2"}))
    ]


def test_credentials_that_end_are_read_without_their_keys() -> None:
    mesh = mesh_there()
    bundle = pki.plugin_ca(pki.make_root(), "cluster1", life=timedelta(days=45))
    there(mesh, 0).add("Secret", "cacerts", data=bundle.secret_data())
    token = ".".join(["x", encoded({"exp": NOW.timestamp(), "sub": "system:serviceaccount:a:b"}), "y"])
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1"}}],
        "users": [{"name": "c", "user": {"token": token}}],
    }
    text = base64.b64encode(yaml.safe_dump(config).encode()).decode()
    there(mesh, 0).add("Secret", "remote", labels={"istio/multiCluster": "true"}, data={"cluster2": text})
    facts = read_facts(mesh, NOW)
    near, far = facts.clusters
    assert far.reader == ReaderAccount(account="a:b", rights=())
    ends = {each.what.partition(" in ")[2]: each.ends for each in near.expiring if not each.token}
    assert ends["ca-cert.pem of secret cacerts"] == parse_chain(bundle.ca_cert)[0].not_valid_after_utc
    assert set(ends) == {f"{key} of secret cacerts" for key in ("ca-cert.pem", "cert-chain.pem", "root-cert.pem")}
    assert [(each.what, each.ends) for each in near.expiring if each.token] == [
        ("the token in remote secret istio-system/remote", NOW)
    ]
    assert "PRIVATE" not in repr(facts)
    assert token not in repr(facts)


def encoded(claims: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_rights_of_an_account_come_from_all_roles_that_are_bound_to_it() -> None:
    def role(name: str, *rules: Json, labels: Json | None = None, gathers: Json | None = None) -> Json:
        found: Json = {"metadata": {"name": name, "labels": labels or {}}, "rules": list(rules)}
        return found | ({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": gathers}]}} if gathers else {})

    def binding(to: str, **subject: str) -> Json:
        return {"roleRef": {"kind": "ClusterRole", "name": to}, "subjects": [subject]}

    def rule(resource: str, **more: object) -> Json:
        return {"apiGroups": [""], "resources": [resource], "verbs": ["list"], **more}

    roles = [
        role("own", rule("pods"), rule("secrets", resourceNames=["one"])),
        role("group", rule("nodes")),
        role("gathering", gathers={"to": "reader"}),
        role("gathered", rule("services"), labels={"to": "reader"}),
        role("other", rule("configmaps")),
    ]
    bindings = [
        binding("own", kind="ServiceAccount", namespace="ns", name="reader"),
        binding("group", kind="Group", name="system:serviceaccounts:ns"),
        binding("gathering", kind="User", name="system:serviceaccount:ns:reader"),
        binding("other", kind="ServiceAccount", namespace="elsewhere", name="reader"),
        binding("nowhere", kind="ServiceAccount", namespace="ns", name="reader"),
    ]
    reader = reader_of("ns:reader", bindings, roles)
    assert sorted(right.resources[0] for right in reader.rights) == ["nodes", "pods", "services"]
    wanted = Right(group="", resources=("pods", "nodes", "services", "secrets", "configmaps"), verbs=("list", "watch"))
    assert lacking(reader, (wanted,)) == [
        "watch pods",
        "watch nodes",
        "watch services",
        "list, watch secrets",
        "list, watch configmaps",
    ]


def test_whose_token_it_is() -> None:
    assert account_of(f"x.{encoded({'sub': 'system:serviceaccount:ns:name'})}.y") == "ns:name"
    for other in ("", "x.y.z", f"x.{encoded({'sub': 'jane'})}.y", f"x.{encoded({})}.y"):
        assert account_of(other) == ""


def test_patches_of_an_envoy_filter() -> None:
    old = "type.googleapis.com/envoy.config.filter.http.lua.v2.Lua"
    new = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"

    def patch(kind: str, operation: str, value: Json, version: str = "") -> Json:
        match = {"match": {"proxy": {"proxyVersion": version}}} if version else {}
        return {"applyTo": kind, **match, "patch": {"operation": operation, "value": value}}

    found = {
        "metadata": {"name": "f", "namespace": "shop"},
        "spec": {
            "configPatches": [
                patch("HTTP_FILTER", "INSERT_BEFORE", {"name": "a"}, r"^1\.31"),
                patch("HTTP_FILTER", "INSERT_FIRST", {"name": "b", "typed_config": {"@type": new}}),
                patch("NETWORK_FILTER", "ADD", {"name": "c", "typedConfig": {"x": [{"@type": old}]}}),
                patch("HTTP_FILTER", "MERGE", {"name": "d"}),
                patch("CLUSTER", "ADD", {"name": "e"}),
                patch("HTTP_FILTER", "REMOVE", {}),
            ]
        },
    }
    assert list(patches_of(found)) == [
        Patch(filter="shop/f", kind="HTTP_FILTER", version=r"^1\.31", untyped=("a",)),
        Patch(filter="shop/f", kind="HTTP_FILTER", version=""),
        Patch(filter="shop/f", kind="NETWORK_FILTER", version="", old_types=(old,)),
        Patch(filter="shop/f", kind="HTTP_FILTER", version=""),
        Patch(filter="shop/f", kind="CLUSTER", version=""),
        Patch(filter="shop/f", kind="HTTP_FILTER", version=""),
    ]


# -- istioctl and claims ----------------------------------------------------------------------------------------------


def tool(tmp_path: Path, *, precheck: str = "exit 0", analyze: str = "echo '[]'", version: str = "1.31.0") -> Path:
    """An istioctl that says this."""
    path = tmp_path / "istioctl"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in\n*version*) echo "client version: {version}" ;;\n*precheck*) {precheck} ;;\n'
        f"*analyze*) {analyze} ;;\nesac\n"
    )
    path.chmod(0o755)
    return path


def message(code: str, level: str) -> str:
    row = {"code": code, "level": level, "message": "words", "origin": "Pod a/b", "documentationUrl": "page"}
    return f"echo '{json.dumps([row])}'"


def by_tool(mesh: Mesh) -> list[tuple[str, Severity, str]]:
    verdict = check(mesh, parse_target("1.31"), now=NOW)
    found = [reason for reason in verdict.reasons if reason.rule in ("PRECHECK", "ANALYZE")]
    return [(reason.rule, reason.severity, f"{reason.where}: {reason.what}") for reason in found]


def test_what_istioctl_finds_is_merged(tmp_path: Path) -> None:
    error, warning = message("IST0142", "Error"), message("IST0172", "Warning")
    assert by_tool(mesh_there(istioctl=tool(tmp_path))) == []
    assert by_tool(mesh_there(istioctl=tool(tmp_path, precheck=f"{error}; exit 1", analyze=f"{error}; exit 79"))) == [
        ("PRECHECK", Severity.NO_GO, "cluster1 Pod a/b, cluster2 Pod a/b: IST0142 words"),
        ("ANALYZE", Severity.WARNING, "cluster1 Pod a/b: IST0142 words"),
    ]
    assert by_tool(mesh_there(istioctl=tool(tmp_path, precheck=f"{warning}; exit 1", analyze=warning))) == [
        ("PRECHECK", Severity.WARNING, "cluster1 Pod a/b, cluster2 Pod a/b: IST0172 words"),
        ("ANALYZE", Severity.NOTE, "cluster1 Pod a/b: IST0172 words"),
    ]
    ours = message("IST0101", "Error").replace("Pod a/b", "Pod meshproof-testbed-1/b")
    assert by_tool(mesh_there(istioctl=tool(tmp_path, analyze=ours))) == []
    may_not = tool(tmp_path, precheck=f"{message('IST0141', 'Error')}; exit 1", analyze=message("IST0102", "Info"))
    assert {severity for _, severity, _ in by_tool(mesh_there(istioctl=may_not))} == {Severity.NOTE}


def test_an_istioctl_that_is_missing_fails_or_is_of_another_release_is_reported(tmp_path: Path) -> None:
    assert by_tool(mesh_there()) == [("PRECHECK", Severity.WARNING, "istioctl: it did not run: it is not in PATH")]
    failing = by_tool(mesh_there(istioctl=tool(tmp_path, precheck="echo no access >&2; exit 1")))
    assert [severity for _, severity, _ in failing] == [Severity.WARNING] * 2
    assert "it did not run: " in failing[0][2]
    other = by_tool(mesh_there(istioctl=tool(tmp_path, version="1.30.4")))
    assert other == [
        ("PRECHECK", Severity.NOTE, "istioctl: istioctl 1.30.4 was used: it checks for 1.30, not for 1.31")
    ]


def test_the_istioctl_of_the_target_is_used_where_available(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    mesh = mesh_there(istioctl=tool(old, version="1.30.4", precheck="exit 3"))
    both = {"1.30": old / "istioctl", "1.31": tool(new)}
    assert by_tool(replace(mesh, toolbox=replace(mesh.toolbox, istioctls=both))) == []


def test_a_program_may_tell_by_its_exit_code_if_it_says_something() -> None:
    assert run(["sh", "-c", "echo x; exit 79"], timeout_s=5, accepted_exit_codes=(79,)) == "x\n"
    for script in ("exit 79", "echo x; exit 78"):
        with pytest.raises(Broken, match="exit code 7"):
            run(["sh", "-c", script], timeout_s=5, accepted_exit_codes=(79,))
    with pytest.raises(Broken, match="unexpected output: 'x'"):
        parse_messages("x")
    assert parse_messages("") == parse_messages("null") == ()


CLAIMS = SuiteRun(
    results={"TRUST-01": Result.SUCCEEDED, "TRUST-02": Result.FAILED, "TRUST-03": Result.BROKEN},
    texts={"TRUST-02": "TRUST-02 one root\n  last seen   two"},
    seconds=23.4,
)


def test_claims_that_are_red_are_reasons() -> None:
    assert [(r.where, r.severity, r.what) for r in claim_reasons(CLAIMS)] == [
        ("TRUST-02", Severity.NO_GO, "TRUST-02 one root\n  last seen   two"),
        ("TRUST-03", Severity.UNKNOWN, f"1 claim is {RESULTS_UNKNOWN}: unknown reason"),
    ]


RESULTS_UNKNOWN = "BROKEN, so their results are unknown"


def broken_text(code: str, said: str) -> str:
    claim = Claim(code=code, sentence="it holds", promised_by="a page", hint="look", needs=(), disruptive=False)
    return render_broken(claim, load_topology("primary-remote-samenet"), said, notes=["and: another"])


def test_claims_that_are_broken_for_one_reason_have_one_reason() -> None:
    said = str(Broken("pod client", "none is ready", "kubectl describe it"))
    texts = {code: broken_text(code, said) for code in ("TRUST-01", "TRUST-02", "TRUST-03")}
    texts["TRUST-04"] = broken_text("TRUST-04", "another reason")
    reasons = {"TRUST-05": "TypeError"}
    codes = [*texts, *reasons]
    run = SuiteRun(results=dict.fromkeys(codes, Result.BROKEN), texts=texts, reasons=reasons)
    found = upgrade_verdict("m", "1.31", Facts(now=NOW, clusters=()), claim_reasons(run), [])
    assert (found.outcome, found.outcome.exit_code) == (UpgradeOutcome.UNKNOWN, 1)
    assert [(r.where, r.what, r.repair, r.source) for r in found.reasons] == [
        ("TRUST-01, TRUST-02, TRUST-03", f"3 claims are {RESULTS_UNKNOWN}: pod client: none is ready",
         "kubectl describe it", "pytest -k TRUST-01"),
        ("TRUST-04", f"1 claim is {RESULTS_UNKNOWN}: another reason",
         "fix what keeps the claims from running, then check again", "pytest -k TRUST-04"),
        ("TRUST-05", f"1 claim is {RESULTS_UNKNOWN}: TypeError",
         "fix what keeps the claims from running, then check again", "pytest -k TRUST-05"),
    ]  # fmt: skip


def test_claims_that_were_not_run_make_no_go() -> None:
    ran, skipped, other = Result.SUCCEEDED, Result.SKIPPED, Result.NOT_APPLICABLE
    assert claim_reasons(SuiteRun(results={"A-01": ran, "A-02": skipped, "A-03": other})) == []
    for red, what in (
        (SuiteRun(results={"A-02": skipped, "A-03": other}), "none of them ran (1 NOT_APPLICABLE, 1 SKIPPED)"),
        (SuiteRun(results={"A-01": ran}, unfinished="images: none"), "not all of them ran: images: none"),
        (
            SuiteRun(results={"A-01": ran}, missing=("m: nothing was asserted about B",)),
            "m: nothing was asserted about B",
        ),
        (Broken("the suites", "images: none"), "they could not run: the suites: images: none"),
    ):
        (found,) = claim_reasons(red)
        assert (found.severity, found.where, found.what) == (Severity.UNKNOWN, "all claims", what)


# -- the verdict ------------------------------------------------------------------------------------------------------


def reason(severity: Severity, rule: str = "HOOK-01") -> Reason:
    return Reason(rule=rule, severity=severity, where="east", what="what", repair="repair it", source="a page")


def verdict(*severities: Severity) -> UpgradeVerdict:
    return upgrade_verdict("m", "1.31", Facts(now=NOW, clusters=()), [reason(each) for each in severities], ["1 rule"])


def test_the_heaviest_reason_decides() -> None:
    no_go, unknown, warning, note = Severity
    weights = ((), (note,), (note, warning), (warning, unknown), (unknown, no_go), (warning, no_go))
    assert [verdict(*each).outcome for each in weights] == [
        UpgradeOutcome.GO,
        UpgradeOutcome.GO,
        UpgradeOutcome.WARNED,
        UpgradeOutcome.UNKNOWN,
        UpgradeOutcome.NO_GO,
        UpgradeOutcome.NO_GO,
    ]
    assert {str(outcome): outcome.exit_code for outcome in UpgradeOutcome} == {
        "GO": 0,
        "NOT KNOWN": 1,
        "GO WITH WARNINGS": 3,
        "NO-GO": 4,
    }
    assert [each.severity for each in verdict(note, warning, no_go, note).reasons] == [no_go, warning, note]


GOLDEN = """\
NO-GO: primary-remote-samenet to Istio 1.31 (2 NO-GO, 1 NOT KNOWN, 2 NOTE)
  mesh        cluster1: istiod 1.30.4, Kubernetes v1.34.0
              cluster2: remote, Kubernetes v1.34.0
  checked     21 rules
              istioctl 1.31.0: x precheck on 2 clusters, analyze on 1
              3 claims in 23 s

NO-GO     HOOK-01  cluster1 webhook istio-revision-tag-prod
  seen        it is of tag prod of revision 1-29 and calls Service istio-system/istiod-1-29, which does not exist:
              pods that it selects are rejected
  repair      move the tag to a revision that runs: istioctl tag set prod --revision=REVISION --overwrite; or remove
              it
  source      istio.io, Canary Upgrades: stable revision labels; kubernetes.io, Admission Webhooks: failure policy

NO-GO     CLAIM  TRUST-02
  seen        TRUST-02 one root
                last seen   two
  repair      repair this first (docs/claims.md)
  source      pytest -k TRUST-02

NOT KNOWN CLAIM  TRUST-03
  seen        1 claim is BROKEN, so their results are unknown: unknown reason
  repair      fix what keeps the claims from running, then check again
  source      pytest -k TRUST-03

NOTE      SET-02  cluster1 istiod
  seen        from 1.31 on gateways created by the Gateway API ignore Istio Gateways of other namespaces
  repair      confirm that this is intended, or set PILOT_ENABLE_STRICT_GATEWAY_MERGING=false on istiod
  source      istio/istio, manifests/helm-profiles/compatibility-version-1.30.yaml

NOTE      SET-02  cluster1 istiod
  seen        from 1.31 on unready endpoints are sent to proxies too, unless outlierDetection sets minHealthPercent
  repair      confirm that this is intended, or set PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS=false on istiod
  source      istio/istio, manifests/helm-profiles/compatibility-version-1.30.yaml
"""


def test_what_is_the_same_at_many_places_is_reported_once() -> None:
    places = [Reason(**{**asdict(reason(Severity.NOTE)), "where": f"pod{number}"}) for number in range(10)]
    (one,) = upgrade_verdict("m", "1.31", Facts(now=NOW, clusters=()), [*places, places[0]], []).reasons
    assert one.where == "pod0, pod1, pod2, pod3, pod4, pod5, pod6, pod7, 2 more"


def test_how_a_verdict_reads(tmp_path: Path) -> None:
    mesh = mesh_there(istioctl=tool(tmp_path))
    there(mesh, 0).hook("istio-revision-tag-prod", "istiod-1-29", **{"istio.io/tag": "prod", "istio.io/rev": "1-29"})
    found = check(mesh, parse_target("1.31"), now=NOW, claims=CLAIMS)
    assert render_verdict(found) == GOLDEN
    plain = json.loads(json.dumps(found.as_plain()))
    assert (plain["outcome"], plain["exit_code"], plain["target"]) == ("NO-GO", 4, "1.31")
    assert [each["rule"] for each in plain["reasons"]] == [each.rule for each in found.reasons]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_exit_code_says_what_the_verdict_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = mesh_there()
    monkeypatch.setattr(command, "chosen_mesh", lambda *_: Chosen(mesh=mesh, options=()))
    ask = ["upgrade", "check", "--to=1.31", f"--report-dir={tmp_path}", "--no-claims", f"--istioctl={tool(tmp_path)}"]
    assert cli.main(ask) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("GO: primary-remote-samenet to Istio 1.31 (")
    assert (tmp_path / "upgrade-check" / "verdict.txt").read_text() == printed
    there(mesh, 1).forbidden = ("/clusterroles",)
    assert cli.main([*ask, "--json"]) == 3
    printed = capsys.readouterr().out
    assert json.loads(printed)["outcome"] == "GO WITH WARNINGS"
    assert (tmp_path / "upgrade-check" / "verdict.json").read_text() == printed
    del there(mesh, 0).objects[f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/istiod"]
    assert cli.main(ask) == 4
    assert cli.main([*ask[:-1], "--istioctl=/nowhere/istioctl"]) == 2
    assert "--istioctl=/nowhere/istioctl: no such file" in capsys.readouterr().err

    def silent(*_: object) -> Chosen:
        raise NotReady("cluster1", "no answer")

    monkeypatch.setattr(command, "chosen_mesh", silent)
    assert cli.main(ask) == 1


def test_rules_are_judged_where_claims_cannot_be_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_claims(*_: object) -> SuiteRun:
        raise BadInput("the suites", "images: none", "use --client-image=IMAGE")

    mesh = mesh_there()
    monkeypatch.setattr(command, "chosen_mesh", lambda *_: Chosen(mesh=mesh, options=()))
    monkeypatch.setattr(command, "run_claims", run_claims)
    ask = ["upgrade", "check", "--to=1.31", f"--report-dir={tmp_path}", f"--istioctl={tool(tmp_path)}"]
    assert cli.main([*ask, "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert (plain["outcome"], plain["exit_code"]) == ("NOT KNOWN", 1)
    rules = [(each["rule"], each["severity"], each["where"], each["repair"]) for each in plain["reasons"]]
    assert rules[0] == ("CLAIM", "NOT KNOWN", "all claims", "use --client-image=IMAGE")
    assert {rule for rule, *_ in rules[1:]} == {"SET-02"}
    assert plain["asked"][0] == f"{len(RULES)} rules"
    del there(mesh, 0).objects[f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/istiod"]
    assert cli.main(ask) == 4
    printed = capsys.readouterr().out
    assert printed.startswith("NO-GO: ")
    assert "NOT KNOWN CLAIM  all claims\n  seen        they could not run: the suites: images: none\n" in printed


def test_claims_are_run_as_a_user_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def run_claims(root: Path, arguments: tuple[str, ...], report_dir: Path) -> SuiteRun:
        asked.append((*arguments, str(report_dir.relative_to(tmp_path))))
        return CLAIMS

    chosen = Chosen(mesh=mesh_there(), options=("--context=a=b",), text="title: t\n")
    monkeypatch.setattr(command, "chosen_mesh", lambda *_: chosen)
    monkeypatch.setattr(command, "run_claims", run_claims)
    assert cli.main(["upgrade", "check", "--to=1.31", f"--report-dir={tmp_path}", "--app-image=a:1"]) == 4
    file = tmp_path / "upgrade-check" / "mesh.yaml"
    suites = [f"suites/{name}" for name in ("trust", "discovery", "gateways", "controlplane", "traffic")]
    assert asked == [(*suites, f"--topology={file}", "--context=a=b", "--app-image=a:1", "upgrade-check/claims")]
    assert file.read_text() == "title: t\n"
