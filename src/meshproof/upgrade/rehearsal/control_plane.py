"""A release of Istio under a revision: the source and the target of an upgrade."""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshproof.core.model import Topology
from meshproof.core.names import DEFAULT_REVISION
from meshproof.core.versions import Version
from meshproof.mesh.access import Toolbox
from meshproof.mesh.handles import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """One release of Istio in every cluster of a mesh, under one revision."""

    toolbox: Toolbox
    revision: str = DEFAULT_REVISION

    @property
    def version(self) -> str:
        return self.toolbox.istio_version

    @property
    def minor(self) -> str:
        """The minor version, such as `1.31`."""
        return str(Version.parse(self.version))

    def topology_of(self, mesh: Mesh) -> Topology:
        """The mesh's topology with this control plane in all clusters."""
        clusters = tuple(replace(cluster, revision=self.revision) for cluster in mesh.topology.clusters)
        return replace(mesh.topology, clusters=clusters)

    def mesh_of(self, mesh: Mesh) -> Mesh:
        """The same clusters and connections, with this control plane in all clusters."""
        topology = self.topology_of(mesh)
        clusters = tuple(replace(c, spec=topology.cluster(c.name)) for c in mesh.clusters)
        return replace(mesh, topology=topology, clusters=clusters, toolbox=self.toolbox)

    def __str__(self) -> str:
        return self.minor if self.revision == DEFAULT_REVISION else f"{self.minor} (revision {self.revision})"
