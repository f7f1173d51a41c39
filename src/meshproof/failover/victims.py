"""Which clusters a drill breaks, one after the other."""

from __future__ import annotations

from meshproof.failover.drill import DrillRunner
from meshproof.mesh.handles import Cluster


def one_of_each_role(drill_runner: DrillRunner) -> tuple[Cluster, ...]:
    """A primary, and a remote if there is one."""
    return (drill_runner.mesh.primaries[0], *drill_runner.mesh.remotes[:1])


def exposing(drill_runner: DrillRunner) -> list[Cluster]:
    """Clusters that other networks reach through an east-west gateway."""
    return [
        cluster for cluster in drill_runner.mesh.clusters if drill_runner.mesh.topology.exposes_services(cluster.spec)
    ]
