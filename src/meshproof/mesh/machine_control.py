"""What only an owner of the machines can do."""

from __future__ import annotations

from typing import Protocol

from meshproof.core.model import ClusterName


class MachineControl(Protocol):
    """What only an owner of the machines can do: cut links, end processes."""

    def block(self, client: ClusterName, server: ClusterName, ports: tuple[int, ...]) -> None:
        """Drop packets from one cluster to another: to these TCP ports of its gateways, or if none to its pods."""
        ...

    def unblock(self) -> None:
        """Open all links again."""
        ...

    def restart_api_server(self, cluster: ClusterName) -> None:
        """End a cluster's API server and start it again; every watch on it is cut."""
        ...

    @property
    def identity(self) -> str:
        """What tells these machines from others, and from later ones of the same names, without asking a cluster."""
        ...

    def cut(self, a: ClusterName, b: ClusterName, *, one_way: bool) -> None:
        """Drop all packets between two clusters, or only what `a` sends in connections that `a` has opened."""
        ...

    def stop_api_server(self, cluster: ClusterName) -> None:
        """Kill a cluster's API server; it stays away until it is started."""
        ...

    def start_api_server(self, cluster: ClusterName) -> None:
        """Start it again. Does nothing if it runs."""
        ...

    def kill_in_pod(self, cluster: ClusterName, pod: str, program: str) -> int:
        """SIGKILL the processes of that name in a pod, as a crash would end them; says how many there were."""
        ...

    def freeze(self, cluster: ClusterName) -> None:
        """SIGSTOP every process of a cluster: its connections stay open, and nobody answers."""
        ...

    def thaw(self, cluster: ClusterName) -> None:
        """SIGCONT every process of a cluster. Safe if it is not frozen."""
        ...

    def lose(self, cluster: ClusterName) -> None:
        """Kill every process of a cluster, as when its power fails; its disks stay."""
        ...

    def revive(self, cluster: ClusterName) -> None:
        """Start a lost cluster again with its data; returns when its processes run. Does nothing if it was not lost."""
        ...
