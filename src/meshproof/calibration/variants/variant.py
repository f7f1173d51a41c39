"""Variants as data: legal meshes that differ from ours, on which every claim must hold; and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from meshproof.calibration.settling import settle
from meshproof.claims.claim import Need
from meshproof.core.errors import Broken
from meshproof.core.model import Topology
from meshproof.core.waiting import eventually
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.journal import Journal
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl

EFFECT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Claims that a variant legitimately keeps from being proven, and the words that their reason must have: those that
    name the setting."""

    codes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One legal difference between meshes.

    `sentence` states it, `legal` is where Istio or Kubernetes documents it. `apply` makes it by way of its editor;
    `has_taken_effect` raises `NotYet` until it has, beyond the mesh being healthy and in sync. `skips` are the claims
    that cannot be proven on it. `still_kills` are faults that must be detected on top of it: those that a suite which
    tolerates the variant too generously would miss. With `with_app` it includes a demonstration service that is part
    of the mesh; otherwise each run makes its own.
    """

    id: str
    sentence: str
    legal: str
    apply: Callable[[JournalledEditor], None] = field(repr=False)
    has_taken_effect: Callable[[JournalledEditor], None] | None = field(default=None, repr=False)
    needs: tuple[Need, ...] = ()
    skips: tuple[Skip, ...] = ()
    still_kills: tuple[str, ...] = ()
    with_app: bool = False

    def not_here(self, topology: Topology) -> str | None:
        """Why the variant does not apply to this topology, or None."""
        return next((need.otherwise for need in self.needs if not need.applies(topology)), None)

    def reason_to_skip(self, code: str) -> str | None:
        """What the reason must say if this claim is skipped; None if it must not be skipped."""
        return next((skip.reason for skip in self.skips if code in skip.codes), None)


def apply_variant(
    variant: Variant, mesh: Mesh, journal: Journal, machine_control: MachineControl | None = None
) -> None:
    """Make the variant and wait until it has taken effect and the mesh has settled. The journal has the changes, for
    `heal`.

    Raises `Prevented` if a change is rejected, `NotReady` if it has no effect or the mesh does not settle, `Broken` if
    it does not apply to the topology.
    """
    if reason := variant.not_here(mesh.topology):
        raise Broken(f"variant {variant.id} on {mesh.topology.name}", reason, "choose another: meshproof variant list")
    editor = JournalledEditor(mesh, journal, variant.id, machine_control)
    variant.apply(editor)
    has_taken_effect = variant.has_taken_effect
    if has_taken_effect is not None:
        eventually(
            lambda: has_taken_effect(editor),
            what=f"variant {variant.id} has taken effect",
            timeout_s=EFFECT_S,
            poll_s=0.5,
        )
    settle(mesh)
