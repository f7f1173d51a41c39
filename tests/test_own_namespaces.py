"""What our namespaces bring: labels for discovery selectors, and exceptions from what a mesh sets for all."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from meshproof.clients.istio.configuration import EXPORTED, istio
from meshproof.clients.kubernetes.client import ApiError, Json, path_of
from meshproof.clients.kubernetes.manifests import namespaces, service
from meshproof.core import names
from meshproof.core.errors import BadInput, Broken
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.install import mesh_rules
from meshproof.install.mesh_rules import pods_must_be_admitted, requests_must_be_allowed
from meshproof.install.own_namespaces import PROBE_NAMESPACES, completed_namespaces
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.probes.answers import HttpAnswer
from meshproof.workloads.discovery_selectors import labels_for, matches, selected
from meshproof.workloads.namespaces import OWN, MeshWideSettings, make_namespaces, namespace_for_probes
from tests.install_fakes import FakeKube, fake_mesh, fake_of, three_clusters

ENABLED: Final = {"matchLabels": {"istio-discovery": "enabled"}}


def expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": [*values]} if values else {})}]}


# -- discovery selectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selectors", "labels"),
    [
        ([], {}),
        ([ENABLED], {"istio-discovery": "enabled"}),
        ([expression("team", "In", "mesh", "other")], {"team": "mesh"}),
        ([expression("team", "Exists")], {"team": "enabled"}),
        ([expression("team", "NotIn", "batch"), ENABLED], {}),
        ([expression("team", "DoesNotExist")], {}),
        ([expression("istio-injection", "In", "enabled"), ENABLED], {}),
        ([expression("istio-injection", "DoesNotExist"), ENABLED], {"istio-discovery": "enabled"}),
        ([ENABLED | expression("team", "NotIn", "batch")], {"istio-discovery": "enabled"}),
        (
            [{"matchExpressions": [*expression("team", "In", "a", "b")["matchExpressions"],
                                   *expression("team", "NotIn", "a")["matchExpressions"]]}],
            {"team": "b"},
        ),
        ([expression("kubernetes.io/metadata.name", "NotIn", "kube-system")], {}),
    ],
)  # fmt: skip
def test_a_namespace_gets_the_labels_that_one_selector_wants(selectors: list[Json], labels: dict[str, str]) -> None:
    injected = {"istio-injection": "enabled"}
    found = labels_for("meshproof-app", injected, {"cluster1": selectors})
    assert found == labels
    assert selected(selectors, {"kubernetes.io/metadata.name": "meshproof-app", **injected, **found})


def test_every_primary_that_reads_the_namespace_discovers_it() -> None:
    selectors = {"cluster1": [ENABLED], "cluster2": [expression("team", "Exists")], "cluster3": []}
    assert labels_for("meshproof-app", {}, selectors) == {"istio-discovery": "enabled", "team": "enabled"}
    contrary = {"cluster1": [expression("a", "Exists"), ENABLED], "cluster2": [expression("a", "DoesNotExist")]}
    assert labels_for("meshproof-app", {}, contrary) == {"istio-discovery": "enabled"}


def test_selectors_that_no_label_satisfies_are_named() -> None:
    by_name = expression("kubernetes.io/metadata.name", "In", "shop")
    with pytest.raises(BadInput) as problem:
        labels_for("meshproof-app", {"istio-injection": "enabled"}, {"cluster1": [by_name], "cluster2": [ENABLED]})
    assert str(problem.value) == (
        "namespace meshproof-app: with no label that meshproof may give it would istiod discover it:\n"
        f"  discoverySelectors of cluster1: {json.dumps(by_name)}\n"
        '  discoverySelectors of cluster2: {"matchLabels": {"istio-discovery": "enabled"}}\n'
        "  repair: let one of the mesh's discoverySelectors select meshproof-app"
    )


def test_a_selector_matches_as_in_kubernetes() -> None:
    assert matches({}, {})
    assert matches(expression("a", "NotIn", "x"), {}), "a label that is not there is not in"
    assert not matches(expression("a", "In", "x"), {})
    assert not matches(expression("a", "Unheard"), {"a": "x"})


# -- what the mesh sets for all ---------------------------------------------------------------------------------------


def mesh(topology: str = "multi-primary-multinet") -> Mesh:
    made = fake_mesh(load_topology(topology))
    for cluster in made.clusters:
        for manifest in namespaces(cluster.spec):
            fake_of(cluster).put(manifest)
    return made


def put(cluster: Cluster, kind: str, name: str, spec: Json, *, namespace: str = "istio-system", age: int = 0) -> None:
    item = istio(kind, name, namespace, spec)
    item["metadata"]["labels"] = {}
    item["metadata"]["creationTimestamp"] = f"2026-11-{30 - age}T00:00:00Z"
    fake_of(cluster).put(item)


def configure(cluster: Cluster, **config: Any) -> None:
    meta = {"name": "istio", "namespace": "istio-system"}
    fake_of(cluster).put({"kind": "ConfigMap", "metadata": meta, "data": {"mesh": yaml.safe_dump(config)}})


NARROW: Final = {"egress": [{"hosts": ["./*", "istio-system/*"]}]}


def objects_of(made: Mesh, number: int = 0, namespace: str = "meshproof-app", *, guarded: bool = False) -> list[Json]:
    return [*MeshWideSettings.of(made).objects(made.clusters[number], namespace, guarded=guarded)]


def test_a_mesh_without_such_settings_calls_for_nothing() -> None:
    """So that a policy or a Sidecar that somebody adds to our namespace is felt there."""
    made = mesh()
    put(made.clusters[0], "AuthorizationPolicy", "gateways", {"selector": {"matchLabels": {"istio": "ingress"}}})
    put(made.clusters[0], "Sidecar", "some", NARROW | {"workloadSelector": {"labels": {"app": "x"}}})
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {}, namespace="shop")
    put(made.clusters[0], "AuthorizationPolicy", "deny", {"action": "DENY", "rules": [{}]})
    assert objects_of(made) == []
    assert MeshWideSettings.of(made).denying == {"cluster1": ("istio-system/deny",)}


def test_a_default_sidecar_is_answered_by_one_that_hides_nothing() -> None:
    made = mesh()
    put(made.clusters[0], "Sidecar", "newer", {"egress": [{"hosts": ["~/*"]}]})
    put(made.clusters[0], "Sidecar", "default", NARROW | {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}, age=2)
    (own,) = objects_of(made)
    assert (own["kind"], own["metadata"]["name"], own["metadata"]["namespace"]) == ("Sidecar", OWN, "meshproof-app")
    assert own["spec"] == {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    assert objects_of(made, 1) == [], "only where it is set"


def test_a_policy_that_allows_nothing_is_answered_by_one_that_refuses_nobody() -> None:
    made = mesh()
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {})
    (own,) = objects_of(made)
    assert (own["kind"], own["spec"]) == ("AuthorizationPolicy", {"action": "ALLOW", "rules": [{}]})
    assert objects_of(made, guarded=True) == [], "the test bed's own policies must keep their meaning"


def test_the_root_namespace_may_be_another() -> None:
    made = mesh()
    configure(made.clusters[0], rootNamespace="mesh-root")
    put(made.clusters[0], "AuthorizationPolicy", "elsewhere", {})
    assert objects_of(made) == []
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {}, namespace="mesh-root")
    assert [own["kind"] for own in objects_of(made)] == ["AuthorizationPolicy"]


class Forbidding(FakeKube):
    """May read neither the mesh's configuration nor Istio's objects."""

    def _get(self, path: str, query: dict[str, str], _: object) -> Json:
        if path.endswith(("/configmaps/istio", "/sidecars", "/authorizationpolicies")):
            raise ApiError(f"GET {path}", 403, "forbidden")
        return super()._get(path, query, _)


def test_what_may_not_be_read_counts_as_not_set() -> None:
    made = mesh()
    object.__setattr__(made.clusters[0], "kube", Forbidding("cluster1"))
    assert objects_of(made) == []
    configure(made.clusters[1], discoverySelectors=[ENABLED])
    assert MeshWideSettings.of(made).selectors == {"cluster1": [], "cluster2": [ENABLED]}


def test_an_unreadable_mesh_configuration_counts_as_not_set() -> None:
    made = mesh()
    fake_of(made.clusters[0]).put(
        {"kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "a: ]"}}
    )
    assert MeshWideSettings.of(made).selectors["cluster1"] == []


# -- making one -------------------------------------------------------------------------------------------------------


class Creating(FakeKube):
    """Stores what is created."""

    def _post(self, path: str, query: dict[str, str], body: Any) -> Json:
        if query:
            return super()._post(path, query, body)
        self.put(body)
        return dict(body)


def creating(topology: str) -> Mesh:
    made = mesh(topology)
    for cluster in made.clusters:
        kube = Creating(cluster.name)
        kube.objects = fake_of(cluster).objects
        object.__setattr__(cluster, "kube", kube)
    return made


def own_in(cluster: Cluster, namespace: str) -> set[str]:
    return {key.rsplit("/", 2)[-2] for key in fake_of(cluster).objects if f"/{namespace}/" in key and OWN in key}


def test_a_namespace_for_probes_is_made_with_all_that_it_needs(tmp_path: Path) -> None:
    made = creating("primary-remote-multinet")
    primary, remote = made.clusters
    configure(primary, discoverySelectors=[ENABLED])
    put(primary, "AuthorizationPolicy", "nothing", {})
    put(primary, "Sidecar", "default", NARROW)
    make_namespaces(made, made.clusters, "meshproof-fresh-1")
    for cluster in made.clusters:
        labels = fake_of(cluster).objects["/api/v1/namespaces/meshproof-fresh-1"]["metadata"]["labels"]
        assert labels == {"istio-injection": "enabled", "istio-discovery": "enabled"}
    assert own_in(primary, "meshproof-fresh-1") == {"sidecars", "authorizationpolicies"}
    assert own_in(remote, "meshproof-fresh-1") == set(), "a remote's configuration is read by nobody"
    make_namespaces(made, made.clusters, "meshproof-testbed-1", guarded=True)
    assert own_in(primary, "meshproof-testbed-1") == {"sidecars"}


def test_without_an_injection_label_to_copy_none_is_made() -> None:
    made = mesh()
    fake_of(made.clusters[0]).put({"kind": "Namespace", "metadata": {"name": "meshproof-clients"}})
    with pytest.raises(Broken, match="namespace meshproof-clients on cluster1: it has no injection label"):
        namespace_for_probes(MeshWideSettings.of(made), made.clusters[0], "meshproof-fresh-1")


def test_services_and_routes_are_exported_whatever_the_default_is() -> None:
    made = service("mockshop", "meshproof-app", {"ports": []}, labels={"app": "mockshop"})
    assert made["metadata"]["annotations"] == {"networking.istio.io/exportTo": "*"}
    for kind in EXPORTED:
        assert istio(kind, "a", "b", {"host": "c"})["spec"] == {"host": "c", "exportTo": ["*"]}
    assert istio("DestinationRule", "a", "b", {"exportTo": ["."]})["spec"] == {"exportTo": ["."]}
    assert "exportTo" not in istio("Gateway", "a", "b", {"servers": []})["spec"]


# -- completing those that exist --------------------------------------------------------------------------------------


def merging(made: Mesh) -> Mesh:
    """Clusters that merge patches as an API server does."""

    class Merging(FakeKube):
        def _patch(self, path: str, query: dict[str, str], body: Any) -> Json:
            if query:
                return super()._patch(path, query, body)
            merged = copy.deepcopy(self.objects[path])
            _merge(merged, body)
            self.objects[path] = merged
            return merged

    for cluster in made.clusters:
        kube = Merging(cluster.name)
        kube.objects = fake_of(cluster).objects
        object.__setattr__(cluster, "kube", kube)
    return made


def _merge(into: Json, patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def state(made: Mesh) -> list[dict[str, Json]]:
    found = copy.deepcopy([fake_of(cluster).objects for cluster in made.clusters])
    for item in (item for objects in found for item in objects.values()):
        for key in ("annotations", "labels"):
            if not item["metadata"].get(key):
                item["metadata"].pop(key, None)
    return found


def completed(made: Mesh) -> Any:
    return completed_namespaces(made, MeshWideSettings.of(made), Silent())


def test_existing_namespaces_are_completed_for_a_run_and_left_as_they_were(tmp_path: Path) -> None:
    made = fake_mesh(three_clusters(tmp_path))
    for cluster in made.clusters:
        for manifest in namespaces(cluster.spec):
            fake_of(cluster).put(manifest)
    made = merging(made)
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {})
    configure(made.clusters[1], discoverySelectors=[ENABLED])
    before = state(made)
    with completed(made) as added:
        assert added
        for namespace in PROBE_NAMESPACES:
            assert [own_in(cluster, namespace) for cluster in made.clusters] == [
                {"authorizationpolicies"},
                set(),
                set(),
            ]
            for cluster in made.clusters:
                labels = fake_of(cluster).objects[f"/api/v1/namespaces/{namespace}"]["metadata"]["labels"]
                assert labels["istio-discovery"] == "enabled"
    assert state(made) == before


def test_what_somebody_has_put_into_our_namespace_counts() -> None:
    """As a fault in it does, on a mesh that calls for an exception, too."""
    made = merging(mesh())
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {})
    put(made.clusters[0], "AuthorizationPolicy", "nobody", {}, namespace=names.APP_NAMESPACE)
    put(made.clusters[0], "AuthorizationPolicy", "deny", {"action": "DENY"}, namespace=names.CLIENT_NAMESPACE)
    with completed(made):
        there = [own_in(made.clusters[0], namespace) for namespace in PROBE_NAMESPACES]
    assert there == [set(), {"authorizationpolicies"}, {"authorizationpolicies"}]


def test_where_nothing_is_needed_nothing_is_written() -> None:
    made = merging(mesh())
    with completed(made) as added:
        assert not added
    assert [fake_of(cluster).writes for cluster in made.clusters] == [[], []]


def test_what_a_killed_run_added_goes_with_the_next() -> None:
    made = merging(mesh())
    configure(made.clusters[0], discoverySelectors=[ENABLED])
    put(made.clusters[0], "Sidecar", "default", NARROW)
    before = state(made)
    killed = completed(made)
    killed.__enter__()
    assert state(made) != before
    with completed(made) as added:
        assert not added, "it is there already"
    assert state(made) == before


def test_what_a_namespace_got_when_it_was_made_stays() -> None:
    made = merging(mesh())
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {})
    for namespace in PROBE_NAMESPACES:
        for item in MeshWideSettings.of(made).objects(made.clusters[0], namespace):
            fake_of(made.clusters[0]).put(item)
    before = state(made)
    with completed(made) as added:
        assert not added
    assert state(made) == before


def test_what_a_killed_run_added_and_nothing_needs_any_more_goes_at_once() -> None:
    made = merging(mesh())
    put(made.clusters[0], "Sidecar", "default", NARROW)
    killed = completed(made)
    killed.__enter__()
    fake_of(made.clusters[0]).objects.pop(path_of("Sidecar", "istio-system", "default"))
    with completed(made) as added:
        assert not added
        assert [own_in(made.clusters[0], namespace) for namespace in PROBE_NAMESPACES] == [set(), set(), set()]


def test_a_namespace_of_somebody_else_is_not_touched() -> None:
    made = merging(mesh())
    for cluster in made.clusters:
        for name in PROBE_NAMESPACES:
            fake_of(cluster).put({"kind": "Namespace", "metadata": {"name": name, "labels": {"made-by": "hand"}}})
    put(made.clusters[0], "AuthorizationPolicy", "nothing", {})
    configure(made.clusters[0], discoverySelectors=[ENABLED])
    with completed(made) as added:
        assert not added
    assert [fake_of(cluster).writes for cluster in made.clusters] == [[], []]


def test_selectors_that_leave_an_existing_namespace_out_are_for_claims_to_judge() -> None:
    made = merging(mesh())
    configure(
        made.clusters[0],
        discoverySelectors=[expression("kubernetes.io/metadata.name", "NotIn", names.OUTSIDE_NAMESPACE)],
    )
    with completed(made) as added:
        assert not added


# -- rules that nothing answers ---------------------------------------------------------------------------------------

POLICY: Final = (
    "pods \"meshproof-dry-run\" is forbidden: ValidatingAdmissionPolicy 'no-clients' with binding 'no-clients' "
    "denied request: not here"
)


class Refusing(FakeKube):
    def _post(self, path: str, query: dict[str, str], body: Any) -> Json:
        if "meshproof-clients" in path or "meshproof-outside" in path:
            raise ApiError(f"POST {path}", 422, POLICY)
        return dict(body)


def test_a_rule_that_refuses_our_pods_is_told_once_with_its_name() -> None:
    made = mesh()
    cluster = made.clusters[0]
    object.__setattr__(cluster, "kube", Refusing("cluster1"))
    pods_must_be_admitted(made, cluster, [names.APP_NAMESPACE])
    with pytest.raises(BadInput) as problem:
        pods_must_be_admitted(made, cluster, PROBE_NAMESPACES)
    assert str(problem.value) == (
        "pods of meshproof-clients, meshproof-outside on cluster1: a rule of the cluster refuses them: "
        f"HTTP 422: {POLICY}\n"
        "  repair: exempt namespaces whose names begin with meshproof- from it; docs/attach.md, Admission"
    )


def test_policies_that_deny_our_requests_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mesh("primary-remote-multinet")
    put(made.clusters[0], "AuthorizationPolicy", "only-shop", {"action": "DENY", "rules": [{}]})
    for cluster in made.clusters:
        meta = {"name": "client-1", "namespace": names.CLIENT_NAMESPACE, "labels": {"app": "client"}}
        fake_of(cluster).put({"kind": "Pod", "metadata": meta, "spec": {"containers": []}, "status": {}})
    answers = [HttpAnswer(status=200, version="v1", seconds=0.1)]
    monkeypatch.setattr(mesh_rules, "ALLOWED_S", 0.2)
    monkeypatch.setattr(mesh_rules, "http_from_pod", lambda *_: answers)
    requests_must_be_allowed(made, MeshWideSettings.of(made))
    answers.append(HttpAnswer(status=403, version="", seconds=0.1))
    with pytest.raises(BadInput) as problem:
        requests_must_be_allowed(made, MeshWideSettings.of(made))
    assert str(problem.value).startswith(
        "requests from meshproof-clients to meshproof-app on cluster1: HTTP 403, and these AuthorizationPolicies deny "
        "or decide requests in all namespaces: istio-system/only-shop\n"
    )


def test_without_such_policies_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise AssertionError("no request is needed")

    monkeypatch.setattr(mesh_rules, "http_from_pod", ask)
    requests_must_be_allowed(mesh(), MeshWideSettings.of(mesh()))
