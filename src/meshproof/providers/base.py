"""What every provider of clusters has."""

from __future__ import annotations

from typing import Protocol

from meshproof.core.model import Topology
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.machine_control import MachineControl


class Provider(Protocol):
    """A source of clusters. `clusters` is ordered as the topology's clusters are."""

    name: str

    @property
    def clusters(self) -> tuple[ClusterAccess, ...]: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def links(self) -> MachineControl | None:
        """None where machines and networks are not ours to break."""
        ...

    def connect(self, topology: Topology) -> None:
        """Open the routes between pod ranges that clusters on one network need, and close all others."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What went wrong underneath since the start (a process that exited, with its last log lines)."""
        ...
