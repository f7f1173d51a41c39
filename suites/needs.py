"""Needs of claims that the library does not define."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import Need

EAST_WEST: Final = Need(
    name="an east-west gateway",
    applies=lambda topology: any(topology.needs_east_west_gateway(cluster) for cluster in topology.clusters),
    otherwise="clusters reach pods and control planes without a gateway",
)
