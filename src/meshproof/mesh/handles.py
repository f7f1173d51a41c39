"""Live handles: the clusters of a topology with their API servers."""

from __future__ import annotations

from dataclasses import dataclass

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.model import ClusterName, ClusterSpec, Members, NetworkName, Role, Topology
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
    def role(self) -> Role:
        return self.spec.role

    @property
    def control_plane(self) -> ClusterName:
        """The cluster whose istiod controls this one: itself for a primary."""
        return self.spec.control_plane

    @property
    def is_primary(self) -> bool:
        return self.role is Role.PRIMARY

    def __str__(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh(Members[Cluster]):
    """The clusters of one topology. In the topology's order."""

    topology: Topology
    clusters: tuple[Cluster, ...]
    toolbox: Toolbox

    @classmethod
    def of(cls, topology: Topology, accesses: tuple[ClusterAccess, ...], toolbox: Toolbox) -> Mesh:
        """Handles for the clusters of `topology`, in order; opens no connection yet."""
        by_name = {access.name: access for access in accesses}
        return cls(
            topology=topology,
            toolbox=toolbox,
            clusters=tuple(
                Cluster(
                    spec=spec,
                    access=by_name[spec.name],
                    kube=by_name[spec.name].client(),
                )
                for spec in topology.clusters
            ),
        )
