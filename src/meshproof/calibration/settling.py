"""A changed mesh settles: all is ready and in sync, and no proxy closes connections because of the change later on."""

from __future__ import annotations

from typing import Final

from meshproof.clients.kubernetes.rollout import pods_ready
from meshproof.core.concurrency import together
from meshproof.core.waiting import pause
from meshproof.health.draining import DrainingProxy, draining_proxies
from meshproof.health.mesh import must_be_healthy
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot

RESTART_S: Final = 120.0
ARRIVES_S: Final = 3.0
"""Until istiod has seen the last change, waited 0.1 s for more (PILOT_DEBOUNCE_AFTER) and pushed; only then do proxies
that are in sync have it."""


def settle(mesh: Mesh) -> None:
    """Return when all pods are ready, all proxies are in sync, and none drains listeners.

    Whether the demonstration service responds is not asked: the mesh may have none, and claims judge that.

    A proxy that drains listeners would close their connections up to 45 s later, in the middle of a run that judges
    something else; so its pod is replaced, which takes a few seconds. Nobody does that to a mesh before a run; but on
    such a mesh the setting is not a few seconds old.
    """
    pause(ARRIVES_S)
    must_be_healthy(mesh, probes=False)
    draining = draining_proxies(Snapshot.take(mesh))
    if draining:
        together(_replace, draining)
        _await_new_pods(mesh, draining)
        must_be_healthy(mesh, probes=False)


def _replace(proxy: DrainingProxy) -> None:
    proxy.cluster.kube.delete("Pod", proxy.pod.name, proxy.pod.namespace, grace_s=0)


def _await_new_pods(mesh: Mesh, replaced: tuple[DrainingProxy, ...]) -> None:
    for cluster in mesh.clusters:
        spaces = {each.pod.namespace for each in replaced if each.cluster is cluster}
        deployments = [
            (space, str(found["metadata"]["name"]))
            for space in sorted(spaces)
            for found in cluster.kube.list("Deployment", space)
        ]
        if deployments:
            pods_ready(
                cluster.kube, deployments, what=f"new pods of draining proxies on {cluster}", timeout_s=RESTART_S
            )
