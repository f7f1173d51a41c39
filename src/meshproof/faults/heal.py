"""Undoes faults from the journal alone, including those of a killed process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.concurrency import WIDTH, together
from meshproof.core.model import ClusterName
from meshproof.faults.istiod import STOP_ISTIOD
from meshproof.faults.journal import Entry, Journal
from meshproof.faults.undo import FIRST, apply_machine_undo, apply_undo
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.objects import cluster_uid


def heal_leftovers(mesh: Mesh, journal: Journal, machine_control: MachineControl | None = None) -> tuple[str, ...]:
    """Heal the faults that a killed run left in these clusters; returns a message for each.

    Entries of other clusters stay. Clusters are identified by UID, since those of another lab have the same names.
    """
    return tuple(
        f"healed {fault} on {', '.join(clusters)}, left by a killed run"
        for fault, clusters in heal(mesh, journal, machine_control).items()
    )


def heal(
    mesh: Mesh, journal: Journal, machine_control: MachineControl | None = None, *, only: Collection[str] = ()
) -> dict[str, list[str]]:
    """Undo every unhealed fault in these clusters, or `only` those with these IDs; returns the clusters by fault.

    Works on an unhealthy mesh.

    Order: machines; Secrets, since istiod may not start without its CA; other objects, newest change first; restarts,
    oldest first, so that istiod restarts before the workloads it signs for. Restarts of one scope run concurrently.
    """
    kubes = {cluster.name: cluster.kube for cluster in mesh.clusters}
    healed = heal_machines(kubes, journal, machine_control, only=only)
    here = {(str(cluster.name), cluster_uid(cluster.kube)): cluster for cluster in mesh.clusters}
    ours = [entry for entry in _unhealed(journal, only) if (entry.cluster, entry.cluster_uid) in here]

    def apply_one_undo(entry: Entry) -> None:
        apply_undo(mesh, here[entry.cluster, entry.cluster_uid], entry.undo, machine_control)
        journal.healed(entry)

    for scope, entries in groupby(in_healing_order(ours), key=lambda entry: entry.undo.get("scope")):
        group = list(entries)
        together(apply_one_undo, group, width=WIDTH if scope else 1)
        for entry in group:
            _note(entry, healed)
    return healed


def _unhealed(journal: Journal, only: Collection[str]) -> list[Entry]:
    return [entry for entry in journal.unhealed() if not only or entry.fault in only]


def heal_machines(
    kubes: Mapping[ClusterName, Kube],
    journal: Journal,
    machine_control: MachineControl | None,
    *,
    only: Collection[str] = (),
) -> dict[str, list[str]]:
    """Undo faults of our machines, newest first: until then their API servers may not respond."""
    healed: dict[str, list[str]] = {}
    names = {str(name): name for name in kubes}
    for entry in _unhealed(journal, only):
        if machine_control is not None and entry.cluster_uid == machine_control.identity and entry.cluster in names:
            name = names[entry.cluster]
            apply_machine_undo(name, kubes[name], entry.undo, machine_control)
            journal.healed(entry)
            _note(entry, healed)
    return healed


def _note(entry: Entry, healed: dict[str, list[str]]) -> None:
    where = healed.setdefault(entry.fault, [])
    if entry.cluster not in where:
        where.append(entry.cluster)


def stopped_by_a_killed_run(mesh: Mesh, journal: Journal) -> tuple[str, ...]:
    """The clusters whose istiod was stopped by a drill and has not been started again."""
    left = [entry for entry in journal.unhealed() if entry.fault == STOP_ISTIOD]
    if not left:
        return ()
    here = {(str(cluster.name), cluster_uid(cluster.kube)) for cluster in mesh.clusters}
    return tuple(dict.fromkeys(e.cluster for e in left if (e.cluster, e.cluster_uid) in here))


def in_healing_order(newest_first: Sequence[Entry]) -> list[Entry]:
    """Entries in the order in which `heal` undoes them."""
    first = [entry for entry in newest_first if entry.undo["do"] in FIRST]
    first.sort(key=_rank)
    later = [entry for entry in reversed(newest_first) if entry not in first]
    return first + later


def _rank(entry: Entry) -> int:
    """Secrets come first; of those, an added one is deleted before one of the same name is restored."""
    if entry.undo["do"] == "delete" and entry.undo.get("kind") == "Secret":
        return 0
    return 1 if entry.undo["do"] == "unkeep" else 2
