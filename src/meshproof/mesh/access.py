"""How to access a cluster, and the tools that fit it, as every provider returns them."""

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
    the API server's URL as reached from the other clusters (for remote secrets); `istioctl` in
    `Toolbox` is run with this kubeconfig. `kube` is an open client, if there is one. `pull_secret` is
    set if probe pods need one.
    """

    name: ClusterName
    kubeconfig: Path
    context: str
    server_for_peers: str
    kube: Kube | None = field(default=None, repr=False, compare=False)
    pull_secret: PullSecret | None = None

    def client(self) -> Kube:
        """The open client, or a new one."""
        return self.kube or Kube(self.kubeconfig, self.context, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Programs and images for the clusters.

    `images` maps a purpose (`app`, `client`) to an image reference that the clusters can run.
    `istio_values` is merged into every IstioOperator (`meshConfig`, `values`, `components`); the lab uses it for
    the settings that upstream Envoy needs. `data_plane` describes the data plane. `istioctl` is None
    if unavailable; `istioctls` are those of all available releases, by number (`1.31`).
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
        """Path of istioctl. Raises `Unavailable` if there is none."""
        if self.istioctl is None:
            raise Unavailable("istioctl", "not in PATH", "name one with --istioctl")
        return self.istioctl
