"""Variants as data: legal meshes that differ from ours, on which every claim must hold; and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from meshproof.calibration.settling import settle
from meshproof.calibration.variants.legal_mesh import LegalMesh
from meshproof.core.errors import Broken
from meshproof.core.waiting import eventually
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.journal import Journal
from meshproof.mesh.handles import Mesh
from meshproof.mesh.machine_control import MachineControl

EFFECT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant(LegalMesh):
    """One legal difference that is made on a mesh that exists, and undone.

    `apply` makes it by way of its editor; `has_taken_effect` raises `NotYet` until it has, beyond the mesh being
    healthy and in sync. With `with_app` it includes a demonstration service that is part of the mesh; otherwise each
    run makes its own.
    """

    apply: Callable[[JournalledEditor], None] = field(repr=False)
    has_taken_effect: Callable[[JournalledEditor], None] | None = field(default=None, repr=False)
    with_app: bool = False


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
