"""The catalogue of faults, by what they break. The sensitivity run includes every fault in it."""

from __future__ import annotations

from typing import Final

from meshproof.core.identifiers import find_all_by_id, find_by_id
from meshproof.faults.catalogue.discovery import DISCOVERY
from meshproof.faults.catalogue.failover import FAILOVER
from meshproof.faults.catalogue.gateways import GATEWAYS
from meshproof.faults.catalogue.injection import INJECTION
from meshproof.faults.catalogue.network import NETWORK
from meshproof.faults.catalogue.policy import POLICY
from meshproof.faults.catalogue.trust import TRUST
from meshproof.faults.catalogue.upgrade import UPGRADE
from meshproof.faults.fault import Fault

FAULTS: Final[tuple[Fault, ...]] = (*TRUST, *DISCOVERY, *NETWORK, *GATEWAYS, *INJECTION, *POLICY, *FAILOVER, *UPGRADE)


def fault(identifier: str) -> Fault:
    """The fault with this ID, in any case. Raises `BadInput` with the valid IDs."""
    return find_by_id("fault", FAULTS, identifier)


def chosen(identifiers: str) -> tuple[Fault, ...]:
    """The faults of a comma-separated list. Raises `BadInput` as above."""
    return find_all_by_id("fault", FAULTS, identifiers)
