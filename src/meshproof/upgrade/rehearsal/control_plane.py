"""A release of Istio under a revision: what a mesh is moved from, and to."""

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
        """As people call it: `1.31`."""
        return str(Version.parse(self.version))

    def topology_of(self, mesh: Mesh) -> Topology:
        """The mesh's topology, as it is where this control plane governs all clusters."""
        clusters = tuple(replace(cluster, revision=self.revision) for cluster in mesh.topology.clusters)
        return replace(mesh.topology, clusters=clusters)

    def mesh_of(self, mesh: Mesh) -> Mesh:
        """The same clusters, over the same connections, as this control plane has them."""
        topology = self.topology_of(mesh)
        clusters = tuple(replace(c, spec=topology.cluster(c.name)) for c in mesh.clusters)
        return replace(mesh, topology=topology, clusters=clusters, toolbox=self.toolbox)

    def __str__(self) -> str:
        return self.minor if self.revision == DEFAULT_REVISION else f"{self.minor} (revision {self.revision})"
