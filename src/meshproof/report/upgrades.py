"""An upgrade's report: a page, its history as a table and as a chart, and its figures."""

from __future__ import annotations

from meshproof.claims.evidence import Evidence
from meshproof.failover.proxy_logs import current_proxies, proxy_errors
from meshproof.report.chart import history_chart
from meshproof.report.upgrade_page import page
from meshproof.upgrade.rehearsal.run import Rehearsal


def attach_upgrade(evidence: Evidence, rehearsal: Rehearsal) -> None:
    """The page, CSV and SVG of the whole history, and figures by step."""
    clusters = [str(cluster.name) for cluster in rehearsal.mesh.clusters]
    requests = rehearsal.history.sent_in(rehearsal.window)
    panels = {name: [r for r in requests if r.source.startswith(f"{name} ")] for name in clusters}
    marks = [(result.begin.monotonic_s, str(number)) for number, result in enumerate(rehearsal.results, start=1)]
    title = f"{rehearsal.old.minor} to {rehearsal.new.minor}, {rehearsal.method} ({rehearsal.mesh.topology.name})"
    evidence.attach("timeline.md", page(rehearsal))
    evidence.attach("history.csv", rehearsal.history.as_csv())
    evidence.attach("history.svg", history_chart(title, panels, rehearsal.window, marks, clusters))
    if any(result.lost or result.lost_by_default for result in rehearsal.results):
        logged = proxy_errors(current_proxies(rehearsal.mesh))
        evidence.attach("proxies-logged", {proxy: [e.text for e in found] for proxy, found in logged.items()})
    for number, result in enumerate(rehearsal.results, start=1):
        figures: dict[str, float] = {"took_s": round(result.done_s, 1), "requests": len(result.requests)}
        figures |= {
            "lost": len(result.lost),
            "lost_by_default": len(result.lost_by_default),
            "slowest_s": round(result.summary.longest_s, 2),
        }
        if result.healthy_s is not None:
            figures["healthy_s"] = round(result.healthy_s, 1)
        if result.claims is not None:
            figures["claims_s"] = round(result.claims.seconds, 1)
        evidence.figures[f"{number}. {result.step.name}"] = figures
