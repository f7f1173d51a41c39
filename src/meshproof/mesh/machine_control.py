"""Actions that need control of the clusters' machines."""

from __future__ import annotations

from typing import Protocol

from meshproof.core.model import ClusterName


class MachineControl(Protocol):
    """Actions that need control of the clusters' machines: cut links, end processes."""

    def block(self, client: ClusterName, server: ClusterName, ports: tuple[int, ...]) -> None:
        """Drop packets from one cluster to another: to these TCP ports of its gateways, or without ports to its
        pods."""
        ...

    def unblock(self) -> None:
        """Restore all links."""
        ...

    def restart_api_server(self, cluster: ClusterName) -> None:
        """Restart a cluster's API server; this breaks every watch on it."""
        ...

    @property
    def identity(self) -> str:
        """Identifies these machines, also against later ones of the same names, without contacting a cluster."""
        ...

    def cut(self, a: ClusterName, b: ClusterName, *, one_way: bool) -> None:
        """Drop all packets between two clusters, or only those that `a` sends in connections opened by `a`."""
        ...

    def stop_api_server(self, cluster: ClusterName) -> None:
        """Kill a cluster's API server; it stays down until it is started."""
        ...

    def start_api_server(self, cluster: ClusterName) -> None:
        """Start it again. Does nothing if it runs."""
        ...

    def kill_in_pod(self, cluster: ClusterName, pod: str, program: str) -> int:
        """SIGKILL the processes of that name in a pod, as in a crash; returns their number."""
        ...

    def freeze(self, cluster: ClusterName) -> None:
        """SIGSTOP every process of a cluster: its connections stay open, but nothing responds."""
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
