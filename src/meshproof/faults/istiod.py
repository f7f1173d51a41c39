"""Faults that stop or scale a control plane."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from meshproof.core.errors import ClaimFailed, NotReady
from meshproof.faults.istiod_replicas import (
    running_replicas,
    scale_to_zero,
    start_istiod,
)
from meshproof.faults.transient import FaultContext, TransientFault, transient_fault
from meshproof.mesh.handles import Cluster

STOP_ISTIOD: Final = "stop_istiod"


def stop_istiod(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Scale every istiod Deployment of a cluster to zero: in effect when no pod is left, undone when all are available.

    Raises `Broken` if istiod was not running, and `NotReady` if it does not become available again.
    """
    replicas = running_replicas(cluster)

    def break_it() -> None:
        scale_to_zero(cluster.kube, replicas)

    undo = {"do": "scale", "replicas": replicas}
    return transient_fault(fault_context, STOP_ISTIOD, f"istiod of {cluster} stopped", [(cluster, undo)], break_it)


def two_replicas(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Preparation of a drill: two replicas of each istiod Deployment, for the duration of the block.

    Raises `ClaimFailed` if the second replica does not get ready: the mesh is then less available than intended.
    """
    replicas = running_replicas(cluster)
    undo = {"do": "scale", "replicas": replicas}
    what = f"istiod of {cluster} with two replicas"

    def break_it() -> None:
        try:
            start_istiod(cluster.kube, dict.fromkeys(replicas, 2))
        except NotReady as problem:
            raise ClaimFailed(f"istiod on {cluster} cannot scale to two replicas\n  last seen   {problem}") from None

    return transient_fault(fault_context, "two_replicas", what, [(cluster, undo)], break_it)
