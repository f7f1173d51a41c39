"""The least that a whole run must have asserted: a claim that vanished must not make a run green."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshproof.claims.claim import Claim, not_applicable
from meshproof.claims.results import Ledger, Result
from meshproof.core.model import Topology

FLOOR: Final = (
    "TRUST-01",
    "TRUST-02",
    "TRUST-03",
    "TRUST-04",
    "TRUST-05",
    "TRUST-06",
    "TRUST-07",
    "TRUST-08",
    "TRUST-09",
    "DISCOVERY-01",
    "DISCOVERY-02",
    "DISCOVERY-03",
    "DISCOVERY-04",
    "DISCOVERY-05",
    "DISCOVERY-06",
    "DISCOVERY-07",
    "DISCOVERY-08",
    "DISCOVERY-09",
    "GATEWAYS-01",
    "GATEWAYS-02",
    "GATEWAYS-03",
    "GATEWAYS-04",
    "GATEWAYS-05",
    "GATEWAYS-06",
    "GATEWAYS-07",
    "GATEWAYS-08",
    "GATEWAYS-09",
    "GATEWAYS-10",
    "CONTROL-01",
    "CONTROL-02",
    "CONTROL-03",
    "CONTROL-04",
    "CONTROL-05",
    "CONTROL-06",
    "CONTROL-07",
    "TRAFFIC-01",
    "TRAFFIC-02",
    "TRAFFIC-03",
    "TRAFFIC-04",
    "TRAFFIC-05",
    "TRAFFIC-06",
    "TRAFFIC-07",
    "TRAFFIC-08",
    "TRAFFIC-09",
    "TRAFFIC-10",
    "FAILOVER-01",
    "FAILOVER-02",
    "FAILOVER-03",
    "FAILOVER-04",
    "FAILOVER-05",
    "FAILOVER-06",
    "FAILOVER-07",
    "FAILOVER-08",
    "FAILOVER-09",
    "FAILOVER-10",
    "FAILOVER-11",
    "FAILOVER-12",
    "FAILOVER-13",
    "FAILOVER-14",
    "FAILOVER-15",
    "FAILOVER-16",
    "UPGRADE-01",
    "UPGRADE-02",
    "UPGRADE-03",
    "UPGRADE-04",
    "UPGRADE-05",
)
"""What a run over all suites must have; written down, since a list derived from the code would shrink with it."""


def shortfalls(ledger: Ledger, topologies: Iterable[Topology], claims: Iterable[Claim], *, whole: bool) -> list[str]:
    """Why a run that is green by its tests is not green all the same; empty if it is.

    `whole` tells that all suites were asked for; a run over a selection must only have asserted something at all.
    """
    by_code = {claim.code: claim for claim in claims}
    asserted = {(r.topology, r.code) for r in ledger if r.result in (Result.SUCCEEDED, Result.FAILED)}
    if not asserted:
        return ["nothing was asserted about any mesh"]
    if not whole:
        return []
    lines = []
    for topology in topologies:
        if not any(there == topology.name for there, _ in asserted):
            lines.append(f"{topology.name}: nothing was asserted")
            continue
        present = {result.code for result in ledger.of(topology.name)}
        missing = [code for code in FLOOR if code not in present and _applies(by_code.get(code), topology)]
        if missing:
            lines.append(f"{topology.name}: {len(missing)} claims are missing: {', '.join(missing)}")
    return lines


def _applies(claim: Claim | None, topology: Topology) -> bool:
    """A claim that is not even declared is missing everywhere."""
    return claim is None or not_applicable(claim, topology) is None
