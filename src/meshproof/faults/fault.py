"""Faults as data, and their injection.

`mesh_is_unhealthy` and `stays` are for `Fault.has_taken_effect`: checks that raise `NotYet` until it has.
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
"""How long a fault may take to have an effect; some depend on istiod's own timeout of 30 s."""
REPAIR_S: Final = 3.0
"""How long a changed object must stay changed: istiod restores its own objects within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One defect of a mesh.

    `sentence` states the defect, `seen` its symptom for users, `source` where it is known from. `kills` are the claims
    that must turn red where they apply; `also` those that may, since the fault breaks them too. A fault without
    symptoms until a component fails is detected by drills: only those in `kills`, `also` and `shares_drill_with` run.
    `inject` causes it by way of its editor. `has_taken_effect` raises `NotYet` until it has, or `Prevented`; None if
    there is no quick check for it. `note` describes the behaviour of the pinned Istio version.
    """

    id: str
    sentence: str
    seen: str
    source: str
    kills: tuple[str, ...]
    also: tuple[str, ...] = ()
    shares_drill_with: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    note: str = ""
    inject: Callable[[JournalledEditor], None] = field(repr=False)
    has_taken_effect: Callable[[JournalledEditor], None] | None = field(default=None, repr=False)

    @property
    def drills(self) -> tuple[str, ...]:
        """The FAILOVER claims to run; none for a fault that other claims detect."""
        named = (*self.kills, *self.also, *self.shares_drill_with)
        return named if any(code.startswith(Family.FAILOVER) for code in self.kills) else ()

    @property
    def rehearsals(self) -> tuple[str, ...]:
        """The UPGRADE claims to run that perform an upgrade; none for a fault that is detected before it."""
        named = (*self.kills, *self.also)
        made = tuple(code for code in named if code.startswith(Family.UPGRADE) and code != "UPGRADE-01")
        return made if set(made) & set(self.kills) else ()

    @property
    def before_upgrade(self) -> bool:
        """Whether the check before an upgrade must detect it, so that a target version is needed."""
        return "UPGRADE-01" in self.kills

    def not_here(self, topology: Topology) -> str | None:
        """Why the fault does not apply to this topology, or None."""
        for need in self.needs:
            if not need.applies(topology):
                return need.otherwise
        return None


def inject(fault: Fault, mesh: Mesh, journal: Journal, machine_control: MachineControl | None = None) -> None:
    """Inject the fault and wait until it takes effect, within a limit. The journal has the changes, for `heal`.

    Raises `Prevented` if the change is rejected or reverted at once, `Unavailable` if the provider does not support it,
    `Broken` if it does not apply to the topology.
    """
    if reason := fault.not_here(mesh.topology):
        raise Broken(f"fault {fault.id} on {mesh.topology.name}", reason, "choose another: meshproof fault list")
    editor = JournalledEditor(mesh, journal, fault.id, machine_control)
    fault.inject(editor)
    has_taken_effect = fault.has_taken_effect
    if has_taken_effect is None:
        return
    with suppress(NotReady):  # a quick check misses some effects; the suites check more
        eventually(
            lambda: has_taken_effect(editor), what=f"fault {fault.id} has taken effect", timeout_s=EFFECT_S, poll_s=0.5
        )


@contextmanager
def injected(
    fault: Fault, mesh: Mesh, journal: Journal, machine_control: MachineControl | None = None
) -> Iterator[None]:
    """The mesh with the fault injected; always healed and proven healthy afterwards."""
    try:
        inject(fault, mesh, journal, machine_control)
        yield
    finally:
        heal(mesh, journal, machine_control)
        must_be_healthy(mesh)


def mesh_is_unhealthy(editor: JournalledEditor) -> None:
    """A quick check of the mesh finds a problem."""
    try:
        found = health_problems(editor.mesh)
    except ClaimFailed:
        return
    if not found:
        raise NotYet("a quick check finds no problem in endpoints, requests, ports, injection or sync")


def stays(editor: JournalledEditor) -> None:
    """The fault's last change persists. Raises `Prevented` if it is reverted."""
    cluster, kind, name, namespace, wrong = editor.last_change
    begin = time.monotonic()
    while (left := begin + REPAIR_S - time.monotonic()) > 0:
        found = cluster.kube.find(kind, name, namespace)
        if found is None or essence(found) != essence(wrong):
            took = time.monotonic() - begin
            raise Prevented(f"{kind} {name} on {cluster} was restored by the control plane within {took:.1f} s")
        for _ in cluster.kube.changes_of(kind, name, namespace, found, timeout_s=max(left, 1.0)):
            break


def essence(thing: Json) -> Json:
    """The fields of an object that do not change by themselves."""
    return {key: value for key, value in thing.items() if key not in ("metadata", "status", "apiVersion", "kind")}
