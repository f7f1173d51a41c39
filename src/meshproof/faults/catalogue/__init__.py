"""Every fault, by what it breaks. A new one is a record here; the sensitivity run takes it from here."""

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
    """The fault of that id, whatever the case. Raises `BadInput` with the legal ones."""
    for candidate in FAULTS:
        if candidate.id.lower() == identifier.lower():
            return candidate
    raise BadInput(f"fault {identifier}", "there is none of that id", f"use one of {', '.join(f.id for f in FAULTS)}")


def chosen(identifiers: str) -> Iterator[Fault]:
    """The faults of a list with commas. Raises `BadInput` as above."""
    return iter([fault(part.strip()) for part in identifiers.split(",") if part.strip()])
