"""Transient faults: journalled before injection, timestamped, and always undone from the journal entry."""

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
    """Timestamps of a fault: injection began, it took effect (`gone`), undo began (`heal`), recovered (`back`).

    `what` names component and fault. If a component does not recover, `back` stays None and `not_back` has the reason.
    """

    what: str
    injected: Mark
    gone: Mark | None = None
    heal: Mark | None = None
    back: Mark | None = None
    not_back: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultContext:
    """What every fault needs: the mesh, the journal, and control of the machines where we have it."""

    mesh: Mesh
    journal: Journal
    machine_control: MachineControl | None

    def require_machine_control(self, what: str) -> MachineControl:
        """Raises `Unavailable` without control of the machines: the claim is skipped with this reason."""
        if self.machine_control is None:
            raise Unavailable(what, "it needs control of the machines, which only the lab has", "use --provider=lab")
        return self.machine_control


@contextmanager
def transient_fault(
    fault_context: FaultContext,
    fault: str,
    what: str,
    undos: Sequence[tuple[Cluster, Undo]],
    break_it: Callable[[], object],
    *,
    machine: bool = False,
) -> Iterator[TransientFault]:
    """Journal the undos, call `break_it`, and always apply the undos when the block ends.

    The undos are those of `meshproof.faults.undo`, applied in reverse order; those of machines need no API server and
    are independent of each other, so they run concurrently. If a mesh component does not recover, claims judge that,
    and the entry stays in the journal. If a machine does not, raises `NotReady`: that is a problem of our own.
    """
    entries = [(cluster, _record(fault_context, fault, cluster, undo, machine=machine)) for cluster, undo in undos]
    fault_times = TransientFault(what=what, injected=Mark.now())

    def heal(item: tuple[Cluster, Entry]) -> None:
        cluster, entry = item
        apply_undo(fault_context.mesh, cluster, entry.undo, fault_context.machine_control)
        fault_context.journal.healed(entry)

    try:
        break_it()
        fault_times.gone = Mark.now()
        yield fault_times
    finally:
        fault_times.heal = Mark.now()
        try:
            together(heal, reversed(entries), width=len(entries) if machine else 1)
            fault_times.back = Mark.now()
        except NotReady as problem:
            if machine:
                raise
            fault_times.not_back = str(problem)


def _record(fault_context: FaultContext, fault: str, cluster: Cluster, undo: Undo, *, machine: bool) -> Entry:
    uid = fault_context.require_machine_control(fault).identity if machine else cluster_uid(cluster.kube)
    return fault_context.journal.record(fault=fault, cluster=cluster.name, cluster_uid=uid, undo=undo)
