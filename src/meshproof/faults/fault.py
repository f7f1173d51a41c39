"""A fault as a record, and injecting it: on record, seen to have come, healed, and seen to be well again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from meshproof.claims.claim import Family, Need
from meshproof.core.errors import Broken, NotReady
from meshproof.core.model import Topology
from meshproof.core.waiting import eventually
from meshproof.faults.editor import Scene
from meshproof.faults.heal import heal
from meshproof.faults.journal import Journal
from meshproof.health.mesh import must_be_well
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl

SHOWS_S: Final = 45.0
"""How long a fault may take until the mesh shows it; some wait for istiod's own time limit of 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a mesh.

    `sentence` says what is wrong, `seen` what a user sees, `source` where it was met. `kills` are the claims that must
    turn red, where they apply; `also` those that may, since the fault truly breaks them too. A fault that shows only
    when something dies is noticed by drills: of these only those are run that `kills`, `also` and `beside` name.
    `inject` does it, by way of its scene. `shows` raises `NotYet` until the mesh shows it, or `Prevented`; None where
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
    inject: Callable[[Scene], None] = field(repr=False)
    shows: Callable[[Scene], None] | None = field(default=None, repr=False)

    @property
    def drills(self) -> tuple[str, ...]:
        """The FAILOVER claims to be run; none for a fault that the other claims notice."""
        named = (*self.kills, *self.also, *self.beside)
        return named if any(code.startswith(Family.FAILOVER) for code in self.kills) else ()

    @property
    def journeys(self) -> tuple[str, ...]:
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
    scene = Scene(mesh, journal, fault.id, links)
    fault.inject(scene)
    shows = fault.shows
    if shows is None:
        return
    with suppress(NotReady):  # a quick look does not see everything: the suites look longer
        eventually(lambda: shows(scene), what=f"fault {fault.id} shows", timeout_s=SHOWS_S, poll_s=0.5)


@contextmanager
def injected(fault: Fault, mesh: Mesh, journal: Journal, links: MachineControl | None = None) -> Iterator[None]:
    """The mesh with the fault in it; healed on the way out, and proven well, whatever happened inside."""
    try:
        inject(fault, mesh, journal, links)
        yield
    finally:
        heal(mesh, journal, links)
        must_be_well(mesh)
