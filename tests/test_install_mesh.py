"""Whole installs and uninstalls on clusters that are dictionaries: evidence, repetition, what is left."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import ApiError
from meshproof.clients.kubernetes.rollout import bad_states, deployment_ready, load_balancer_address, pod_line, until
from meshproof.core.errors import Aborted, Broken, NotReady
from meshproof.core.model import ClusterName
from meshproof.core.progress import Silent
from meshproof.core.topology import available, load_topology
from meshproof.install.ca import bundle_of_secret, ca_bundles, cacerts_secret, consistency_problems
from meshproof.install.executor import run_plan, undo_of
from meshproof.install.injection import InjectorState, Refused, new_pod, wait_for_injection
from meshproof.install.plan import plan_for
from meshproof.install.removal import is_istio, leftovers, remove_namespaces
from meshproof.mesh.handles import Mesh
from meshproof.pki.issue import make_root, plugin_ca
from meshproof.probes.admission import DryRun
from tests.install_fakes import FakeBuild, FakeKube, fake_mesh, fake_of, three_clusters

CACERTS = "/api/v1/namespaces/istio-system/secrets/cacerts"


def install(mesh: Mesh) -> FakeBuild:
    build = FakeBuild(mesh)
    run_plan(plan_for(mesh, build), Silent(), aborted=build.aborted)
    return build


@pytest.mark.parametrize("name", available())
def test_an_install_runs_through_and_an_uninstall_leaves_nothing(name: str) -> None:
    mesh = fake_mesh(load_topology(name))
    at_first = [set(fake_of(cluster).objects) for cluster in mesh.clusters]
    build = install(mesh)
    assert any("ClusterRole istio-reader" in text for text in leftovers(mesh))
    run_plan(undo_of(plan_for(mesh, build)), Silent())
    assert leftovers(mesh) == []
    assert [set(fake_of(cluster).objects) for cluster in mesh.clusters] == at_first


def test_what_a_remote_was_like_before_and_after_is_kept(tmp_path: Path) -> None:
    (evidence,) = install(fake_mesh(three_clusters(tmp_path))).evidence()
    assert evidence.cluster == "edge"
    assert not evidence.secret_was_there
    assert evidence.before.ca_bundles == ()
    assert evidence.before.pod is DryRun.REFUSED
    assert "unknown authority" in evidence.before.words
    assert evidence.after == InjectorState(ca_bundles=("cm9vdA==",), pod=DryRun.ACCEPTED)


def test_the_remote_dials_the_address_of_its_primarys_gateway() -> None:
    mesh = fake_mesh(load_topology("primary-remote-samenet"))
    build = install(mesh)
    service = mesh.cluster("cluster1").kube.find("Service", "istio-eastwestgateway", "istio-system")
    values = build.operators["cluster2"]["spec"]["values"]
    assert values["global"]["remotePilotAddress"] == load_balancer_address(service)


def test_a_second_install_keeps_the_certificates_and_says_that_the_secret_was_there() -> None:
    mesh = fake_mesh(load_topology("primary-remote-multinet"))
    install(mesh)
    kept = [fake_of(cluster).objects[CACERTS]["data"] for cluster in mesh.clusters]
    (evidence,) = install(mesh).evidence()
    assert [fake_of(cluster).objects[CACERTS]["data"] for cluster in mesh.clusters] == kept
    assert evidence.secret_was_there


# -- certificates -----------------------------------------------------------------------------------------------------


def test_new_bundles_share_a_root() -> None:
    bundles = ca_bundles(fake_mesh(load_topology("multi-primary-samenet")))
    assert set(bundles) == {"cluster1", "cluster2"}
    assert consistency_problems(bundles) == []
    restored = bundle_of_secret(cacerts_secret(bundles[ClusterName("cluster1")]))
    assert restored == bundles[ClusterName("cluster1")]


def test_different_roots_under_a_running_istiod_are_refused() -> None:
    mesh = fake_mesh(load_topology("multi-primary-samenet"))
    install(mesh)
    mesh.cluster("cluster2").kube.apply(cacerts_secret(plugin_ca(make_root(), "cluster2")))
    with pytest.raises(
        Broken, match=r"different roots: cluster1 .*; cluster2 .*, and istiod is already installed in cluster1"
    ):
        ca_bundles(mesh)


def test_half_made_certificates_are_made_again_while_no_istiod_runs() -> None:
    mesh = fake_mesh(load_topology("multi-primary-samenet"))
    alone = plugin_ca(make_root(), "cluster1")
    mesh.cluster("cluster1").kube.apply(cacerts_secret(alone))
    bundles = ca_bundles(mesh)
    assert bundles[ClusterName("cluster1")] != alone
    assert consistency_problems(bundles) == []


# -- waiting ----------------------------------------------------------------------------------------------------------


def stuck_kube(reason: str) -> FakeKube:
    kube = FakeKube("east")
    kube.put(
        {
            "kind": "Deployment",
            "metadata": {"name": "istiod", "namespace": "istio-system", "generation": 2},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "istiod"}}},
            "status": {"observedGeneration": 1},
        }
    )
    state = {"waiting": {"reason": reason, "message": "couldn't parse image name"}}
    kube.put(
        {
            "kind": "Pod",
            "metadata": {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}},
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"name": "discovery", "ready": False, "state": state}],
            },
        }
    )
    kube.put(
        {
            "kind": "Event",
            "metadata": {"name": "istiod-1.1", "namespace": "istio-system"},
            "type": "Warning",
            "reason": "InspectFailed",
            "message": "Failed to apply default image tag",
            "involvedObject": {"name": "istiod-1"},
        }
    )
    return kube


def test_a_hopeless_pod_ends_the_wait_at_once_and_is_shown() -> None:
    with pytest.raises(NotReady) as caught:
        deployment_ready(
            stuck_kube("InvalidImageName"), "istio-system", "istiod", timeout_s=600, aborted=threading.Event()
        )
    assert str(caught.value) == (
        "Deployment istio-system/istiod on east: istiod-1/discovery: InvalidImageName: couldn't parse image name\n"
        "  pod      istiod-1 Pending: discovery waiting (InvalidImageName)\n"
        "  warning  istiod-1: InspectFailed: Failed to apply default image tag"
    )


def test_a_state_that_may_get_better_is_put_up_with_until_the_deadline() -> None:
    with pytest.raises(NotReady, match=r"not within 0\.05 s") as caught:
        deployment_ready(
            stuck_kube("ErrImagePull"), "istio-system", "istiod", timeout_s=0.05, aborted=threading.Event()
        )
    assert "istiod-1 Pending: discovery waiting (ErrImagePull)" in str(caught.value)


def test_refused_pods_are_a_bad_state() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "failed calling webhook"}
    (found,) = bad_states({"status": {"conditions": [condition]}}, [])
    assert found.text == "pods are not created: failed calling webhook"
    assert found.patience_s > 0


def test_a_wait_gives_up_when_another_step_has_failed() -> None:
    aborted = threading.Event()
    aborted.set()
    with pytest.raises(Aborted):
        until(FakeKube("east"), "Service", "x", "y", lambda _: None, what="x", timeout_s=600, aborted=aborted)


def test_a_pod_without_containers_can_be_told() -> None:
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Pending"}}
    assert pod_line(pod) == "p Pending: no container yet"


def test_a_load_balancer_may_be_a_name() -> None:
    assert (
        load_balancer_address({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}) == "lb.example"
    )
    assert load_balancer_address({"status": {"loadBalancer": {}}}) is None
    assert load_balancer_address(None) is None


# -- injection and removal --------------------------------------------------------------------------------------------


def test_a_cluster_without_webhooks_does_not_count_as_refusing() -> None:
    class Plain(FakeKube):
        def _post(self, path: str, query: dict[str, str], body: object) -> dict[str, object]:
            metadata = {"name": "probe", "namespace": "meshproof"}
            return {"metadata": metadata, "spec": {"containers": [{"name": "probe"}]}}

    assert new_pod(Plain("east")) == (DryRun.BARE, "")


def test_a_rule_that_refuses_pods_ends_the_wait_for_injection_at_once(tmp_path: Path) -> None:
    class Refusing(FakeKube):
        def _post(self, path: str, query: dict[str, str], body: object) -> dict[str, object]:
            raise ApiError(f"POST {path}", 422, "ValidatingAdmissionPolicy 'none' denied request: no")

    mesh = fake_mesh(three_clusters(tmp_path))
    install(mesh)
    kube = Refusing("east")
    kube.objects = fake_of(mesh.clusters[0]).objects
    begin = time.monotonic()
    with pytest.raises(Refused, match=r"a new pod in meshproof-clients on east: HTTP 422: .*Policy 'none'"):
        wait_for_injection(kube, ("meshproof-clients",), timeout_s=30, aborted=threading.Event())
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("kind", "name", "labels", "ours"),
    [
        ("ClusterRole", "istiod-clusterrole-istio-system", {}, True),
        ("ClusterRole", "istio-reader-clusterrole-istio-system", {}, True),
        ("ClusterRole", "system:node", {}, False),
        ("ClusterRole", "view-istio", {}, False),
        ("ClusterRole", "anything", {"operator.istio.io/component": "Pilot"}, True),
        ("CustomResourceDefinition", "gateways.networking.istio.io", {}, True),
        ("CustomResourceDefinition", "gateways.gateway.networking.k8s.io", {}, False),
        ("ValidatingWebhookConfiguration", "istiod-default-validator", {}, True),
    ],
)
def test_what_belongs_to_istio(kind: str, name: str, labels: dict[str, str], ours: bool) -> None:
    assert is_istio(kind, {"name": name, "labels": labels}) is ours


def test_namespaces_go_first_and_their_pods_without_grace() -> None:
    kube = FakeKube("east")
    kube.put({"kind": "Namespace", "metadata": {"name": "istio-system"}})
    remove_namespaces(kube, aborted=threading.Event())
    assert kube.writes[0] == "DELETE /api/v1/namespaces/istio-system"
    assert "DELETE /api/v1/namespaces/istio-system/pods" in kube.writes
