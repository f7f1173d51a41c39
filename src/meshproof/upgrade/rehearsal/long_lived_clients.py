"""Client pods of our own that are not restarted in an upgrade: their proxies keep the old version."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.clients.kubernetes.pods import pod_spec
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.load.generator import LoadTarget
from meshproof.load.pod_generator import PodLoad
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.workloads.app import client_container
from meshproof.workloads.ephemeral import PREFIX, ready_pod
from meshproof.workloads.namespaces import make_namespaces

NAME: Final = "meshproof-long-lived"


class LongLivedClients:
    """One client pod in each cluster, in a namespace of its own."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
        self._pods: dict[str, PodFacts] = {}

    def create(self) -> None:
        """Create the pods. Raises `ClaimFailed` if one is refused or does not become ready."""
        make_namespaces(self._mesh, self._mesh.clusters, self._namespace)
        together(self._make, self._mesh.clusters)

    def recreate(self) -> None:
        """Replace the pods; new ones get the sidecar that is injected now."""
        for cluster in self._mesh.clusters:
            cluster.kube.delete("Pod", self._pods[cluster.name].name, self._namespace, grace_s=0)
        together(self._make, self._mesh.clusters)

    def delete(self) -> None:
        for cluster in self._mesh.clusters:
            cluster.kube.delete("Namespace", self._namespace)

    def loads(self, targets: Sequence[LoadTarget]) -> Sequence[PodLoad]:
        """A load from each of them on every target."""
        return [
            PodLoad(
                cluster.kube,
                self._pods[cluster.name],
                {f"{cluster} long-lived {target.name}".strip(): target.url for target in targets},
            )
            for cluster in self._mesh.clusters
        ]

    def _make(self, cluster: Cluster) -> None:
        manifest = self.manifest(f"{NAME}-{uuid.uuid4().hex[:6]}")
        self._pods[cluster.name] = ready_pod(self._mesh, cluster, self._namespace, manifest)

    def manifest(self, name: str) -> Json:
        """The pod of that name."""
        spec = pod_spec([client_container(self._mesh.toolbox.images["client"])], grace_s=0)
        return core("Pod", metadata(name, self._namespace, labels={"app": names.CLIENT_POD}), spec=spec)


@contextmanager
def long_lived_clients_on(mesh: Mesh) -> Iterator[LongLivedClients]:
    """Long-lived clients in every cluster; deleted when the block ends."""
    found = LongLivedClients(mesh)
    try:
        found.create()
        yield found
    finally:
        found.delete()
