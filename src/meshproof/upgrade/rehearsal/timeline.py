"""A rehearsal as one page of Markdown, for a change request: steps, versions, requests, claims."""

from __future__ import annotations

from collections.abc import Iterator

from meshproof.load.history import clock
from meshproof.upgrade.rehearsal.judge import problems_of
from meshproof.upgrade.rehearsal.run import Rehearsal, StepResult


def page(rehearsal: Rehearsal) -> str:
    """The whole page."""
    return "\n".join([*_head(rehearsal), "", *_table(rehearsal), "", *_versions(rehearsal), *_wrong(rehearsal)]) + "\n"


def _head(rehearsal: Rehearsal) -> Iterator[str]:
    requests = sum(len(stage.requests) for stage in rehearsal.results)
    lost = sum(len(stage.lost) for stage in rehearsal.results)
    by_default = sum(len(stage.lost_by_default) for stage in rehearsal.results)
    proven = [stage for stage in rehearsal.results if stage.claims is not None]
    red = sorted({code for stage in proven if stage.claims for code in stage.claims.red})
    yield f"# Istio {rehearsal.old.version} to {rehearsal.new.version}, {rehearsal.way}: {rehearsal.mesh.topology.name}"
    yield ""
    clusters = ", ".join(f"{c.name} ({c.spec.role}, {c.network})" for c in rehearsal.mesh.clusters)
    yield f"- clusters: {clusters}"
    yield f"- steps: {len(rehearsal.results)} of {len(rehearsal.results) + len(rehearsal.untaken)}, the way back included"
    yield (
        f"- requests under way: {requests}; lost with resilient settings (docs/failover.md): {lost}, "
        f"with Istio's defaults: {by_default}"
    )
    told = f"{', '.join(red)} red" if red else "all hold"
    yield f"- all claims that break nothing, after {len(proven)} steps: {told}"


def _table(rehearsal: Rehearsal) -> Iterator[str]:
    yield "| step | at | took | well after | requests | lost | lost with defaults | slowest | claims |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for number, stage in enumerate(rehearsal.results, start=1):
        name = f"{number}. {stage.step.name}" + (" (rollback)" if stage.step.back else "")
        well = "never" if stage.healthy_s is None else f"{stage.healthy_s:.1f} s"
        yield (
            f"| {name} | {clock(stage.begin.wall)} | {stage.done_s:.1f} s | {well} | {len(stage.requests)} "
            f"| {len(stage.lost)} | {len(stage.lost_by_default)} | {stage.summary.longest_s:.2f} s | {_claims(stage)} |"
        )
    for number, step in enumerate(rehearsal.untaken, start=len(rehearsal.results) + 1):
        yield f"| {number}. {step.name} | not taken | | | | | | | |"


def _claims(stage: StepResult) -> str:
    if stage.claims is None:
        return "" if not stage.step.proven else "not run"
    red = stage.claims.red
    return f"{', '.join(red)} red" if red else f"{len(stage.claims.held)} hold"


def _versions(rehearsal: Rehearsal) -> Iterator[str]:
    """Only where something has changed."""
    yield "## Versions after each step"
    yield ""
    yield f"| step | {' | '.join(str(cluster.name) for cluster in rehearsal.mesh.clusters)} |"
    yield f"|---|{'---|' * len(rehearsal.mesh.clusters)}"
    for number, stage in enumerate(rehearsal.results, start=1):
        if stage.components:
            cells = [str(stage.components[cluster.name]) for cluster in rehearsal.mesh.clusters]
            yield f"| {number} | {' | '.join(cells)} |"
    yield ""


def _wrong(rehearsal: Rehearsal) -> Iterator[str]:
    found = [
        f"- {number}. {stage.step.name}: {problem}"
        for number, stage in enumerate(rehearsal.results, start=1)
        for problem in problems_of(stage, seen=False)
    ]
    yield "## What was wrong"
    yield ""
    yield from found or ["- nothing"]
