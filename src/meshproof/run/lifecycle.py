"""The mesh of a topology on the clusters of a run: prepared, found or installed, and removed or kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from meshproof.core.errors import BadInput, Broken, ClaimFailed
from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually
from meshproof.detect.compare import as_found, must_agree
from meshproof.faults.heal import heal_leftovers, stopped_by_a_killed_run
from meshproof.faults.journal import Journal
from meshproof.health.mesh import unanswered
from meshproof.install.attach import add_probes, attach_to_mesh, recognise, refuse_foreign_namespaces, remove_probes
from meshproof.install.control_planes import istiods_must_run
from meshproof.install.lifecycle import Installed, install_mesh, uninstall_mesh
from meshproof.install.marker import is_marked
from meshproof.install.mesh_rules import requests_must_be_allowed
from meshproof.install.own_namespaces import completed_namespaces
from meshproof.install.preflight import must_be_dialled_from_elsewhere, refuse_foreign, what_will_be_made
from meshproof.install.removal import leftovers
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.report.verdict import RunFacts
from meshproof.run.clusters import Clusters
from meshproof.run.settings import ALLOW_DISRUPTIVE, Settings
from meshproof.workloads.namespaces import MeshWideSettings


def connected_mesh(
    clusters: Clusters,
    topology: Topology,
    journal: Journal,
    settings: Settings,
    narrator: Narrator,
    facts: RunFacts,
) -> Mesh:
    """Handles on the clusters: networks connected for the topology, old faults healed, other meshes removed.

    With `--mesh=existing` they stay unchanged, except for an istiod that a killed run has stopped.
    Fills in `facts`. Raises `BadInput` if the clusters are not those of the topology.
    """
    accesses = clusters.provider.clusters
    if missing := {c.name for c in topology.clusters} - {access.name for access in accesses}:
        raise BadInput(
            f"topology {topology.name}",
            f"it needs cluster {', '.join(sorted(missing))}, there is {', '.join(a.name for a in accesses)}",
            "run it separately, or use the same cluster names in all topologies",
        )
    mesh = Mesh.of(topology, accesses, clusters.provider.toolbox)
    if not settings.installs:
        mesh = as_found(mesh, narrator)
    facts.count(cluster.kube for cluster in mesh.clusters)
    if settings.installs:
        if settings.attachment is not None:
            _announce(mesh, settings, narrator)
        for line in heal_leftovers(mesh, journal, clusters.provider.machine_control):
            narrator.say(line)
        if _is_foreign(mesh):
            with narrator.step("previous mesh removed"):
                uninstall_mesh(mesh, narrator)
        clusters.provider.connect(topology)
    elif settings.attachment is not None:
        _start_what_we_stopped(mesh, journal, settings, narrator)
    facts.provider = clusters.provider.name
    facts.istio, facts.data_plane = mesh.toolbox.istio_version, mesh.toolbox.data_plane
    facts.kubernetes = {c.name: str(c.kube.get("/version")["gitVersion"]) for c in mesh.clusters}
    return mesh


@contextmanager
def installed_mesh(
    clusters: Clusters, bare_mesh: Mesh, settings: Settings, narrator: Narrator, *, announce: bool = True
) -> Iterator[Installed]:
    """The observations of the install; for an existing mesh those of its current state, which is announced."""
    if settings.installs:
        clusters.mesh = bare_mesh
        with narrator.step(f"mesh {bare_mesh.topology.name}"):
            done = install_mesh(bare_mesh, narrator)
        with _completed(bare_mesh, MeshWideSettings.of(bare_mesh), narrator):
            yield done
        return
    if settings.attachment is not None:
        must_agree(bare_mesh, narrator, announce=announce)
        refuse_foreign_namespaces(bare_mesh)
    else:
        recognise(bare_mesh)
    istiods_must_run(bare_mesh)
    made = add_probes(bare_mesh, narrator)
    try:
        wide = MeshWideSettings.of(bare_mesh)
        with _completed(bare_mesh, wide, narrator):
            if made:
                requests_must_be_allowed(bare_mesh, wide)
            yield attach_to_mesh(bare_mesh)
    finally:
        remove_probes(made, narrator)


@contextmanager
def _completed(mesh: Mesh, wide: MeshWideSettings, narrator: Narrator) -> Iterator[None]:
    """Our namespaces with what the mesh's settings call for, and proxies that have it."""
    with completed_namespaces(mesh, wide, narrator) as added:
        if added:
            with narrator.step("the mesh follows"):
                _await_answers(mesh)
        yield


def _await_answers(mesh: Mesh) -> None:
    """Wait until requests pass as our namespaces' new settings say; if they never do, claims will say so.

    A connection obeys the policy under which it was opened until its listener is drained.
    """

    def check() -> None:
        if problems := list(unanswered(Snapshot.take(mesh))):
            raise NotYet("; ".join(problems))

    with suppress(Broken, ClaimFailed):
        eventually(check, what="requests pass", timeout_s=FOLLOWED_S, poll_s=1.0)


FOLLOWED_S: Final = 60.0
"""Proxies drain listeners for 45 s."""


def _start_what_we_stopped(mesh: Mesh, journal: Journal, settings: Settings, narrator: Narrator) -> None:
    """On existing clusters, end an outage that was not healed, or end the run."""
    left = stopped_by_a_killed_run(mesh, journal)
    if left and not settings.may_disrupt:
        raise BadInput(
            f"istiod of {', '.join(left)}",
            "a killed run has stopped it and not started it again",
            f"run with {ALLOW_DISRUPTIVE.flag}, which starts it first",
        )
    for line in heal_leftovers(mesh, journal) if left else ():
        narrator.say(line)


def _announce(mesh: Mesh, settings: Settings, narrator: Narrator) -> None:
    """On existing clusters, refuse to install over foreign objects, and announce what will be created."""
    refuse_foreign(mesh)
    must_be_dialled_from_elsewhere(mesh)
    for line in what_will_be_made(mesh.topology, keep=settings.keep):
        narrator.say(f"  {line}")


def _is_foreign(mesh: Mesh) -> bool:
    """Whether the clusters have a mesh other than exactly this topology's."""
    return not is_marked(mesh) and bool(leftovers(mesh))
