"""A drill's report: its history as a table and as a chart, and its figures."""

from __future__ import annotations

from meshproof.claims.evidence import Evidence
from meshproof.failover.drill import Drill
from meshproof.load.history import Window
from meshproof.report.chart import history_chart


def attach_drill(evidence: Evidence, drill: Drill, name: str) -> None:
    """CSV and SVG of the whole history, and figures by target."""
    moments = drill.moments
    assert moments.heal is not None
    assert moments.gone is not None
    clusters = [str(cluster.name) for cluster in drill.mesh.clusters]
    panels = {
        f"{cluster} {target.name}".strip(): drill.history.sent_in(
            drill.whole, sources=drill.of(cluster=cluster, target=target)
        )
        for cluster in clusters
        for target in dict.fromkeys(source.target for source in drill.sources)
    }
    marks = [(moments.injected.monotonic_s, "fault"), (moments.heal.monotonic_s, "healing")]
    if moments.gone.monotonic_s - moments.injected.monotonic_s > 1:
        marks.insert(1, (moments.gone.monotonic_s, "gone"))
    if moments.back is not None:
        marks.append((moments.back.monotonic_s, "back"))
    over_s = moments.back.monotonic_s if moments.back is not None else drill.whole.end_s
    outages = [Window(begin_s=moments.injected.monotonic_s, end_s=over_s)]
    title = f"{moments.what} ({drill.mesh.topology.name})"
    evidence.attach(f"{name}-history.csv", drill.history.as_csv())
    evidence.attach(f"{name}-history.svg", history_chart(title, panels, drill.whole, marks, clusters, outages))
    if logged := drill.attribution.logged:
        evidence.attach(f"{name}-proxies-logged", {proxy: [e.text for e in found] for proxy, found in logged.items()})
    for target in dict.fromkeys(source.target for source in drill.sources):
        label = f"{moments.what}, {target.name} settings" if target.name else moments.what
        evidence.figures[label] = drill.figures(drill.of(target=target))
