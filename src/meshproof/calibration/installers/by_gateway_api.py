"""By the Gateway API: the minimal profile, and Gateway resources, for which istiod creates Deployments and Services."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from meshproof.calibration.installers.by_istioctl import IstioctlInstall
from meshproof.clients.kubernetes.client import Json
from meshproof.core.names import EAST_WEST, NETWORK_LABEL, PORT_INGRESS, PORT_SERVICES, SYSTEM_NAMESPACE
from meshproof.core.progress import Narrator
from meshproof.mesh.handles import Cluster, Mesh

CLASS: Final = "istio"
INGRESS: Final = "istio-ingress"


class GatewayApiInstall(IstioctlInstall):
    """istio.io, Kubernetes Gateway API. `gateway_api` is the folder of its sources, with the CRDs.

    For meshes without remotes: istiod creates gateways in its own cluster only.
    """

    profile = "minimal"

    def __init__(self, mesh: Mesh, istio: Path, work: Path, narrator: Narrator, *, gateway_api: Path) -> None:
        super().__init__(mesh, istio, work, narrator)
        self.gateway_api = gateway_api

    @property
    def east_west_service(self) -> str:
        """istiod names it after the Gateway and its class."""
        return f"{EAST_WEST}-{CLASS}"

    def install_istio(self, cluster: Cluster, values: Json, *, remote: bool) -> None:
        for path in sorted((self.gateway_api / "config/crd/standard").glob("*.yaml")):
            for manifest in yaml.safe_load_all(path.read_text()):
                if manifest["kind"] == "CustomResourceDefinition":
                    cluster.kube.apply(manifest)
        super().install_istio(cluster, values, remote=remote)
        cluster.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": INGRESS}})
        listener = {
            "name": "http",
            "port": PORT_INGRESS,
            "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "All"}},
        }
        self._gateway(cluster, INGRESS, INGRESS, listener, {})

    def install_east_west(self, cluster: Cluster) -> None:
        listener = {
            "name": "cross-network",
            "hostname": "*.local",
            "port": PORT_SERVICES,
            "protocol": "TLS",
            "tls": {"mode": "Passthrough", "options": {"gateway.istio.io/listener-protocol": "auto-passthrough"}},
        }
        self._gateway(cluster, EAST_WEST, SYSTEM_NAMESPACE, listener, {NETWORK_LABEL: cluster.network})

    def expose_services(self, cluster: Cluster) -> None:
        """The Gateway itself has the listener."""

    def _gateway(self, cluster: Cluster, name: str, namespace: str, listener: Json, labels: Json) -> None:
        body = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"gatewayClassName": CLASS, "listeners": [listener]},
        }
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways"
        cluster.kube.request("POST", path, body=body)
