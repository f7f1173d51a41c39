"""Installing and removing the mesh of a topology on running clusters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from meshproof.clients.kubernetes.manifests import managed_by_meshproof
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually
from meshproof.install.executor import run_plan, undo_of
from meshproof.install.injection import RemoteEvidence
from meshproof.install.marker import write_markers
from meshproof.install.plan import plan_for
from meshproof.install.removal import leftovers
from meshproof.install.steps import Build
from meshproof.mesh.handles import Cluster, Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Observations made during an install, kept for claims; times are in seconds.

    `remotes` has one entry for each remote cluster, in the topology's order, and `steps_s` the duration of each step.
    """

    remotes: tuple[RemoteEvidence, ...]
    steps_s: Mapping[str, float]
    elapsed_s: float


def install_mesh(mesh: Mesh, narrator: Narrator) -> Installed:
    """Install the mesh of `mesh.topology` with the demonstration service and client pods; returns when all is ready.

    Existing objects are kept, so a partial install is completed. Raises `StepFailed` naming the step, or
    `BadInput` for a gateway in a namespace that is not ours, which would be removed with the mesh.
    """
    begin = time.monotonic()
    together(_refuse_foreign_namespaces, mesh.clusters)
    build = Build(mesh)
    steps_s = run_plan(plan_for(mesh, build), narrator, aborted=build.aborted)
    write_markers(mesh)
    return Installed(remotes=build.evidence(), steps_s=steps_s, elapsed_s=time.monotonic() - begin)


def uninstall_mesh(mesh: Mesh, narrator: Narrator) -> None:
    """Remove everything that an install of any topology created, in all clusters of `mesh` at once.

    Raises `StepFailed` naming the step, or `NotReady` listing what is left.
    """
    build = Build(mesh)
    run_plan(undo_of(plan_for(mesh, build)), narrator, aborted=build.aborted)
    with narrator.step("no leftovers"):
        eventually(lambda: _nothing_left(mesh), what="uninstall", timeout_s=30.0, poll_s=0.3)


def _refuse_foreign_namespaces(cluster: Cluster) -> None:
    for name in cluster.spec.mesh_namespaces[1:]:
        namespace = cluster.kube.find("Namespace", name)
        if namespace is not None and not managed_by_meshproof(namespace):
            raise BadInput(
                f"gateways of {cluster} in namespace {name}",
                "meshproof did not create that namespace, and would remove it with the mesh",
                "name another namespace in the topology file",
            )


def _nothing_left(mesh: Mesh) -> None:
    if found := leftovers(mesh):
        raise NotYet(f"{len(found)} objects are left: {', '.join(found[:20])}")
