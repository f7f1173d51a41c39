"""What every provider hands over, and what it may be asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Unavailable
from meshproof.core.model import ClusterName, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """A Secret by which images are pulled; its text is `NAMESPACE/NAME`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How to reach one cluster.

    `kubeconfig` (one file, or several joined as in the variable KUBECONFIG) holds `context`; `server_for_peers` is
    the API server's URL as dialled from inside the other clusters (it goes into remote secrets); `istioctl` in
    `Toolbox` is run with this kubeconfig. `kube` is a client that is open already, if there is one. `pull_secret` is
    there if probe pods need one.
    """

    name: ClusterName
    kubeconfig: Path
    context: str
    server_for_peers: str
    kube: Kube | None = field(default=None, repr=False, compare=False)
    pull_secret: PullSecret | None = None

    def client(self) -> Kube:
        """The client that is open already, or a new one."""
        return self.kube or Kube(self.kubeconfig, self.context, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Programs and images that fit the clusters.

    `images` maps a purpose (`app`, `client`) to an image reference that the clusters can run.
    `istio_values` is merged into every IstioOperator (`meshConfig`, `values`, `components`); the lab uses it for
    the settings that upstream Envoy needs. `data_plane` says in words what the data plane is. `istioctl` is None
    where there is none; `istioctls` are those of all releases that are at hand, by number (`1.31`).
    """

    istioctl: Path | None
    istio_version: str
    hub: str
    tag: str
    images: dict[str, str]
    istio_values: dict[str, object]
    data_plane: str
    istioctls: dict[str, Path] = field(default_factory=dict)

    def require_istioctl(self) -> Path:
        """The program. Raises `Unavailable` if there is none."""
        if self.istioctl is None:
            raise Unavailable("istioctl", "there is none in PATH", "name one with --istioctl")
        return self.istioctl


class Links(Protocol):
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


class Provider(Protocol):
    """A source of clusters. `clusters` is ordered as the topology's clusters are."""

    name: str

    @property
    def clusters(self) -> tuple[ClusterAccess, ...]: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def links(self) -> Links | None:
        """None where machines and networks are not ours to break."""
        ...

    def connect(self, topology: Topology) -> None:
        """Open the routes between pod ranges that clusters on one network need, and close all others."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What went wrong underneath since the start (a process that exited, with its last log lines)."""
        ...
