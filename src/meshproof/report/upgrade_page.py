"""A rehearsal as a Markdown page, for a change request: steps, versions, requests, claims."""

from __future__ import annotations

from collections.abc import Iterator

from meshproof.load.history import clock
from meshproof.upgrade.rehearsal.judge import problems_of
from meshproof.upgrade.rehearsal.run import Rehearsal, StepResult


def page(rehearsal: Rehearsal) -> str:
    """The whole page."""
    return (
        "\n".join([*_head(rehearsal), "", *_table(rehearsal), "", *_versions(rehearsal), *_problems(rehearsal)]) + "\n"
    )


def _head(rehearsal: Rehearsal) -> Iterator[str]:
    requests = sum(len(result.requests) for result in rehearsal.results)
    lost = sum(len(result.lost) for result in rehearsal.results)
    by_default = sum(len(result.lost_by_default) for result in rehearsal.results)
    proven = [result for result in rehearsal.results if result.claims is not None]
    red = sorted({code for result in proven if result.claims for code in result.claims.red})
    releases = f"{rehearsal.old.version} to {rehearsal.new.version}"
    yield f"# Istio {releases}, {rehearsal.method}: {rehearsal.mesh.topology.name}"
    yield ""
    clusters = ", ".join(f"{c.name} ({c.spec.role}, {c.network})" for c in rehearsal.mesh.clusters)
    yield f"- clusters: {clusters}"
    taken = len(rehearsal.results)
    yield f"- steps: {taken} of {taken + len(rehearsal.untaken)}, including the rollback"
    yield (
        f"- requests during the steps: {requests}; lost with resilience settings (docs/failover.md): {lost}, "
        f"with Istio's defaults: {by_default}"
    )
    outcome = f"{', '.join(red)} red" if red else "all hold"
    yield f"- all non-disruptive claims, after {len(proven)} steps: {outcome}"


def _table(rehearsal: Rehearsal) -> Iterator[str]:
    yield "| step | at | took | healthy after | requests | lost | lost with defaults | slowest | claims |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for number, result in enumerate(rehearsal.results, start=1):
        name = f"{number}. {result.step.name}" + (" (rollback)" if result.step.back else "")
        healthy = "never" if result.healthy_s is None else f"{result.healthy_s:.1f} s"
        yield (
            f"| {name} | {clock(result.begin.wall)} | {result.done_s:.1f} s | {healthy} "
            f"| {len(result.requests)} | {len(result.lost)} | {len(result.lost_by_default)} "
            f"| {result.summary.longest_s:.2f} s | {_claims(result)} |"
        )
    for number, step in enumerate(rehearsal.untaken, start=len(rehearsal.results) + 1):
        yield f"| {number}. {step.name} | not taken | | | | | | | |"


def _claims(result: StepResult) -> str:
    if result.claims is None:
        return "" if not result.step.proven else "not run"
    red = result.claims.red
    return f"{', '.join(red)} red" if red else f"{len(result.claims.held)} hold"


def _versions(rehearsal: Rehearsal) -> Iterator[str]:
    """Only after steps whose versions are known."""
    yield "## Versions after each step"
    yield ""
    yield f"| step | {' | '.join(str(cluster.name) for cluster in rehearsal.mesh.clusters)} |"
    yield f"|---|{'---|' * len(rehearsal.mesh.clusters)}"
    for number, result in enumerate(rehearsal.results, start=1):
        if result.components:
            cells = [str(result.components[cluster.name]) for cluster in rehearsal.mesh.clusters]
            yield f"| {number} | {' | '.join(cells)} |"
    yield ""


def _problems(rehearsal: Rehearsal) -> Iterator[str]:
    found = [
        f"- {number}. {result.step.name}: {problem}"
        for number, result in enumerate(rehearsal.results, start=1)
        for problem in problems_of(result, seen=False)
    ]
    yield "## Problems"
    yield ""
    yield from found or ["- none"]
