"""Live handles: the clusters of a topology, each with its API server, and the questions that claims ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.model import ClusterName, ClusterSpec, NetworkName, Role, Topology
from meshproof.mesh.access import ClusterAccess, Toolbox


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cluster:
    """One cluster of the mesh with its API server."""

    spec: ClusterSpec
    access: ClusterAccess
    kube: Kube

    @property
    def name(self) -> ClusterName:
        return self.spec.name

    @property
    def network(self) -> NetworkName:
        return self.spec.network

    @property
    def is_primary(self) -> bool:
        return self.spec.role is Role.PRIMARY

    def __str__(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """The clusters of one topology. Order is the topology's order."""

    topology: Topology
    clusters: tuple[Cluster, ...]
    toolbox: Toolbox

    @classmethod
    def of(cls, topology: Topology, accesses: tuple[ClusterAccess, ...], toolbox: Toolbox) -> Mesh:
        """Handles for `topology`, cluster by cluster in order; opens no connection yet."""
        by_name = {access.name: access for access in accesses}
        return cls(
            topology=topology,
            toolbox=toolbox,
            clusters=tuple(
                Cluster(
                    spec=spec,
                    access=by_name[spec.name],
                    kube=_kube(by_name[spec.name]),
                )
                for spec in topology.clusters
            ),
        )

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name; `KeyError` if there is none."""
        for candidate in self.clusters:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    @property
    def primaries(self) -> tuple[Cluster, ...]:
        return tuple(c for c in self.clusters if c.is_primary)

    @property
    def remotes(self) -> tuple[Cluster, ...]:
        return tuple(c for c in self.clusters if not c.is_primary)

    def control_plane_of(self, cluster: Cluster) -> Cluster:
        return self.cluster(cluster.spec.control_plane)

    def controlled_by(self, primary: Cluster) -> tuple[Cluster, ...]:
        return tuple(c for c in self.clusters if c.spec.control_plane == primary.name)

    def crosses_network(self, a: Cluster, b: Cluster) -> bool:
        return a.network != b.network

    @property
    def pairs(self) -> Iterator[tuple[Cluster, Cluster]]:
        """Every ordered pair of different clusters (client, server)."""
        return permutations(self.clusters, 2)

    @property
    def pairs_across_networks(self) -> Iterator[tuple[Cluster, Cluster]]:
        return ((a, b) for a, b in self.pairs if self.crosses_network(a, b))

    @property
    def pairs_on_one_network(self) -> Iterator[tuple[Cluster, Cluster]]:
        return ((a, b) for a, b in self.pairs if not self.crosses_network(a, b))

    @property
    def api_calls(self) -> int:
        """Requests made to API servers so far, over all clusters."""
        return sum(cluster.kube.calls for cluster in self.clusters)


def _kube(access: ClusterAccess) -> Kube:
    return access.kube or Kube(access.kubeconfig, access.context, name=access.name)
