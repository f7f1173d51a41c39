"""The actions of a plan's steps. Each is idempotent: it applies objects, and waits until they are ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from meshproof.clients.istio.istioctl import READER_ACCOUNT, Istioctl
from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.clients.kubernetes.manifests import INJECTED_NAMESPACES, namespaces
from meshproof.clients.kubernetes.rollout import deployment_ready, external_address, until
from meshproof.core.model import ClusterName, GatewayRef
from meshproof.core.names import APP_NAMESPACE, CLIENT_NAMESPACE, CLIENT_POD, OUTSIDE_NAMESPACE, SYSTEM_NAMESPACE
from meshproof.core.waiting import NotYet, eventually
from meshproof.install.ca import ca_bundles, cacerts_secret
from meshproof.install.gateways import (
    app_exposed,
    gateway_deployment,
    gateway_services,
    gateways_of,
    mesh_configuration,
)
from meshproof.install.injection import InjectorState, RemoteEvidence, injector_state, state_before, wait_for_injection
from meshproof.install.operator import istio_operator
from meshproof.mesh.gateways import ingress_selectors
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.pki.issue import CaBundle
from meshproof.workloads.app import app_deployment_name, app_manifests, client_manifest
from meshproof.workloads.discovery_selectors import Selectors, labels_for
from meshproof.workloads.namespaces import give_pull_secret
from meshproof.workloads.pod_settings import PodSettings

READY_S: Final = 180.0
"""Deadline for anything with pods: on a real cluster images are pulled, and nodes may be added."""
ADDRESS_S: Final = 300.0
"""Clouds take minutes to create a load balancer."""
OBJECTS_S: Final = 60.0
"""Deadline for the API server and istiod where no pods are involved."""


class Build:
    """The steps of one mesh's plan, and their results. Every method is safe to call from several threads."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.aborted = threading.Event()
        self._lock = threading.Lock()
        self._bundles: dict[ClusterName, CaBundle] = {}
        self._addresses: dict[ClusterName, dict[GatewayRef, str]] = {}
        self._remote_secrets: dict[ClusterName, Json] = {}
        self._before: dict[ClusterName, tuple[bool, InjectorState]] = {}
        self._after: dict[ClusterName, InjectorState] = {}

    def evidence(self) -> tuple[RemoteEvidence, ...]:
        """The evidence of each remote, in the topology's order; complete once the plan has run."""
        return tuple(
            RemoteEvidence(
                cluster=cluster.name,
                secret_was_there=self._before[cluster.name][0],
                before=self._before[cluster.name][1],
                after=self._after[cluster.name],
            )
            for cluster in self.mesh.remotes
        )

    def istioctl(self, cluster: Cluster) -> Istioctl:
        return Istioctl(self.mesh.toolbox.require_istioctl(), cluster.access.kubeconfig, cluster.access.context)

    # -- before istiod --------------------------------------------------------------------------------------------

    def make_certificates(self) -> None:
        self._bundles = ca_bundles(self.mesh)

    def apply_namespaces(self, cluster: Cluster) -> None:
        """Apply the namespaces; where one is being deleted, wait for that first."""
        config: Any = self.mesh.toolbox.istio_values.get("meshConfig") or {}
        selectors: Mapping[str, Selectors] = {"--istio-values": config.get("discoverySelectors") or []}
        for manifest in namespaces(cluster.spec):
            self.apply_namespace(cluster, manifest, selectors)

    def apply_namespace(self, cluster: Cluster, manifest: Json, selectors: Mapping[str, Selectors]) -> None:
        """Apply one namespace with the labels that discovery selectors call for, after an old one that is being deleted
        is gone."""
        meta = manifest["metadata"]
        name = meta["name"]
        meta["labels"] |= labels_for(name, meta["labels"], selectors)
        until(
            cluster.kube,
            "Namespace",
            name,
            None,
            lambda found: None if found and found["metadata"].get("deletionTimestamp") else True,
            what=f"deletion of the old namespace {name}",
            timeout_s=OBJECTS_S,
            aborted=self.aborted,
        )
        cluster.kube.apply(manifest)
        give_pull_secret(cluster, name)

    def apply_cacerts(self, cluster: Cluster) -> None:
        cluster.kube.apply(cacerts_secret(self._bundles[cluster.name]))

    def apply_gateway_services(self, cluster: Cluster) -> None:
        for gateway in gateways_of(self.mesh.topology, cluster.spec):
            self._apply_all(cluster, gateway_services(gateway))

    def await_addresses(self, cluster: Cluster) -> None:
        """Wait until every gateway's Service has an external address, and store them."""
        found = {
            gateway.ref: external_address(
                cluster.kube, gateway.namespace, gateway.name, timeout_s=ADDRESS_S, aborted=self.aborted
            )
            for gateway in gateways_of(self.mesh.topology, cluster.spec)
        }
        with self._lock:
            self._addresses[cluster.name] = found

    def start_outside_client(self, cluster: Cluster) -> None:
        self._start_client(cluster, OUTSIDE_NAMESPACE)

    # -- istiod and discovery -------------------------------------------------------------------------------------

    def install_control_plane(self, cluster: Cluster) -> None:
        """`istioctl install`: an istiod, or for a remote the webhook and Service that point to its primary's istiod."""
        address = None
        if not cluster.is_primary:
            primary = self.mesh.topology.control_plane_of(cluster.spec)
            address = self._addresses[primary.name][primary.east_west]
        operator = istio_operator(self.mesh.topology, cluster.spec, self.mesh.toolbox, remote_pilot_address=address)
        self.istioctl(cluster).install(operator, timeout_s=READY_S)

    def make_credentials(self, cluster: Cluster) -> None:
        """Create the remote secret with which other istiods read this cluster, and keep it in memory."""
        until(
            cluster.kube,
            "ServiceAccount",
            READER_ACCOUNT,
            SYSTEM_NAMESPACE,
            lambda found: found,
            what=f"ServiceAccount {READER_ACCOUNT}",
            timeout_s=READY_S,
            aborted=self.aborted,
            repair="istioctl install creates it",
        )
        secret = self.istioctl(cluster).create_remote_secret(cluster.name, cluster.access.server_for_peers)
        with self._lock:
            self._remote_secrets[cluster.name] = secret

    def look_before_secret(self, cluster: Cluster) -> None:
        """Record the state of injection in a remote that its primary does not read yet."""
        primary = self.mesh.control_plane_of(cluster)
        known = primary.kube.find("Secret", remote_secret_name(cluster), SYSTEM_NAMESPACE) is not None
        state = state_before(cluster.kube, aborted=self.aborted)
        with self._lock:
            self._before[cluster.name] = (known, state)

    def apply_remote_secret(self, cluster: Cluster, primary: Cluster) -> None:
        primary.kube.apply(self._remote_secrets[cluster.name])

    def remove_remote_secret(self, cluster: Cluster, primary: Cluster) -> None:
        primary.kube.delete("Secret", remote_secret_name(cluster), SYSTEM_NAMESPACE)

    def apply_mesh_configuration(self, cluster: Cluster) -> None:
        """Apply the Gateways and VirtualServices. istiod's validation webhook may be called before its Service is
        reachable."""
        self._apply_configuration(cluster, mesh_configuration(self.mesh.topology, cluster.spec))

    def apply_app_configuration(self, cluster: Cluster) -> None:
        """Apply only the configuration that exposes the demonstration service at the ingress gateways."""
        self._apply_configuration(cluster, app_exposed(ingress_selectors(self.mesh, cluster)))

    def _apply_configuration(self, cluster: Cluster, manifests: tuple[Json, ...]) -> None:
        for manifest in manifests:
            eventually(
                _unless_webhook_fails(partial(cluster.kube.apply, manifest)),
                what=f"{manifest['kind']} {manifest['metadata']['name']} on {cluster}",
                timeout_s=OBJECTS_S,
                poll_s=0.3,
            )

    # -- pods with proxies ----------------------------------------------------------------------------------------

    def await_injection(self, cluster: Cluster) -> None:
        """Wait until a new pod gets a sidecar; for a remote record the webhooks' state as evidence."""
        injected = (*cluster.spec.mesh_namespaces, *INJECTED_NAMESPACES)
        wait_for_injection(cluster.kube, injected, timeout_s=OBJECTS_S, aborted=self.aborted)
        if not cluster.is_primary:
            state = injector_state(cluster.kube)
            with self._lock:
                self._after[cluster.name] = state

    def start_gateways(self, cluster: Cluster) -> None:
        gateways = gateways_of(self.mesh.topology, cluster.spec)
        for gateway in gateways:
            cluster.kube.apply(gateway_deployment(gateway))
        for gateway in gateways:
            self._await_ready(cluster, gateway.namespace, gateway.name)

    def start_app(self, cluster: Cluster) -> None:
        image, secret = self.mesh.toolbox.images["app"], cluster.access.pull_secret
        settings = PodSettings.of(self.mesh, cluster)
        manifests = app_manifests(cluster.spec, image, secret)
        self._apply_all(cluster, tuple(settings.applied_to(m) if m["kind"] == "Deployment" else m for m in manifests))
        self._await_ready(cluster, APP_NAMESPACE, app_deployment_name(cluster.spec))

    def start_client(self, cluster: Cluster) -> None:
        self._start_client(cluster, CLIENT_NAMESPACE)

    def _start_client(self, cluster: Cluster, namespace: str) -> None:
        manifest = client_manifest(namespace, self.mesh.toolbox.images["client"])
        cluster.kube.apply(PodSettings.of(self.mesh, cluster).applied_to(manifest))
        self._await_ready(cluster, namespace, CLIENT_POD)

    def _await_ready(self, cluster: Cluster, namespace: str, name: str) -> None:
        deployment_ready(cluster.kube, namespace, name, timeout_s=READY_S, aborted=self.aborted)

    def _apply_all(self, cluster: Cluster, manifests: tuple[Json, ...]) -> None:
        """Apply in parallel: objects of one step do not depend on each other's order."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            for _ in pool.map(cluster.kube.apply, manifests):
                pass


def remote_secret_name(cluster: Cluster) -> str:
    """As istioctl names it (istioctl/pkg/multicluster/remote_secret.go, `remoteSecretPrefix`)."""
    return f"istio-remote-secret-{cluster}"


def _unless_webhook_fails(do: Callable[[], object]) -> Callable[[], object]:
    def attempt() -> object:
        try:
            return do()
        except ApiError as problem:
            if "failed calling webhook" in problem.reason:
                raise NotYet(problem.reason) from None
            raise

    return attempt
