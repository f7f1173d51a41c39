"""The actions of an upgrade, as an operator performs them: istioctl commands and restarts of Deployments."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.clients.kubernetes.rollout import deployment_ready
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.install.gateways import gateways_of, istiod_exposed
from meshproof.install.steps import READY_S, Build
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.upgrade.rehearsal.control_plane import ControlPlane
from meshproof.workloads.app import app_deployment_name

RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"
"""The pod template annotation that `kubectl rollout restart` sets."""
DEFAULT_TAG: Final = "default"
"""The tag for namespaces with label `istio-injection=enabled` (istio.io, Canary Upgrades)."""


def install(plane: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl install` of that release: creates a control plane, or upgrades the one of that revision."""
    here = plane.mesh_of(mesh)
    build = Build(here)
    if not cluster.is_primary:
        build.await_addresses(here.control_plane_of(here.cluster(cluster.name)))
    build.install_control_plane(here.cluster(cluster.name))


def expose(planes: Iterable[ControlPlane], mesh: Mesh, primary: Cluster) -> None:
    """Expose the istiod of each of these revisions through the east-west gateway, under the name remotes use."""
    specs = [plane.topology_of(mesh).cluster(primary.name) for plane in planes]
    if mesh.topology.exposes_istiod(primary.spec):
        for manifest in istiod_exposed(specs):
            primary.kube.apply(manifest)


def set_tag(plane: ControlPlane, tool: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl tag set default`, with the istioctl of `tool`: new pods get their sidecar from that revision."""
    Build(tool.mesh_of(mesh)).istioctl(cluster).set_tag(DEFAULT_TAG, plane.revision)


def uninstall(plane: ControlPlane, tool: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl uninstall --revision`: removes what belongs to that revision alone."""
    Build(tool.mesh_of(mesh)).istioctl(cluster).uninstall(plane.revision)


def restart_gateways(mesh: Mesh, cluster: Cluster) -> None:
    """`kubectl rollout restart` of every gateway of a cluster, one after the other."""
    for gateway in gateways_of(mesh.topology, cluster.spec):
        rollout_restart(cluster.kube, gateway.namespace, gateway.name)


def restart_workloads(cluster: Cluster) -> None:
    """The same for the demonstration service and the client in the mesh, concurrently."""
    pairs = [
        (names.APP_NAMESPACE, app_deployment_name(cluster.spec)),
        (names.CLIENT_NAMESPACE, names.CLIENT_POD),
    ]
    together(lambda pair: rollout_restart(cluster.kube, *pair), pairs)


def rollout_restart(kube: Kube, namespace: str, deployment: str) -> None:
    """Restart a Deployment and wait until its pods are ready. Raises `NotReady` with their state."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    template = {"metadata": {"annotations": {RESTARTED: now}}}
    kube.merge_patch("Deployment", deployment, {"spec": {"template": template}}, namespace)
    deployment_ready(kube, namespace, deployment, timeout_s=READY_S)
