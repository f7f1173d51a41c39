"""Stopping a control plane."""

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
    """Scale every istiod Deployment of a cluster to zero; gone when no pod is left, back when all are available.

    Raises `Broken` if it was not running, and `NotReady` if it does not come back.
    """
    replicas = running_replicas(cluster)

    def inject_it() -> None:
        scale_to_zero(cluster.kube, replicas)

    undo = {"do": "scale", "replicas": replicas}
    return transient_fault(fault_context, STOP_ISTIOD, f"istiod of {cluster} stopped", [(cluster, undo)], inject_it)


def two_replicas(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Not a fault but a precaution: two replicas of each istiod Deployment, for a while.

    Raises `ClaimFailed` if the second does not get ready: a mesh that cannot have it is not as available as it seems.
    """
    replicas = running_replicas(cluster)
    undo = {"do": "scale", "replicas": replicas}
    what = f"istiod of {cluster} with two replicas"

    def inject_it() -> None:
        try:
            start_istiod(cluster.kube, dict.fromkeys(replicas, 2))
        except NotReady as problem:
            raise ClaimFailed(
                f"a second replica of istiod on {cluster} does not get ready\n  last seen   {problem}"
            ) from None

    return transient_fault(fault_context, "two_replicas", what, [(cluster, undo)], inject_it)
