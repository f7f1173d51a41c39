"""The interface of providers of clusters."""

from __future__ import annotations

from typing import Protocol

from meshproof.core.model import Topology
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.machine_control import MachineControl


class Provider(Protocol):
    """A source of clusters. `clusters` are in the topology's order."""

    name: str

    @property
    def clusters(self) -> tuple[ClusterAccess, ...]: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def machine_control(self) -> MachineControl | None:
        """None if machines and networks must not be disrupted."""
        ...

    def connect(self, topology: Topology) -> None:
        """Open routes between pod ranges of clusters on one network, and close all others."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Problems of the infrastructure since the start (a process that exited, with its last log lines)."""
        ...
