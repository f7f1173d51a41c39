"""What an upgrade consists of, move by move, as an operator does it: istioctl, and restarts of Deployments."""

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
"""The annotation of a pod template by which `kubectl rollout restart` has pods made anew."""
DEFAULT_TAG: Final = "default"
"""The tag that namespaces mean that are labelled `istio-injection=enabled` (istio.io, Canary Upgrades)."""


def install(plane: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl install` of that release: a control plane is made, or the one of that revision becomes it."""
    here = plane.mesh_of(mesh)
    build = Build(here)
    if not cluster.is_primary:
        build.await_addresses(here.control_plane_of(here.cluster(cluster.name)))
    build.install_control_plane(here.cluster(cluster.name))


def expose(planes: Iterable[ControlPlane], mesh: Mesh, primary: Cluster) -> None:
    """Let remotes reach the istiod of each of these revisions through the east-west gateway, by the name they call."""
    specs = [plane.topology_of(mesh).cluster(primary.name) for plane in planes]
    if mesh.topology.exposes_istiod(primary.spec):
        for manifest in istiod_exposed(specs):
            primary.kube.apply(manifest)


def set_tag(plane: ControlPlane, tool: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl tag set default`, with the istioctl of `tool`: new pods get their sidecar from that revision."""
    Build(tool.mesh_of(mesh)).istioctl(cluster).set_tag(DEFAULT_TAG, plane.revision)


def uninstall(plane: ControlPlane, tool: ControlPlane, mesh: Mesh, cluster: Cluster) -> None:
    """`istioctl uninstall --revision`: what belongs to that revision alone goes."""
    Build(tool.mesh_of(mesh)).istioctl(cluster).uninstall(plane.revision)


def restart_gateways(mesh: Mesh, cluster: Cluster) -> None:
    """`kubectl rollout restart` of every gateway of a cluster, one after the other."""
    for gateway in gateways_of(mesh.topology, cluster.spec):
        rollout_restart(cluster.kube, gateway.namespace, gateway.name)


def restart_workloads(cluster: Cluster) -> None:
    """The same of the demonstration service and the client in the mesh, at once."""
    pairs = [
        (names.APP_NAMESPACE, app_deployment_name(cluster.spec)),
        (names.CLIENT_NAMESPACE, names.CLIENT_POD),
    ]
    together(lambda pair: rollout_restart(cluster.kube, *pair), pairs)


def rollout_restart(kube: Kube, namespace: str, deployment: str) -> None:
    """Have the pods of a Deployment made anew, and wait until they are ready. Raises `NotReady` with their state."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    template = {"metadata": {"annotations": {RESTARTED: now}}}
    kube.merge_patch("Deployment", deployment, {"spec": {"template": template}}, namespace)
    deployment_ready(kube, namespace, deployment, timeout_s=READY_S)
