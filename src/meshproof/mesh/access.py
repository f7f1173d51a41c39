"""What every provider hands over, and what it may be asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Unavailable
from meshproof.core.model import ClusterName, PullSecret


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
