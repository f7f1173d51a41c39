"""By Istio's Helm charts: base, istiod, and the gateway chart, whose ingress gateway is in a namespace of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from meshproof.calibration.installers.documented import DocumentedInstall
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.process import run
from meshproof.core.names import EAST_WEST, SYSTEM_NAMESPACE
from meshproof.core.progress import Narrator
from meshproof.install.operator import merged
from meshproof.mesh.handles import Cluster, Mesh

INSTALL_S: Final = 180.0
INGRESS: Final = "istio-ingress"
"""Release, namespace and Service of the ingress gateway (istio.io, Installing Gateways)."""


class ChartInstall(DocumentedInstall):
    """istio.io, Install Multicluster, the pages' tabs for Helm. `helm` is the program."""

    def __init__(self, mesh: Mesh, istio: Path, work: Path, narrator: Narrator, *, helm: Path) -> None:
        super().__init__(mesh, istio, work, narrator)
        self.helm = helm

    def install_istio(self, cluster: Cluster, values: Json, *, remote: bool) -> None:
        profile = {"profile": "remote"} if remote else {}
        self._chart(cluster, "istio-base", "base", SYSTEM_NAMESPACE, profile)
        mesh_config = {"meshConfig": self.lab_settings("meshConfig")}
        self._chart(
            cluster,
            "istiod",
            "istio-control/istio-discovery",
            SYSTEM_NAMESPACE,
            profile | merged(self.values_of(cluster, values), mesh_config),
        )
        if not remote:
            self._gateway(cluster, INGRESS, INGRESS, {})

    def install_east_west(self, cluster: Cluster) -> None:
        values = {"name": EAST_WEST, "networkGateway": cluster.network}
        self._gateway(cluster, EAST_WEST, SYSTEM_NAMESPACE, values)

    def _gateway(self, cluster: Cluster, release: str, namespace: str, values: Json) -> None:
        """With a pull policy: for the image `auto` Kubernetes' default is Always, and the lab has no registry."""
        self._chart(cluster, release, "gateway", namespace, {"imagePullPolicy": "IfNotPresent"} | values)

    def _chart(self, cluster: Cluster, release: str, chart: str, namespace: str, values: Json) -> None:
        """`helm install`, waiting for what it creates."""
        access = cluster.access
        run(
            [
                *(self.helm, "install", release, self.istio / "manifests/charts" / chart),
                *(f"--kubeconfig={access.kubeconfig}", f"--kube-context={access.context}"),
                *(f"--namespace={namespace}", "--create-namespace", "--values=-"),
                *("--wait", f"--timeout={INSTALL_S:g}s"),
            ],
            stdin=yaml.safe_dump(values),
            timeout_s=INSTALL_S + 30,
            env={"HOME": str(self.work), "PATH": "/usr/bin:/bin"},
        )
