"""How long a mesh works without its control plane: until workload certificates expire."""

from __future__ import annotations

from meshproof.core.deadlines import DEADLINES
from meshproof.failover.istiod_outage import Outage
from meshproof.failover.losses import lost
from meshproof.load.history import Window
from meshproof.workloads.short_lived_clients import ShortLived


def lost_until_end(outage: Outage, client: ShortLived) -> list[str]:
    """Requests of a client that were lost in the outage while its certificate was still valid."""
    window = Window(begin_s=outage.drill.down.begin_s, end_s=client.over.monotonic_s - 1)
    return lost(outage.drill.history, window, (client.source,))


def lost_once_renewed(outage: Outage, client: ShortLived) -> list[str]:
    """Requests of a client that were lost after its certificate was renewed; renewal must follow the outage."""
    drill = outage.drill
    if client.renewed_s is None or drill.moments.back is None:
        return [f"no new certificate within {DEADLINES.recovery_s:g} s of istiod being back"]
    window = Window(begin_s=drill.moments.back.monotonic_s + client.renewed_s, end_s=drill.whole.end_s)
    return lost(drill.history, window, (client.source,))


def autonomy(outage: Outage) -> dict[str, float]:
    """Figures for the report; see `meshproof.report.verdict`."""
    drill = outage.drill
    found: dict[str, float] = {}
    if outage.remaining:
        found["least_left_h"] = round(min(each.hours for each in outage.remaining.values()), 2)
    over = [
        request
        for each in outage.short_lived
        for request in drill.history.sent_in(
            Window(begin_s=each.over.monotonic_s, end_s=drill.down.end_s), sources=(each.source,)
        )
    ]
    found["without_certificate"] = len(over)
    found["without_certificate_lost"] = sum(request.is_bad for request in over)
    renewed = [each.renewed_s for each in outage.short_lived if each.renewed_s is not None]
    if renewed:
        found["renewed_s"] = round(max(renewed), 1)
    return found
