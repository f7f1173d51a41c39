"""To which pods the name of a headless service resolves."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.go_booleans import is_false
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.dns import resolve_from_pod
from meshproof.workloads.canary_service import canary_fqdn
from meshproof.workloads.testbed.lifecycle import FreshPods


def resolve_headless(
    snapshot: Snapshot, fresh_pods: FreshPods, viewer: Cluster, name: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Addresses for a new pod with DNS capture in `viewer`, after waiting for them, and for a pod without a sidecar."""
    captured: tuple[str, ...] = ()
    pod = fresh_pods.of(viewer)

    def check() -> None:
        nonlocal captured
        captured = resolve_from_pod(viewer.kube, pod, canary_fqdn(name))
        if problems := headless_problems(snapshot, viewer, captured):
            raise NotYet("; ".join(problems))

    with suppress(ClaimFailed):  # judged by the caller
        eventually(check, what=canary_fqdn(name), timeout_s=DEADLINES.canary_s, error=ClaimFailed)
    return captured, resolve_from_pod(viewer.kube, snapshot.of(viewer).outside, canary_fqdn(name))


SWITCH: Final = "ENABLE_MULTICLUSTER_HEADLESS"


def spans_clusters(snapshot: Snapshot, viewer: Cluster) -> bool:
    """Whether the istiod of a client's cluster has headless services span clusters, as it does by default."""
    istiods = snapshot.of(snapshot.mesh.control_plane_of(viewer)).istiods
    return not any(is_false(pod.istiod_env.get(SWITCH, "")) for pod in istiods)


def headless_problems(snapshot: Snapshot, viewer: Cluster, resolved: Iterable[str]) -> list[str]:
    """What is wrong with the addresses of a headless service that has the client pod of every cluster for endpoints."""
    mesh = snapshot.mesh
    near = {
        snapshot.of(c).client.address: c
        for c in mesh.clusters
        if c is viewer or (spans_clusters(snapshot, viewer) and not mesh.crosses_network(viewer, c))
    }
    spans = spans_clusters(snapshot, viewer)
    why = "which is not on the client's network" if spans else f"although {SWITCH} is false"
    owners = {snapshot.of(c).client.address: c for c in mesh.clusters}
    addresses = sorted(resolved)
    problems = [f"lacks {address} of {c}" for address, c in near.items() if address not in addresses]
    return problems + [
        f"has {address} of {owners.get(address, 'an unknown owner')}, {why}"
        for address in addresses
        if address not in near
    ]
