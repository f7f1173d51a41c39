"""Which clusters a drill chooses, one after the other."""

from __future__ import annotations

from meshproof.failover.drill import Ward
from meshproof.mesh.handles import Cluster


def one_of_each_role(ward: Ward) -> tuple[Cluster, ...]:
    """A primary, and a remote if there is one."""
    return (ward.mesh.primaries[0], *ward.mesh.remotes[:1])


def exposing(ward: Ward) -> list[Cluster]:
    """Those that other networks reach through an east-west gateway."""
    return [cluster for cluster in ward.mesh.clusters if ward.mesh.topology.exposes_services(cluster.spec)]
