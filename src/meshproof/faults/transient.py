"""Faults for a while: told when it struck and when it healed, on record before, taken back by what the record says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meshproof.core.concurrency import together
from meshproof.core.errors import NotReady, Unavailable
from meshproof.faults.journal import Entry, Journal
from meshproof.faults.undo import take_back
from meshproof.load.history import Mark
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.objects import cluster_uid

Undo = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Strike:
    """When a part was told to die, was gone, was told to heal, and was back; `what` names part and fault.

    `back` stays None where a part of the mesh does not come back; then `not_back` says what is known of it.
    """

    what: str
    told: Mark
    gone: Mark | None = None
    heal: Mark | None = None
    back: Mark | None = None
    not_back: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every fault needs: the mesh, the record, and the machines where they are ours."""

    mesh: Mesh
    journal: Journal
    links: MachineControl | None

    def machines(self, what: str) -> MachineControl:
        """Raises `Unavailable` where the machines are not ours: the claim is skipped with this reason."""
        if self.links is None:
            raise Unavailable(what, "only the lab can do this to its machines", "use --provider=lab")
        return self.links


@contextmanager
def strike(
    bench: Bench,
    fault: str,
    what: str,
    undos: Sequence[tuple[Cluster, Undo]],
    inflict: Callable[[], object],
    *,
    machine: bool = False,
) -> Iterator[Strike]:
    """Write down how to take it back, inflict it, and take it back on the way out, whatever happened inside.

    The undos are those of `meshproof.faults.undo`, done last one first; `machine` says that they need no API server to
    tell whose they are, and do not depend on each other: they are done all at once. A part of the mesh that does not
    come back is for claims to judge, and stays on record; a machine that does not is our trouble: raises `NotReady`.
    """
    entries = [(cluster, _record(bench, fault, cluster, undo, machine=machine)) for cluster, undo in undos]
    struck = Strike(what=what, told=Mark.now())

    def heal(item: tuple[Cluster, Entry]) -> None:
        cluster, entry = item
        take_back(bench.mesh, cluster, entry.undo, bench.links)
        bench.journal.healed(entry)

    try:
        inflict()
        struck.gone = Mark.now()
        yield struck
    finally:
        struck.heal = Mark.now()
        try:
            together(heal, reversed(entries), width=len(entries) if machine else 1)
            struck.back = Mark.now()
        except NotReady as problem:
            if machine:
                raise
            struck.not_back = str(problem)


def _record(bench: Bench, fault: str, cluster: Cluster, undo: Undo, *, machine: bool) -> Entry:
    uid = bench.machines(fault).identity if machine else cluster_uid(cluster.kube)
    return bench.journal.record(fault=fault, cluster=cluster.name, cluster_uid=uid, undo=undo)
