"""Every pod of ours: limits, and a security context that strict clusters accept."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

import meshproof
from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.clients.kubernetes.pods import SIDECAR, dry_run_pod, pod_spec, sidecar_annotations
from meshproof.core import names
from meshproof.core.topology import load_topology
from meshproof.failover import capabilities, istiod_outage
from meshproof.install.mesh_rules import _pod_of
from meshproof.mesh.handles import Mesh
from meshproof.upgrade.rehearsal.long_lived_clients import LongLivedClients
from meshproof.workloads import pod_settings, short_lived_clients
from meshproof.workloads.app import app_manifests, client_manifest
from meshproof.workloads.pod_settings import PodSettings, tolerations_for
from meshproof.workloads.testbed import lifecycle
from tests.install_fakes import FakeKube, fake_mesh, fake_of
from tests.pod_security import restricted_problems

TOP: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = Path(meshproof.__file__).parent
OTHERS: Final = {
    "clients/kubernetes/pods.py": "the builder",
    "install/gateways.py": "gateways of a mesh that we install: part of the mesh",
    "providers/lab/node/coredns.py": "the lab's own CoreDNS",
    "calibration/variants/admission.py": "a request by which a variant sees its policy at work: never a pod",
    "probes/istiod_api.py": "a review sent to istiod: never a pod",
}
"""Where pod specs may be written by hand."""


def mesh() -> Mesh:
    return fake_mesh(load_topology("multi-primary-multinet"))


def manifests() -> Iterator[Json]:
    """Every Pod and Deployment that we create."""
    made = mesh()
    cluster = made.clusters[0]
    yield from (m for m in app_manifests(cluster.spec, "app:1") if m["kind"] == "Deployment")
    yield client_manifest(names.CLIENT_NAMESPACE, "client:1")
    yield client_manifest(names.OUTSIDE_NAMESPACE, "client:1")
    yield lifecycle._pod(cluster, "meshproof-testbed-1", {"app": "app:1", "client": "client:1"})
    yield short_lived_clients._pod("meshproof-fresh-1", "client:1")
    yield capabilities._pod("meshproof-fresh-1", "app:1")
    yield istiod_outage._waiting_deployment("client:1")
    yield LongLivedClients(made).manifest("meshproof-long-lived-1")
    yield dry_run_pod("probe", names.CLIENT_NAMESPACE, {"name": "probe", "image": "probe"})


def pod_of(manifest: Json) -> Json:
    found: Json = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
    return found


def named(manifest: Json) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", list(manifests()), ids=named)
def test_every_pod_is_accepted_by_restricted_and_has_limits(manifest: Json) -> None:
    for settings in (PodSettings(), PodSettings(user=None), None):
        spec = pod_of(settings.applied_to(manifest) if settings else manifest)["spec"]
        assert restricted_problems(spec) == []
        for container in spec["containers"]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


def test_the_job_that_runs_meshproof_is_accepted_too() -> None:
    job = yaml.safe_load((TOP / "deploy" / "job.yaml").read_text())["spec"]["template"]["spec"]
    plugin = {"containers": [yaml.safe_load((TOP / "deploy" / "sonobuoy-plugin.yaml").read_text())["spec"]]}
    for spec in (job, plugin):
        assert restricted_problems(spec) == []
        for container in spec["containers"]:
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() == {"cpu", "memory"}


def test_the_rules_find_a_pod_that_forgets_them() -> None:
    plain = {"containers": [{"name": "client", "image": "client:1"}]}
    assert restricted_problems(plain) == [
        "client: privilege escalation is allowed",
        "client: it does not drop all capabilities",
        "client: it may run as root",
        "client: it has no seccomp profile",
    ]
    risky = pod_spec([{"name": "client", "ports": [{"hostPort": 80}]}], grace_s=0, hostNetwork=True)
    risky["volumes"] = [{"name": "root", "hostPath": {"path": "/"}}]
    assert restricted_problems(risky) == [
        "hostNetwork is set",
        "volume root is a hostPath",
        "client: it has a host port",
    ]


def test_nobody_writes_a_pod_spec_by_hand() -> None:
    """A new pod comes from `pod_spec`, and is listed above."""
    writers = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if _writes_containers(ast.parse(p.read_text()))}
    assert writers == OTHERS.keys()


def _writes_containers(tree: ast.Module) -> bool:
    keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    return any(isinstance(key, ast.Constant) and key.value == "containers" for key in keys)


def test_every_pod_spec_is_in_the_list_above() -> None:
    callers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "pod_spec"
    }
    assert callers == {
        "clients/kubernetes/pods.py",
        "failover/capabilities.py",
        "failover/istiod_outage.py",
        "upgrade/rehearsal/long_lived_clients.py",
        "workloads/app.py",
        "workloads/short_lived_clients.py",
        "workloads/testbed/lifecycle.py",
    }


def test_the_pod_outside_the_mesh_is_never_injected() -> None:
    inject = "sidecar.istio.io/inject"
    outside = pod_of(client_manifest(names.OUTSIDE_NAMESPACE, "client:1"))["metadata"]["labels"]
    inside = pod_of(client_manifest(names.CLIENT_NAMESPACE, "client:1"))["metadata"]["labels"]
    assert (outside[inject], inject in inside) == ("false", False)


# -- what depends on the cluster --------------------------------------------------------------------------------------


def with_proxy_resources(made: Mesh, resources: object) -> None:
    values = json.dumps({"global": {"proxy": {"resources": resources}}})
    meta = {"name": "istio-sidecar-injector", "namespace": "istio-system"}
    fake_of(made.clusters[0]).put({"kind": "ConfigMap", "metadata": meta, "data": {"values": values}})


FULL: Final = {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}


def test_the_sidecar_keeps_the_resources_of_the_mesh() -> None:
    made = mesh()
    with_proxy_resources(made, FULL)
    assert PodSettings.of(made, made.clusters[0]).sidecar == {}


def test_a_sidecar_without_limits_gets_them_and_keeps_its_requests() -> None:
    made = mesh()
    with_proxy_resources(made, {"requests": FULL["requests"], "limits": None})
    assert PodSettings.of(made, made.clusters[0]).sidecar == {
        "sidecar.istio.io/proxyCPU": "10m",
        "sidecar.istio.io/proxyMemory": "40Mi",
        "sidecar.istio.io/proxyCPULimit": "2",
        "sidecar.istio.io/proxyMemoryLimit": "1Gi",
    }
    assert sidecar_annotations({}).keys() == {annotation for annotation, _ in SIDECAR.values()}


def test_a_remote_has_the_sidecar_of_its_primary() -> None:
    made = fake_mesh(load_topology("primary-remote-multinet"))
    with_proxy_resources(made, {})
    assert PodSettings.of(made, made.clusters[1]).sidecar != {}


def test_annotations_of_a_pod_stay_and_a_pod_without_sidecar_gets_none() -> None:
    settings = PodSettings(sidecar=sidecar_annotations({}))
    pod = settings.applied_to(lifecycle._pod(mesh().clusters[0], "meshproof-testbed-1", {"app": "a", "client": "c"}))
    assert {"proxy.istio.io/config", "sidecar.istio.io/proxyCPULimit"} <= pod["metadata"]["annotations"].keys()
    outside = settings.applied_to(client_manifest(names.OUTSIDE_NAMESPACE, "client:1"))
    assert "annotations" not in pod_of(outside)["metadata"]


def test_openshift_chooses_the_user() -> None:
    made = mesh()
    cluster = made.clusters[0]
    assert PodSettings.of(made, cluster).user == pod_settings.USER
    annotations = {"openshift.io/sa.scc.uid-range": "1000650000/10000"}
    fake_of(cluster).put({"kind": "Namespace", "metadata": {"name": "default", "annotations": annotations}})
    settings = PodSettings.of(made, cluster)
    assert settings.user is None
    spec = pod_of(settings.applied_to(client_manifest(names.CLIENT_NAMESPACE, "client:1")))["spec"]
    assert "runAsUser" not in str(spec)


def node(*taints: tuple[str, str]) -> Json:
    return {"spec": {"taints": [{"key": key, "effect": effect} for key, effect in taints]}}


def test_taints_are_tolerated_only_where_every_node_has_one() -> None:
    dedicated, control = ("dedicated", "NoSchedule"), ("node-role.kubernetes.io/control-plane", "NoSchedule")
    assert tolerations_for([]) == []
    assert tolerations_for([node(dedicated), node()]) == []
    assert tolerations_for([node(dedicated), node(("soft", "PreferNoSchedule"))]) == []
    assert tolerations_for([node(dedicated), node(control), node(dedicated)]) == [
        {"key": key, "operator": "Exists", "effect": effect} for key, effect in (dedicated, control)
    ]


class Paged(FakeKube):
    """Has two pages of nodes, and a free one on the second."""

    def _get(self, path: str, query: dict[str, str], _: object) -> Json:
        if path != "/api/v1/nodes":
            return super()._get(path, query, _)
        if "continue" in query:
            return {"items": [node(("dedicated", "NoSchedule")), node()], "metadata": {}}
        return {"items": [node(("dedicated", "NoSchedule"))], "metadata": {"continue": "next"}}


def test_nodes_are_read_in_pages() -> None:
    made = mesh()
    object.__setattr__(made.clusters[0], "kube", Paged("cluster1"))
    assert PodSettings.of(made, made.clusters[0]).tolerations == ()


def test_a_node_that_is_down_is_never_tolerated() -> None:
    down = (("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unschedulable", "NoSchedule"))
    assert tolerations_for([node(*down)]) == []


class Forbidding(FakeKube):
    """May not list nodes, nor read the injector's values."""

    def _get(self, path: str, query: dict[str, str], _: object) -> Json:
        if path.endswith(("/nodes", "/istio-sidecar-injector")):
            raise ApiError(f"GET {path}", 403, "forbidden")
        return super()._get(path, query, _)


def test_what_may_not_be_read_is_not_set() -> None:
    made = mesh()
    object.__setattr__(made.clusters[0], "kube", Forbidding("cluster1"))
    assert PodSettings.of(made, made.clusters[0]) == PodSettings()


def test_a_dry_run_of_a_deployment_is_its_pod() -> None:
    (deployment,) = (m for m in app_manifests(mesh().clusters[0].spec, "app:1") if m["kind"] == "Deployment")
    pod = _pod_of(deployment)
    assert (pod["kind"], pod["metadata"]["namespace"]) == ("Pod", names.APP_NAMESPACE)
    assert pod["spec"]["containers"] == deployment["spec"]["template"]["spec"]["containers"]
    assert "serviceAccountName" not in pod["spec"]
