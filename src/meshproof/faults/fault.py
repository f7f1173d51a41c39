"""A fault as a record, and injecting it: on record, seen to have come, healed, and seen to be healthy again.

`mesh_is_unhealthy` and `stays` are how a fault has_taken_effect: checks that raise `NotYet` until it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from meshproof.claims.claim import Family, Need
from meshproof.clients.kubernetes.client import Json
from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.model import Topology
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.editor import JournalledEditor, Prevented
from meshproof.faults.heal import heal
from meshproof.faults.journal import Journal
from meshproof.health.mesh import health_problems, must_be_healthy
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl

EFFECT_S: Final = 45.0
"""How long a fault may take until the mesh shows it; some wait for istiod's own time limit of 30 s."""
REPAIR_S: Final = 3.0
"""How long a changed object must stay changed: istiod puts its own objects back within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a mesh.

    `sentence` says what is wrong, `seen` what a user sees, `source` where it was met. `kills` are the claims that must
    turn red, where they apply; `also` those that may, since the fault truly breaks them too. A fault that shows only
    when something dies is noticed by drills: of these only those are run that `kills`, `also` and `beside` name.
    `inject` does it, by way of its editor. `shows` raises `NotYet` until the mesh shows it, or `Prevented`; None where
    nothing shows it. `note` says what the pinned Istio makes of it.
    """

    id: str
    sentence: str
    seen: str
    source: str
    kills: tuple[str, ...]
    also: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    note: str = ""
    inject: Callable[[JournalledEditor], None] = field(repr=False)
    has_taken_effect: Callable[[JournalledEditor], None] | None = field(default=None, repr=False)

    @property
    def drills(self) -> tuple[str, ...]:
        """The FAILOVER claims to be run; none for a fault that the other claims notice."""
        named = (*self.kills, *self.also, *self.beside)
        return named if any(code.startswith(Family.FAILOVER) for code in self.kills) else ()

    @property
    def rehearsals(self) -> tuple[str, ...]:
        """The UPGRADE claims that make an upgrade; none for a fault that shows before it."""
        named = (*self.kills, *self.also)
        made = tuple(code for code in named if code.startswith(Family.UPGRADE) and code != "UPGRADE-01")
        return made if set(made) & set(self.kills) else ()

    @property
    def before_upgrade(self) -> bool:
        """Whether it shows in an upgrade only, so that it must be asked whether the mesh is ready for one."""
        return "UPGRADE-01" in self.kills

    def not_here(self, topology: Topology) -> str | None:
        """Why the fault cannot be had on this topology, or None."""
        for need in self.needs:
            if not need.applies(topology):
                return need.otherwise
        return None


def inject(fault: Fault, mesh: Mesh, journal: Journal, links: MachineControl | None = None) -> None:
    """Break the mesh, and return when it shows, or should have. What was done is in the journal, for `heal`.

    Raises `Prevented` if it is refused or put right at once, `Unavailable` if the provider cannot, `Broken` if the
    topology cannot have it.
    """
    if reason := fault.not_here(mesh.topology):
        raise Broken(f"fault {fault.id} on {mesh.topology.name}", reason, "see `meshproof fault list`")
    editor = JournalledEditor(mesh, journal, fault.id, links)
    fault.inject(editor)
    shows = fault.has_taken_effect
    if shows is None:
        return
    with suppress(NotReady):  # a quick look does not see everything: the suites look longer
        eventually(lambda: shows(editor), what=f"fault {fault.id} shows", timeout_s=EFFECT_S, poll_s=0.5)


@contextmanager
def injected(fault: Fault, mesh: Mesh, journal: Journal, links: MachineControl | None = None) -> Iterator[None]:
    """The mesh with the fault in it; healed on the way out, and proven healthy, whatever happened inside."""
    try:
        inject(fault, mesh, journal, links)
        yield
    finally:
        heal(mesh, journal, links)
        must_be_healthy(mesh)


def mesh_is_unhealthy(editor: JournalledEditor) -> None:
    """A quick look at the mesh finds something wrong."""
    try:
        found = health_problems(editor.mesh)
    except ClaimFailed:
        return
    if not found:
        raise NotYet("a quick look finds nothing wrong: endpoints, requests, ports, injection, sync")


def stays(editor: JournalledEditor) -> None:
    """What the fault changed last stays changed. Raises `Prevented` if somebody puts it right."""
    cluster, kind, name, namespace, wrong = editor.last_change
    begin = time.monotonic()
    while (left := begin + REPAIR_S - time.monotonic()) > 0:
        found = cluster.kube.find(kind, name, namespace)
        if found is None or essence(found) != essence(wrong):
            took = time.monotonic() - begin
            raise Prevented(f"{kind} {name} on {cluster} was put right by the control plane within {took:.1f} s")
        for _ in cluster.kube.changes_of(kind, name, namespace, found, timeout_s=max(left, 1.0)):
            break


def essence(thing: Json) -> Json:
    """An object without what changes by itself."""
    return {key: value for key, value in thing.items() if key not in ("metadata", "status", "apiVersion", "kind")}
