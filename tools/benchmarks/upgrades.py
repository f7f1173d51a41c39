"""Durations and losses of upgrades, from the verdicts of runs, as a section of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meshproof.claims.results import FILE_NAME
from meshproof.core.errors import BadInput
from meshproof.core.path_options import read_text

TITLE: Final = "## Upgrades"
WAYS: Final = {"UPGRADE-04": "in place", "UPGRADE-03": "by revision"}
"""The claims with figures about the steps of an upgrade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """One upgrade there and back: `moving_s` is the time of all steps until the mesh was healthy, `proving_s` that of
    all passes of claims between them; `longest` is the longest step, with its seconds."""

    topology: str
    way: str
    result: str
    steps: int
    passes: int
    moving_s: float
    proving_s: float
    requests: int
    lost: int
    lost_by_default: int
    slowest_s: float
    longest: tuple[str, float]


def read_upgrades(folders: Sequence[Path]) -> list[Upgrade]:
    """From the report folders of runs with `--upgrade-to`. Raises `BadInput` naming a folder without an upgrade."""
    found: list[Upgrade] = []
    for folder in folders:
        named, repair = f"--upgrades {folder}", "name the --report-dir of a run"
        text = read_text(f"{named}: {FILE_NAME}", folder / FILE_NAME, repair)
        try:
            verdict = yaml.safe_load(text)
        except yaml.YAMLError as problem:
            raise BadInput(f"{named}: {FILE_NAME}", f"not valid YAML: {str(problem).splitlines()[0]}", repair) from None
        if not isinstance(verdict, dict) or not isinstance(verdict.get("topologies"), dict):
            raise BadInput(f"{named}: {FILE_NAME}", "not a verdict", repair)
        here = [each for name, topology in verdict["topologies"].items() for each in _of(name, topology["claims"])]
        if not here:
            raise BadInput(named, "its run has no upgrade", "run: pytest --upgrade-to=1.31 suites/upgrade")
        found += here
    return found


def _of(topology: str, claims: Mapping[str, Mapping[str, Any]]) -> Iterator[Upgrade]:
    for code, way in WAYS.items():
        steps: Mapping[str, Mapping[str, float]] = claims.get(code, {}).get("figures") or {}
        if steps:
            moving = {name: step["took_s"] + step.get("healthy_s", 0.0) for name, step in steps.items()}
            yield Upgrade(
                topology=topology,
                way=way,
                result=str(claims[code]["result"]),
                steps=len(steps),
                passes=sum("claims_s" in step for step in steps.values()),
                moving_s=sum(moving.values()),
                proving_s=sum(step.get("claims_s", 0.0) for step in steps.values()),
                requests=int(sum(step["requests"] for step in steps.values())),
                lost=int(sum(step["lost"] for step in steps.values())),
                lost_by_default=int(sum(step["lost_by_default"] for step in steps.values())),
                slowest_s=max(step["slowest_s"] for step in steps.values()),
                longest=max(moving.items(), key=lambda each: each[1]),
            )


def section(upgrades: Sequence[Upgrade], machine: str) -> str:
    """The section, with its title."""
    rows = "\n".join(
        f"| {u.topology} | {u.way} | {u.result.lower()} | {u.steps} in {u.moving_s:.0f} s | {u.passes} in "
        f"{u.proving_s:.0f} s | {u.requests} | {u.lost} | {u.lost_by_default} | {u.slowest_s:.2f} s "
        f"| {_named(u.longest)} |"
        for u in upgrades
    )
    return f"""\
{TITLE}

Made by `python -m tools.benchmarks.measure --upgrades REPORT_DIR …` from the verdicts of runs of `--upgrade-to`. \
Measured on: {machine}.
From one release to the next and back to the first, in all clusters, under load: steps with the time until the mesh was
healthy again, and between them passes of all non-disruptive claims, each in its own process. Lost are requests
with resilience settings; those with Istio's defaults are in a separate column ([failover.md](failover.md)).

| topology | way | result | steps | passes of claims | requests | lost | lost with defaults | slowest response \
| longest step |
|---|---|---|---|---|---|---|---|---|---|
{rows}
"""


def _named(longest: tuple[str, float]) -> str:
    name, seconds = longest
    return f"{seconds:.0f} s: {name.partition('. ')[2]}"


def with_section(document: str, text: str) -> str:
    """The document with this section replaced, or appended."""
    without = re.sub(rf"\n*^{TITLE}\n.*?(?=^## |\Z)", "\n\n", document, flags=re.MULTILINE | re.DOTALL).rstrip()
    return f"{without}\n\n{text}" if text else f"{without}\n"


def section_of(document: str) -> str:
    """The section of a document; empty if it has none."""
    found = re.search(rf"^{TITLE}\n.*?(?=^## |\Z)", document, flags=re.MULTILINE | re.DOTALL)
    return found[0].rstrip() + "\n" if found else ""
