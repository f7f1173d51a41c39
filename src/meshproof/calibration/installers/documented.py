"""The steps of Istio's documentation for multicluster meshes (istio.io, Install Multicluster), one after the other.

With the manifests and scripts of Istio's own module; how Istio itself is installed, by istioctl or by charts, is a
subclass's. Only what the lab's clusters need is added: hub and tag of their images, and the settings of their Envoy.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

import yaml

from meshproof.clients.istio.istioctl import Istioctl
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rollout import external_address
from meshproof.clients.process import run
from meshproof.core.names import CACERTS, CONTROL_PLANES_ANNOTATION, EAST_WEST, NETWORK_LABEL, SYSTEM_NAMESPACE
from meshproof.core.progress import Narrator
from meshproof.install.operator import injection_path, merged
from meshproof.mesh.handles import Cluster, Mesh

SCRIPT_S: Final = 120.0
"""Longest duration of a script: keys of 4096 bits take seconds on a slow machine."""
ADDRESS_S: Final = 60.0
CA_FILES: Final = ("ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem")
SAMPLES: Final = "samples/multicluster"


class DocumentedInstall(ABC):
    """Installs a mesh on empty clusters. `istio` is the folder of Istio's sources, `work` one for certificates."""

    def __init__(self, mesh: Mesh, istio: Path, work: Path, narrator: Narrator) -> None:
        self.mesh = mesh
        self.istio = istio
        self.work = work
        self.narrator = narrator

    @abstractmethod
    def install_istio(self, cluster: Cluster, values: Json, *, remote: bool) -> None:
        """Install a control plane, or what a remote has instead, and ingress gateways where this way brings some."""

    @abstractmethod
    def install_east_west(self, cluster: Cluster) -> None:
        """Install the east-west gateway of a cluster's network."""

    @property
    def east_west_service(self) -> str:
        return EAST_WEST

    def run(self) -> None:
        """Raises `Broken` with the command that failed."""
        with self.narrator.step("certificates by tools/certs"):
            self._certificates()
        for cluster in self.mesh.primaries:
            with self.narrator.step(f"{cluster} as a primary"):
                self._primary(cluster)
        for cluster in self.mesh.remotes:
            with self.narrator.step(f"{cluster} as a remote"):
                self._remote(cluster)
        for reader, read in self.mesh.pairs:
            if reader.is_primary and read.is_primary:
                self._exchange(reader, read)

    # -- pages of the documentation -------------------------------------------------------------------------------

    def _certificates(self) -> None:
        """Plug in CA Certificates."""
        self._make("root-ca")
        for cluster in self.mesh.clusters:
            self._make(f"{cluster}-cacerts")
            cluster.kube.apply(self._namespace(cluster))
            files = {name: (self.work / cluster.name / name).read_text() for name in CA_FILES}
            secret = {"metadata": {"name": CACERTS, "namespace": SYSTEM_NAMESPACE}, "stringData": files}
            cluster.kube.apply({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **secret})

    def _primary(self, cluster: Cluster) -> None:
        """Multi-Primary, and Primary-Remote: configure the primary, install its east-west gateway, expose."""
        topology = self.mesh.topology
        exposed = topology.exposes_istiod(cluster.spec)
        self.install_istio(cluster, {"global": {"externalIstiod": True}} if exposed else {}, remote=False)
        if topology.needs_east_west_gateway(cluster.spec):
            self.install_east_west(cluster)
        if exposed:
            self._apply_sample(cluster, "expose-istiod.yaml")
        if self.several_networks:
            self.expose_services(cluster)

    def _remote(self, cluster: Cluster) -> None:
        """Primary-Remote: configure the remote, attach it, install its east-west gateway."""
        primary = self.mesh.control_plane_of(cluster)
        values = {
            "istiodRemote": {"injectionPath": injection_path(cluster.spec)},
            "global": {"configCluster": True, "remotePilotAddress": self._east_west_address(primary)},
        }
        self.install_istio(cluster, values, remote=True)
        self._exchange(primary, cluster)
        if self.several_networks:
            self.install_east_west(cluster)
            self._east_west_address(cluster)

    def expose_services(self, cluster: Cluster) -> None:
        """Expose services: the listener of port 15443."""
        self._apply_sample(cluster, "expose-services.yaml")

    def _exchange(self, reader: Cluster, read: Cluster) -> None:
        """Enable Endpoint Discovery: a remote secret for `read`, in the cluster of the istiod that reads it."""
        secret = self.istioctl(read).create_remote_secret(read.name, read.access.server_for_peers)
        reader.kube.apply(secret)

    # -- single commands ------------------------------------------------------------------------------------------

    @property
    def several_networks(self) -> bool:
        return len(self.mesh.topology.networks) > 1

    def values_of(self, cluster: Cluster, values: Json) -> Json:
        """The values that every page gives: mesh, cluster and network; and the image that the lab has."""
        toolbox = self.mesh.toolbox
        own = {
            "meshID": self.mesh.topology.mesh_id,
            "multiCluster": {"clusterName": cluster.name},
            "network": cluster.network,
        }
        ours = {"hub": toolbox.hub, "tag": toolbox.tag, "imagePullPolicy": "IfNotPresent"}
        return merged(merged({"global": own | ours}, values), self.lab_settings("values"))

    def lab_settings(self, key: str) -> Json:
        """What the lab's Envoy needs: `values` or `meshConfig`."""
        found = self.mesh.toolbox.istio_values.get(key) or {}
        assert isinstance(found, dict)
        return found

    def istioctl(self, cluster: Cluster) -> Istioctl:
        access = cluster.access
        return Istioctl(self.mesh.toolbox.require_istioctl(), access.kubeconfig, access.context)

    def _east_west_address(self, cluster: Cluster) -> str:
        service = self.east_west_service
        return external_address(cluster.kube, SYSTEM_NAMESPACE, service, timeout_s=ADDRESS_S, aborted=threading.Event())

    def _namespace(self, cluster: Cluster) -> Json:
        labels = {NETWORK_LABEL: cluster.network} if self.several_networks else {}
        annotations = {} if cluster.is_primary else {CONTROL_PLANES_ANNOTATION: cluster.control_plane}
        meta = {"name": SYSTEM_NAMESPACE, "labels": labels, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}

    def _make(self, target: str) -> None:
        makefile = self.istio / "tools/certs/Makefile.selfsigned.mk"
        run(["make", "-C", self.work, "-f", makefile, target], timeout_s=SCRIPT_S)

    def _apply_sample(self, cluster: Cluster, name: str) -> None:
        for manifest in yaml.safe_load_all((self.istio / SAMPLES / name).read_text()):
            manifest["metadata"]["namespace"] = SYSTEM_NAMESPACE
            cluster.kube.apply(manifest)
