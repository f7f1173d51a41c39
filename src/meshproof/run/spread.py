"""What spreading claims over processes (`-n`) gains on this machine: the same pass, in one process and in several."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import yaml

from meshproof.claims.results import FILE_NAME
from meshproof.core.errors import Broken
from meshproof.core.progress import Narrator
from tools.benchmarks.scale import BASE, run_claims

WORKERS: Final = (0, 2, 4)
"""0: no workers, one process does it all."""


@dataclass(slots=True, kw_only=True)
class Spread:
    """Passes with so many workers: how long each took (seconds), and what the last has asked of the API servers."""

    workers: int
    seconds: list[float] = field(default_factory=list)
    requests: int = 0


def measure_spread(lab_name: str, narrator: Narrator, folder: Path, *, rounds: int = 3) -> list[Spread]:
    """Passes over a ready mesh, with each number of workers in turn. Takes about four minutes."""
    run_claims(BASE, lab_name, "-k", "DISCOVERY-01", f"--report-dir={folder}")  # installs the mesh
    found = [Spread(workers=workers) for workers in WORKERS]
    for spread in found * rounds:
        chosen = ["-n", str(spread.workers)] if spread.workers else []
        try:
            with narrator.step(f"all claims but failover, {spread.workers or 'no'} workers"):
                begin = time.monotonic()
                run_claims(BASE, lab_name, *chosen, "--ignore=suites/failover", f"--report-dir={folder}")
                spread.seconds.append(time.monotonic() - begin)
        except Broken as problem:  # more than this machine can bear
            narrator.say(f"no figure of a pass with {spread.workers or 'no'} workers: {problem}")
            continue
        spread.requests = yaml.safe_load((folder / FILE_NAME).read_text())["api_requests"]["total"]
    return [spread for spread in found if spread.seconds]


def render_spread(spreads: Iterable[Spread]) -> str:
    """A table."""
    rows = "\n".join(
        f"| {f'-n {s.workers}' if s.workers else 'none'} | {median(s.seconds):.1f} s "
        f"| {', '.join(f'{each:.1f}' for each in s.seconds)} s | {s.requests} |"
        for s in spreads
    )
    return f"""\
| workers | pass, median | all | API requests |
|---|---|---|---|
{rows}"""
