"""All legal meshes on which claims must hold: variants of ours, and installations by others."""

from __future__ import annotations

from typing import Final

from meshproof.calibration.installers.catalogue import INSTALLATIONS
from meshproof.calibration.variants import VARIANTS
from meshproof.calibration.variants.legal_mesh import LegalMesh

LEGAL_MESHES: Final[tuple[LegalMesh, ...]] = (*VARIANTS, *INSTALLATIONS)
