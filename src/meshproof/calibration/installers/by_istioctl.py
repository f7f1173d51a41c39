"""By istioctl: the default profile, and the script for east-west gateways."""

from __future__ import annotations

import yaml

from meshproof.calibration.installers.documented import SAMPLES, SCRIPT_S, DocumentedInstall
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.process import run
from meshproof.install.operator import merged
from meshproof.mesh.handles import Cluster


class IstioctlInstall(DocumentedInstall):
    """istio.io, Install Multicluster, the pages' tabs for IstioOperator."""

    profile = "default"

    def install_istio(self, cluster: Cluster, values: Json, *, remote: bool) -> None:
        spec = {"profile": "remote" if remote else self.profile, "values": self.values_of(cluster, values)}
        self._install(cluster, {"spec": spec})

    def install_east_west(self, cluster: Cluster) -> None:
        script = self.istio / SAMPLES / "gen-eastwest-gateway.sh"
        generated = run(["bash", script, "--network", str(cluster.network)], timeout_s=SCRIPT_S)
        self._install(cluster, yaml.safe_load(generated))

    def _install(self, cluster: Cluster, operator: Json) -> None:
        toolbox = self.mesh.toolbox
        head = {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator"}
        image = {"hub": toolbox.hub, "tag": toolbox.tag, "values": {"global": {"imagePullPolicy": "IfNotPresent"}}}
        spec = merged(merged(image, operator["spec"]), toolbox.istio_values)
        self.istioctl(cluster).install(head | operator | {"spec": spec})
