"""Variants: legal meshes that differ from ours, by what differs. The specificity run includes every one of them."""

from __future__ import annotations

from typing import Final

from meshproof.calibration.variants.admission import ADMISSION
from meshproof.calibration.variants.certificates import CERTIFICATES
from meshproof.calibration.variants.control_plane import CONTROL_PLANE
from meshproof.calibration.variants.east_west import EAST_WEST
from meshproof.calibration.variants.ingress import INGRESS
from meshproof.calibration.variants.locality import LOCALITY
from meshproof.calibration.variants.neighbours import NEIGHBOURS
from meshproof.calibration.variants.security import SECURITY
from meshproof.calibration.variants.variant import Variant
from meshproof.calibration.variants.visibility import VISIBILITY
from meshproof.core.identifiers import find_all_by_id, find_by_id

VARIANTS: Final[tuple[Variant, ...]] = (
    *SECURITY,
    *VISIBILITY,
    *LOCALITY,
    *CONTROL_PLANE,
    *INGRESS,
    *EAST_WEST,
    *CERTIFICATES,
    *ADMISSION,
    *NEIGHBOURS,
)


def variant(identifier: str) -> Variant:
    """The variant with this ID, in any case. Raises `BadInput` with the valid IDs."""
    return find_by_id("variant", VARIANTS, identifier)


def chosen_variants(identifiers: str) -> tuple[Variant, ...]:
    """The variants of a comma-separated list. Raises `BadInput` as above."""
    return find_all_by_id("variant", VARIANTS, identifiers)
