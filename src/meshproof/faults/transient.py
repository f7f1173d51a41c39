"""Faults for a while: told when it struck and when it healed, on record before, taken back by what the record says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meshproof.core.concurrency import together
from meshproof.core.errors import NotReady, Unavailable
from meshproof.faults.journal import Entry, Journal
from meshproof.faults.undo import apply_undo
from meshproof.load.history import Mark
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.objects import cluster_uid

Undo = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class TransientFault:
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
class FaultContext:
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
def transient_fault(
    fault_context: FaultContext,
    fault: str,
    what: str,
    undos: Sequence[tuple[Cluster, Undo]],
    inject_it: Callable[[], object],
    *,
    machine: bool = False,
) -> Iterator[TransientFault]:
    """Write down how to take it back, inject_it it, and take it back on the way out, whatever happened inside.

    The undos are those of `meshproof.faults.undo`, done last one first; `machine` says that they need no API server to
    tell whose they are, and do not depend on each other: they are done all at once. A part of the mesh that does not
    come back is for claims to judge, and stays on record; a machine that does not is our trouble: raises `NotReady`.
    """
    entries = [(cluster, _record(fault_context, fault, cluster, undo, machine=machine)) for cluster, undo in undos]
    struck = TransientFault(what=what, told=Mark.now())

    def heal(item: tuple[Cluster, Entry]) -> None:
        cluster, entry = item
        apply_undo(fault_context.mesh, cluster, entry.undo, fault_context.links)
        fault_context.journal.healed(entry)

    try:
        inject_it()
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


def _record(fault_context: FaultContext, fault: str, cluster: Cluster, undo: Undo, *, machine: bool) -> Entry:
    uid = fault_context.machines(fault).identity if machine else cluster_uid(cluster.kube)
    return fault_context.journal.record(fault=fault, cluster=cluster.name, cluster_uid=uid, undo=undo)
