"""Faults that kill or remove components run by Kubernetes: possible on any cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from meshproof.clients.istio.istioctl import READER_ACCOUNT
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.istiod_replicas import LABELS as ISTIOD_LABELS
from meshproof.faults.istiod_replicas import await_gone, deployment_of
from meshproof.faults.transient import FaultContext, TransientFault, transient_fault
from meshproof.faults.undo import bare, reissue
from meshproof.install.steps import remote_secret_name
from meshproof.mesh import gateways
from meshproof.mesh.handles import Cluster
from meshproof.workloads.app import app_deployment_name

ISTIOD_PROGRAM: Final = "pilot-discovery"
Pair = tuple[Cluster, Cluster]
"""A cluster, and the primary whose istiod reads it."""


def kill_east_west(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Kill the pods of the east-west gateway; recovered when their replacements are ready."""
    gateway = cluster.spec.east_west
    pods = gateways.gateway_pods(cluster, gateway)
    return _kill_pods(fault_context, cluster, gateway.name, pods, "envoy", f"east-west gateway of {cluster} killed")


def kill_one_istiod(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Kill the oldest of several istiod pods: proxies are connected to it, and it is the leader."""
    oldest, *others = sorted(_pods(cluster, ISTIOD_LABELS), key=lambda pod: pod["metadata"]["creationTimestamp"])
    if not others:
        raise Broken(f"istiod of {cluster}", "it has only one replica", "scale it to two first")
    what = f"one of {1 + len(others)} istiods of {cluster} killed"
    return _kill_pods(fault_context, cluster, deployment_of(oldest), [oldest], ISTIOD_PROGRAM, what)


def crash_istiod(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """SIGKILL istiod's process; the kubelet restarts its container. Raises `Unavailable` outside the lab."""
    machine_control = fault_context.require_machine_control("killing a process of istiod")
    pods = _pods(cluster, ISTIOD_LABELS)

    def break_it() -> None:
        killed = sum(machine_control.kill_in_pod(cluster.name, pod["metadata"]["name"], ISTIOD_PROGRAM) for pod in pods)
        if not killed:
            raise Broken(f"istiod of {cluster}", f"no process {ISTIOD_PROGRAM} was found in its pods")
        before = {pod["metadata"]["name"]: _restarts(pod) for pod in pods}
        what = f"the kubelet on {cluster} has noticed that istiod was killed"
        eventually(lambda: _must_have_restarted(cluster, before), what=what, timeout_s=60.0, poll_s=0.2)

    undos = [(cluster, _ready(names.SYSTEM_NAMESPACE, name)) for name in sorted({deployment_of(pod) for pod in pods})]
    return transient_fault(fault_context, "crash_istiod", f"istiod of {cluster} killed", undos, break_it)


def remove_app(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Delete the demonstration service's Deployment in a cluster; undo restores it without waiting for its pods."""
    name = app_deployment_name(cluster.spec)
    original = cluster.kube.find("Deployment", name, names.APP_NAMESPACE)
    if original is None:
        raise Broken(
            f"Deployment {names.APP_NAMESPACE}/{name} on {cluster}", "it does not exist", "install the mesh again"
        )
    meta = {k: v for k, v in bare(original)["metadata"].items() if k != "annotations"}
    whole = bare(original) | {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta}

    def break_it() -> None:
        cluster.kube.delete("Deployment", name, names.APP_NAMESPACE)
        await_gone(cluster.kube, names.APP_NAMESPACE, f"app={names.APP_SERVICE}")

    undo = {"do": "put", "original": whole}
    return transient_fault(
        fault_context, "remove_app", f"application removed from {cluster}", [(cluster, undo)], break_it
    )


def remove_remote_secrets(fault_context: FaultContext, pairs: Sequence[Pair]) -> AbstractContextManager[TransientFault]:
    """Delete the remote secrets by which istiods read other clusters; undo creates them again."""

    def break_it() -> None:
        for read, reader in pairs:
            if not reader.kube.delete("Secret", remote_secret_name(read), names.SYSTEM_NAMESPACE):
                raise Broken(f"remote secret of {read} on {reader}", "it does not exist", "install the mesh again")

    return transient_fault(
        fault_context,
        "remove_remote_secrets",
        f"remote secrets of {_pairs_text(pairs)} removed",
        _reissues(pairs),
        break_it,
    )


def rotate_tokens(fault_context: FaultContext, pairs: Sequence[Pair]) -> AbstractContextManager[TransientFault]:
    """Revoke the tokens in remote secrets and replace them by new ones.

    Deleting a token's Secret revokes it (Kubernetes, Managing Service Accounts); istioctl creates another.
    """

    def break_it() -> None:
        for read in dict.fromkeys(read for read, _ in pairs):
            for name in reader_tokens(read):
                read.kube.delete("Secret", name, names.SYSTEM_NAMESPACE)
        for read, reader in pairs:
            reissue(fault_context.mesh, read, reader)

    return transient_fault(
        fault_context, "rotate_tokens", f"tokens for {_pairs_text(pairs)} rotated", _reissues(pairs), break_it
    )


TOKEN_TYPE: Final = "kubernetes.io/service-account-token"


def reader_tokens(cluster: Cluster) -> list[str]:
    """The Secrets with tokens of the service account that other clusters' istiods use to read this one."""
    return [
        secret["metadata"]["name"]
        for secret in cluster.kube.list("Secret", names.SYSTEM_NAMESPACE)
        if secret.get("type") == TOKEN_TYPE and _account(secret) == READER_ACCOUNT
    ]


def _account(secret: Json) -> str:
    return str((secret["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name", ""))


def _pairs_text(pairs: Sequence[Pair]) -> str:
    return ", ".join(f"{read} in {reader}" for read, reader in pairs)


def _reissues(pairs: Sequence[Pair]) -> list[tuple[Cluster, dict[str, object]]]:
    return [(reader, {"do": "reissue", "of": str(read.name)}) for read, reader in pairs]


def _kill_pods(
    fault_context: FaultContext, cluster: Cluster, deployment: str, pods: Sequence[Json], program: str, what: str
) -> AbstractContextManager[TransientFault]:
    """Delete pods without a grace period.

    In the lab their program is killed first; elsewhere the kubelet grants two seconds (`minimumGracePeriodInSeconds`).
    """
    if not pods:
        raise Broken(f"{deployment} of {cluster}", "it has no pods", "a fault needs a healthy mesh: install it")
    namespace = pods[0]["metadata"]["namespace"]

    def break_it() -> None:
        for pod in pods:
            name = pod["metadata"]["name"]
            if fault_context.machine_control is not None:
                fault_context.machine_control.kill_in_pod(cluster.name, name, program)
            cluster.kube.delete("Pod", name, namespace, grace_s=0)

    return transient_fault(fault_context, "kill_pods", what, [(cluster, _ready(namespace, deployment))], break_it)


def _ready(namespace: str, deployment: str) -> dict[str, object]:
    return {"do": "ready", "namespace": namespace, "name": deployment}


def _pods(cluster: Cluster, labels: str) -> list[Json]:
    return cluster.kube.list("Pod", names.SYSTEM_NAMESPACE, labels=labels)


def _restarts(pod: Json) -> int:
    return sum(int(c.get("restartCount", 0)) for c in (pod.get("status") or {}).get("containerStatuses") or [])


def _must_have_restarted(cluster: Cluster, before: Mapping[str, int]) -> None:
    after = {pod["metadata"]["name"]: _restarts(pod) for pod in _pods(cluster, ISTIOD_LABELS)}
    if same := [name for name, count in before.items() if after.get(name, count + 1) <= count]:
        raise NotYet(f"not restarted yet: {', '.join(same)}")
