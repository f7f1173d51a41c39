"""The catalogue of faults, by what they break. The sensitivity run includes every fault in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshproof.core.errors import BadInput
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
    for candidate in FAULTS:
        if candidate.id.lower() == identifier.lower():
            return candidate
    raise BadInput(
        f"fault {identifier}", "there is no fault with this ID", f"use one of {', '.join(f.id for f in FAULTS)}"
    )


def chosen(identifiers: str) -> Iterator[Fault]:
    """The faults of a comma-separated list. Raises `BadInput` as above."""
    return iter([fault(part.strip()) for part in identifiers.split(",") if part.strip()])
