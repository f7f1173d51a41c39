"""What an upgrade leaves in a report: a page, its history as a table and as a chart, and its figures."""

from __future__ import annotations

from meshproof.claims.evidence import Evidence
from meshproof.report.chart import history_chart
from meshproof.report.proxy_logs import proxy_errors
from meshproof.upgrade.baseline.compare import Comparison
from meshproof.upgrade.baseline.render import told
from meshproof.upgrade.rehearsal.run import Journey
from meshproof.upgrade.rehearsal.timeline import page


def attach(evidence: Evidence, journey: Journey) -> None:
    """The page, CSV and SVG of the whole history, and figures by step."""
    clusters = [str(cluster.name) for cluster in journey.mesh.clusters]
    requests = journey.history.sent_in(journey.window)
    panels = {name: [r for r in requests if r.source.startswith(f"{name} ")] for name in clusters}
    marks = [(stage.begin.monotonic_s, str(number)) for number, stage in enumerate(journey.stages, start=1)]
    title = f"{journey.old.minor} to {journey.new.minor}, {journey.way} ({journey.mesh.topology.name})"
    evidence.attach("timeline.md", page(journey))
    evidence.attach("history.csv", journey.history.as_csv())
    evidence.attach("history.svg", history_chart(title, panels, journey.window, marks, clusters))
    if any(stage.lost or stage.lost_by_default for stage in journey.stages) and (errors := proxy_errors(journey.mesh)):
        evidence.attach("proxies-logged", errors)
    for number, stage in enumerate(journey.stages, start=1):
        figures: dict[str, float] = {"took_s": round(stage.done_s, 1), "requests": len(stage.requests)}
        figures |= {
            "lost": len(stage.lost),
            "lost_by_default": len(stage.lost_by_default),
            "slowest_s": round(stage.summary.longest_s, 2),
        }
        if stage.well_s is not None:
            figures["well_s"] = round(stage.well_s, 1)
        if stage.claims is not None:
            figures["claims_s"] = round(stage.claims.seconds, 1)
        evidence.figures[f"{number}. {stage.step.name}"] = figures


def changes(comparison: Comparison) -> str:
    """A comparison in words."""
    return told(comparison)
