"""The minimum that a whole run must have asserted: a claim that vanished must not make a run green."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from meshproof.claims.claim import Claim, not_applicable
from meshproof.claims.results import WITHHELD, ClaimResult, Ledger, Result
from meshproof.core.model import Topology

REQUIRED: Final = {
    "TRUST": 9,
    "DISCOVERY": 9,
    "GATEWAYS": 10,
    "CONTROL": 7,
    "TRAFFIC": 10,
    "FAILOVER": 16,
    "UPGRADE": 5,
}
"""How many claims each family has, numbered from 1; written down, since a count of the code would shrink with it."""

FLOOR: Final = tuple(f"{family}-{number:02}" for family, count in REQUIRED.items() for number in range(1, count + 1))
"""What a run over all suites must have."""


def shortfalls(ledger: Ledger, topologies: Iterable[Topology], claims: Iterable[Claim], *, whole: bool) -> list[str]:
    """Why a run that is green by its tests is not green all the same; empty if it is.

    `whole` is whether all suites were selected; a run over a selection must only have asserted something at all.
    """
    by_code = {claim.code: claim for claim in claims}
    asserted = {(r.topology, r.code) for r in ledger if r.result in (Result.SUCCEEDED, Result.FAILED)}
    if not asserted:
        return ["nothing was asserted about any mesh"]
    lines = list(_unasked(ledger))
    if not whole:
        return lines
    for topology in topologies:
        if not any(there == topology.name for there, _ in asserted):
            lines.append(f"{topology.name}: nothing was asserted")
            continue
        present = {result.code for result in ledger.of(topology.name)}
        missing = [code for code in FLOOR if code not in present and _applies(by_code.get(code), topology)]
        if missing:
            lines.append(f"{topology.name}: {len(missing)} claims are missing: {', '.join(missing)}")
    return lines


def _unasked(ledger: Ledger) -> Iterator[str]:
    """Families of which every claim was skipped, for another reason than that the user has not allowed it."""
    for topology in ledger.topologies:
        families: dict[str, list[ClaimResult]] = {}
        for result in ledger.of(topology):
            if result.result is not Result.NOT_APPLICABLE:
                families.setdefault(result.family, []).append(result)
        for family, results in families.items():
            skipped = [r for r in results if r.result is Result.SKIPPED]
            others = [r for r in skipped if WITHHELD not in r.reason]
            if len(skipped) == len(results) and others:
                reasons = "; ".join(dict.fromkeys(r.reason for r in others))
                yield f"{topology}: nothing was asserted about {family}, {len(skipped)} skipped: {reasons}"


def _applies(claim: Claim | None, topology: Topology) -> bool:
    """A claim that is not even declared is missing everywhere."""
    return claim is None or not_applicable(claim, topology) is None
