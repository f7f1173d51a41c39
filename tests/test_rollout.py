"""When a Deployment is rolled out, and when waiting for that ends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from meshproof.clients.kubernetes import rollout
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.refusals import is_refused_for_good
from meshproof.clients.kubernetes.rollout import (
    bad_states,
    deployment_ready,
    pods_ready,
    refusal_of,
    rollout_problem,
    shortage,
)
from meshproof.core.errors import Broken, NotReady
from tests.install_fakes import FakeKube

ISTIOD = [("istio-system", "istiod")]
REFUSED = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: compute"}


def deployment(*, replicas: int = 2, generation: int = 1, **counts: int) -> Json:
    kinds = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {
        "kind": "Deployment",
        "metadata": {"name": "istiod", "namespace": "istio-system", "generation": generation},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "istiod"}}},
        "status": {"observedGeneration": 1, **dict.fromkeys(kinds, replicas), **counts},
    }


def pod(name: str, *, ready: bool = True, leaving: bool = False, **status: Any) -> Json:
    meta = {"name": name, "uid": f"uid-{name}", "namespace": "istio-system", "labels": {"app": "istiod"}}
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", [])]
    return {
        "kind": "Pod",
        "metadata": {**meta, "deletionTimestamp": "2026-11-30T20:00:00Z"} if leaving else meta,
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def unscheduled(name: str) -> Json:
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no memory"}
    return pod(name, ready=False, conditions=[why])


def crashing(name: str) -> Json:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    ended = {"reason": "OOMKilled", "exitCode": 137}
    container = {"name": "discovery", "state": {"waiting": waiting}, "lastState": {"terminated": ended}}
    return pod(name, ready=False, containerStatuses=[container])


def kube_with(*things: Json) -> FakeKube:
    kube = FakeKube("east")
    for thing in things:
        kube.put(thing)
    return kube


def wait(kube: FakeKube, *, timeout_s: float = 5, patient: bool = False) -> None:
    deployment_ready(kube, "istio-system", "istiod", timeout_s=timeout_s, patient=patient)


def test_a_deployment_is_rolled_out_when_every_replica_is() -> None:
    assert rollout_problem(deployment()) == ""
    assert rollout_problem(deployment(replicas=0)) == ""
    assert rollout_problem(None) == "it does not exist"
    assert rollout_problem(deployment(generation=2)) == "its controller has not observed its latest change"
    assert rollout_problem(deployment(updatedReplicas=1)) == "2 replicas: 1 updated, 2 ready, 2 available"
    assert rollout_problem(deployment(availableReplicas=0)) == "2 replicas: 2 updated, 2 ready, 0 available"
    assert (
        rollout_problem(deployment() | {"status": {"observedGeneration": 1}})
        == "2 replicas: 0 updated, 0 ready, 0 available"
    )


def test_pods_of_before_are_seen_where_the_status_is_not_enough() -> None:
    both = [pod("a"), pod("b")]
    assert rollout_problem(deployment(), both) == ""
    assert rollout_problem(deployment(), [*both, pod("c", leaving=True)]) == "2 of 2 pods ready, 3 exist"
    assert rollout_problem(deployment(), [pod("a"), pod("b", leaving=True)]) == "1 of 2 pods ready, 2 exist"
    assert rollout_problem(deployment(), [pod("a"), pod("b", ready=False)]) == "1 of 2 pods ready, 2 exist"
    assert rollout_problem(deployment(availableReplicas=1), both) == "2 replicas: 2 updated, 2 ready, 1 available"


def test_what_kubernetes_says_about_missing_pods_is_named() -> None:
    refused = deployment(replicas=1)
    refused["status"]["conditions"] = [REFUSED]
    assert shortage(refused, [unscheduled("a"), crashing("b")]) == (
        "; pods are not created: exceeded quota: compute"
        "; a is not scheduled: 0/1 nodes: no memory"
        "; b/discovery: CrashLoopBackOff: back-off 10s (before: OOMKilled, exit code 137)"
    )
    assert refusal_of({"conditions": [REFUSED | {"status": "False"}]}) == ""
    assert bad_states(deployment(), [pod("a")]) == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "SLICE_S", 0.05)
    monkeypatch.setattr(rollout, "PATIENCE_S", 0.1)
    monkeypatch.setattr(rollout, "SCHEDULING_S", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("bad", "words"), [(crashing("a"), "a/discovery: CrashLoopBackOff"), (unscheduled("a"), "a is not scheduled: 0/1")]
)
def test_a_state_that_lasts_ends_the_wait_unless_one_is_patient(bad: Json, words: str) -> None:
    kube = kube_with(deployment(replicas=1, readyReplicas=0), bad)
    with pytest.raises(NotReady, match=rf"^Deployment istio-system/istiod on east: {words}"):
        wait(kube)
    with pytest.raises(NotReady, match=rf"not within 0\.5 s; {words}.*\n  pod      a Running"):
        wait(kube, timeout_s=0.5, patient=True)


@pytest.mark.usefixtures("hasty")
def test_pods_that_are_refused_end_the_wait_with_the_reason() -> None:
    refused = deployment(replicas=1, readyReplicas=0)
    refused["status"]["conditions"] = [REFUSED]
    with pytest.raises(NotReady, match=r"on east: pods are not created: exceeded quota: compute\n  pod      none was"):
        wait(kube_with(refused))


VIOLATES = 'pods "istiod-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


@pytest.mark.parametrize(
    ("reason", "final"),
    [
        (VIOLATES, True),
        ("ValidatingAdmissionPolicy 'need-limits' with binding 'need-limits' denied request: set limits", True),
        ('admission webhook "validate.kyverno.svc-fail" denied the request: require-limits', True),
        ("pods is forbidden: failed quota: compute: must specify limits.cpu for: client", True),
        ("pods is forbidden: maximum cpu usage per Container is 500m, but limit is 1", True),
        ('Pod "x" is invalid: spec.containers: Required value', True),
        ("pods is forbidden: exceeded quota: compute, requested: pods=1", False),
        ('failed calling webhook "namespace.sidecar-injector.istio.io": connection refused', False),
        ("error looking up service account shop/default: serviceaccount not found", False),
    ],
)
def test_a_refusal_by_a_rule_is_final(reason: str, final: bool) -> None:
    assert is_refused_for_good(reason) is final


def pulling(message: str, reason: str = "ErrImagePull") -> Json:
    container = {"name": "discovery", "state": {"waiting": {"reason": reason, "message": message}}}
    return pod("a", ready=False, containerStatuses=[container])


@pytest.mark.parametrize(
    ("message", "final"),
    [
        ('failed to resolve reference "r.example/x:1": r.example/x:1: not found', True),
        ("pull access denied, repository does not exist or may require authorization", True),
        ("failed to fetch anonymous token: 401 Unauthorized", True),
        ("dial tcp 192.0.2.1:443: i/o timeout", False),
        ("unexpected status: 503 Service Unavailable", False),
    ],
)
def test_an_image_that_does_not_exist_is_final(message: str, final: bool) -> None:
    (state,) = bad_states(None, [pulling(message)])
    assert (state.patience_s == 0, state.hopeless) == (final, False)


def test_a_final_refusal_ends_the_wait_at_once_but_not_after_a_fault() -> None:
    """When a fault is undone the condition still says what it caused, until the controller tries again."""
    refused = deployment(replicas=1, readyReplicas=0)
    refused["status"]["conditions"] = [REFUSED | {"message": VIOLATES}]
    begin = time.monotonic()
    with pytest.raises(NotReady, match=r"on east: pods are not created: pods .* violates PodSecurity"):
        wait(kube_with(refused), timeout_s=30)
    assert time.monotonic() - begin < 2
    with pytest.raises(NotReady, match=r"not within 0\.5 s; pods are not created"):
        wait(kube_with(refused), timeout_s=0.5, patient=True)


def test_what_is_hopeless_ends_every_wait_at_once() -> None:
    hopeless = pulling("invalid", reason="InvalidImageName")
    with pytest.raises(NotReady, match=r"on east: a/discovery: InvalidImageName"):
        wait(kube_with(deployment(replicas=1, readyReplicas=0), hopeless), timeout_s=30, patient=True)


@pytest.mark.usefixtures("hasty")
def test_an_autoscaler_gets_its_time() -> None:
    event = {"kind": "Event", "metadata": {"name": "a.1", "namespace": "istio-system"}, "type": "Normal"}
    event |= {"reason": "TriggeredScaleUp", "involvedObject": {"name": "a"}}
    with pytest.raises(NotReady, match=r"not within 0\.6 s; a is not scheduled"):
        wait(kube_with(deployment(replicas=1, readyReplicas=0), unscheduled("a"), event), timeout_s=0.6)


def test_deleted_pods_are_waited_for_until_others_are_ready() -> None:
    one = deployment(replicas=1)
    old = {"uid-old"}
    pods_ready(kube_with(one, pod("old", leaving=True), pod("new")), ISTIOD, what="x", timeout_s=1, old=old)
    with pytest.raises(NotReady, match=r"istio-system/istiod: 0 of 1 pods ready, 0 exist"):
        pods_ready(kube_with(one, pod("old")), ISTIOD, what="x", timeout_s=0.3, old=old)
    with pytest.raises(NotReady, match=r"0 of 1 pods ready, 1 exist; a/discovery: CrashLoopBackOff"):
        pods_ready(kube_with(one, crashing("a")), ISTIOD, what="x", timeout_s=0.3)
    with pytest.raises(Broken, match="Deployment istio-system/istiod on east: does not exist"):
        pods_ready(kube_with(), ISTIOD, what="x", timeout_s=1)
