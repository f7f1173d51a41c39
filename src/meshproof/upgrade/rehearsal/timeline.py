"""A journey as one page of Markdown, for a change request: steps, versions, requests, claims."""

from __future__ import annotations

from collections.abc import Iterator

from meshproof.load.history import clock
from meshproof.upgrade.rehearsal.judge import problems_of
from meshproof.upgrade.rehearsal.run import Journey, Stage


def page(journey: Journey) -> str:
    """The whole page."""
    return "\n".join([*_head(journey), "", *_table(journey), "", *_versions(journey), *_wrong(journey)]) + "\n"


def _head(journey: Journey) -> Iterator[str]:
    requests = sum(len(stage.requests) for stage in journey.stages)
    lost = sum(len(stage.lost) for stage in journey.stages)
    by_default = sum(len(stage.lost_by_default) for stage in journey.stages)
    proven = [stage for stage in journey.stages if stage.claims is not None]
    red = sorted({code for stage in proven if stage.claims for code in stage.claims.red})
    yield f"# Istio {journey.old.version} to {journey.new.version}, {journey.way}: {journey.mesh.topology.name}"
    yield ""
    clusters = ", ".join(f"{c.name} ({c.spec.role}, {c.network})" for c in journey.mesh.clusters)
    yield f"- clusters: {clusters}"
    yield f"- steps: {len(journey.stages)} of {len(journey.stages) + len(journey.untaken)}, the way back included"
    yield (
        f"- requests under way: {requests}; lost with careful settings (docs/failover.md): {lost}, "
        f"with Istio's defaults: {by_default}"
    )
    told = f"{', '.join(red)} red" if red else "all hold"
    yield f"- all claims that break nothing, after {len(proven)} steps: {told}"


def _table(journey: Journey) -> Iterator[str]:
    yield "| step | at | took | well after | requests | lost | lost with defaults | slowest | claims |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for number, stage in enumerate(journey.stages, start=1):
        name = f"{number}. {stage.step.name}" + (" (rollback)" if stage.step.back else "")
        well = "never" if stage.well_s is None else f"{stage.well_s:.1f} s"
        yield (
            f"| {name} | {clock(stage.begin.wall)} | {stage.done_s:.1f} s | {well} | {len(stage.requests)} "
            f"| {len(stage.lost)} | {len(stage.lost_by_default)} | {stage.summary.longest_s:.2f} s | {_claims(stage)} |"
        )
    for number, step in enumerate(journey.untaken, start=len(journey.stages) + 1):
        yield f"| {number}. {step.name} | not taken | | | | | | | |"


def _claims(stage: Stage) -> str:
    if stage.claims is None:
        return "" if not stage.step.proven else "not run"
    red = stage.claims.red
    return f"{', '.join(red)} red" if red else f"{len(stage.claims.held)} hold"


def _versions(journey: Journey) -> Iterator[str]:
    """Only where something has changed."""
    yield "## Versions after each step"
    yield ""
    yield f"| step | {' | '.join(str(cluster.name) for cluster in journey.mesh.clusters)} |"
    yield f"|---|{'---|' * len(journey.mesh.clusters)}"
    for number, stage in enumerate(journey.stages, start=1):
        if stage.components:
            cells = [str(stage.components[cluster.name]) for cluster in journey.mesh.clusters]
            yield f"| {number} | {' | '.join(cells)} |"
    yield ""


def _wrong(journey: Journey) -> Iterator[str]:
    found = [
        f"- {number}. {stage.step.name}: {problem}"
        for number, stage in enumerate(journey.stages, start=1)
        for problem in problems_of(stage, seen=False)
    ]
    yield "## What was wrong"
    yield ""
    yield from found or ["- nothing"]
