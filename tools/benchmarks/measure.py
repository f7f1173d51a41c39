"""Measures performance on this machine and writes docs/performance.md (takes about sixteen minutes).

python -m tools.benchmarks.measure                            at the top of the checkout, as root
python -m tools.benchmarks.measure --upgrades REPORT_DIR …    only its section on upgrades, from runs on this machine
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from meshproof import __version__
from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName
from meshproof.core.path_options import read_text, writable_file, write_text
from meshproof.core.progress import LineNarrator, Narrator
from meshproof.core.topology import available
from meshproof.providers.lab import api as labs
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab.build import go as gobuild
from meshproof.providers.lab.state import LabFolder
from meshproof.providers.lab.status import memory_kib
from tools.benchmarks.scale import Growth, measure_scale, render_scale, run_claims
from tools.benchmarks.upgrades import read_upgrades, section, section_of, with_section

TARGET = Path("docs/performance.md")
FOLDER = Path("reports/measure")
LAB = "measure"
CLUSTERS = (ClusterName("cluster1"), ClusterName("cluster2"))
WORKERS = (0, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A target value: seconds or GiB."""

    clusters_s: float = 15.0
    mesh_s: float = 20.0
    change_s: float = 30.0
    pass_s: float = 25.0
    memory_gib: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyTimes:
    """One topology: removing the previous mesh, installing it, all claims except failover on the ready mesh
    (seconds)."""

    name: str
    remove_s: float
    install_s: float
    pass_s: float
    claims: int
    requests: int
    memory_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All topologies with a number of workers (0: one process). `seconds` is None if the machine is too small."""

    workers: int
    seconds: float | None
    claims: int


def machine() -> str:
    """This machine in one line: processor, cores, memory, kernel."""
    cpu = next((x.split(":")[1].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "?")
    memory = int(next(x.split()[1] for x in _lines("/proc/meminfo") if x.startswith("MemTotal"))) / 2**20
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def measure(narrator: Narrator, *, rounds: int = 3) -> str:
    """Measure and return the document. Takes about sixteen minutes; starts and removes its own lab, `measure`."""
    remains.clear(LAB)
    gobuild.ensure_programs(narrator)
    ups, downs = [], []
    for number in range(1, rounds + 1):
        begin = time.monotonic()
        labs.up(LAB, CLUSTERS, narrator, stays=True)
        ups.append(time.monotonic() - begin)
        if number < rounds:
            begin = time.monotonic()
            labs.down(LAB, narrator)
            downs.append(time.monotonic() - begin)
    try:
        times = [_topology(name, narrator) for name in available()]
        # The first topology again, now as a change from the last.
        times.append(_topology(available()[0], narrator))
    finally:
        labs.down(LAB, narrator)
    matrix = [side_by_side(workers, narrator) for workers in WORKERS]
    return render(ups, downs, times, matrix, measure_scale(LAB, narrator, FOLDER))


def side_by_side(workers: int, narrator: Narrator) -> Matrix:
    """Every claim except failover on all topologies with this many workers, including clusters' start and removal."""
    chosen = ["-n", str(workers)] if workers else []
    folder = FOLDER / f"{workers}-workers"
    begin = time.monotonic()
    try:
        with narrator.step(f"all topologies, {workers or 'no'} workers"):
            run_claims("all", LAB, *chosen, "--ignore=suites/failover", f"--report-dir={folder}", keep=False)
    except Broken as problem:  # too much for this machine
        narrator.say(f"no figure of {workers} workers: {problem}")
        return Matrix(workers=workers, seconds=None, claims=0)
    seconds = time.monotonic() - begin
    verdict = yaml.safe_load((folder / "verdict.yaml").read_text())
    return Matrix(workers=workers, seconds=seconds, claims=verdict["counts"]["SUCCEEDED"])


def _topology(name: str, narrator: Narrator) -> TopologyTimes:
    first = run_claims(name, LAB, "-k", "DISCOVERY-01")
    with narrator.step(f"all claims but failover on {name}"):
        begin = time.monotonic()
        run_claims(name, LAB, "--ignore=suites/failover", f"--report-dir={FOLDER / name}")
        spent = time.monotonic() - begin
    verdict = yaml.safe_load((FOLDER / name / "verdict.yaml").read_text())
    daemon = LabFolder(LAB).daemon
    return TopologyTimes(
        name=name,
        remove_s=_step_seconds(first, "previous mesh removed", default=0.0),
        install_s=_step_seconds(first, f"mesh {name}"),
        pass_s=spent,
        claims=verdict["counts"]["SUCCEEDED"],
        requests=verdict["api_requests"]["total"],
        memory_gib=memory_kib(daemon.pid) / 2**20 if daemon else 0.0,
    )


def _step_seconds(output: str, title: str, default: float | None = None) -> float:
    """The duration of a step in the progress output."""
    match = re.search(rf"\+ *([\d.]+) s  {re.escape(title)}$", output, re.MULTILINE)
    if match:
        return float(match[1])
    if default is None:
        raise Broken("measuring", f"the output has no step {title!r}")
    return default


def _matrix(rows: Sequence[Matrix]) -> str:
    lines = [
        f"| {f'-n {row.workers}' if row.workers else 'none'} | {row.claims or ''} "
        f"| {'does not fit on this machine' if row.seconds is None else f'{row.seconds:.0f} s'} |"
        for row in rows
    ]
    return "\n".join(["| workers | claims proven | whole run |", "|---|---|---|", *lines])


def render(
    ups: Sequence[float],
    downs: Sequence[float],
    times: Sequence[TopologyTimes],
    matrix: Sequence[Matrix],
    growth: Growth,
) -> str:
    """The text of docs/performance.md."""
    goal = Goal()
    rows = "\n".join(
        f"| {t.name} | {t.remove_s:.1f} s | {t.install_s:.1f} s | {t.remove_s + t.install_s:.1f} s "
        f"| {t.claims} | {t.pass_s:.1f} s | {t.requests} | {t.memory_gib:.2f} GiB |"
        for t in times
    )
    return f"""\
# Performance

Made by `sudo ./in-venv python -m tools.benchmarks.measure` with meshproof {__version__}; do not edit. Measured on:
{machine()}; warm build cache, nothing else running.

## Clusters

| what | goal | median | all |
|---|---|---|---|
| two clusters: nodes ready, DNS answering | {goal.clusters_s:g} s | {median(ups):.1f} s | {_list(ups)} |
| taken down, nothing left | | {median(downs):.1f} s | {_list(downs)} |

## Meshes, claims, memory

Removing is the time that a change of topology on running clusters takes before the install; the install ends when
gateways, application and clients are ready. A pass is every claim but failover on a ready mesh, including pytest's
start.

| topology | removing the one before | install (goal {goal.mesh_s:g} s) | change (goal {goal.change_s:g} s) \
| claims proven | pass (goal {goal.pass_s:g} s) | API requests | memory (goal {goal.memory_gib:g} GiB) |
|---|---|---|---|---|---|---|---|
{rows}

## Several topologies in parallel

Every claim but failover on all topologies: in one process, which proves them in turn on the same clusters, and with
`-n`, where each worker has clusters of its own. Starting and removing clusters is included.

{_matrix(matrix)}

## How a pass grows

Multi-primary on different networks, with a growing number of Services in the mesh (each with an endpoint, the same in
every cluster), and with a third cluster. API requests are all requests of the run, set-up and clean-up included; an
`exec` counts as one.

{render_scale(growth)}

## What the time is made of

- Clusters: about 3 s until the API servers answer (all start at once on the machine's cores), about 3 s until the
  controllers have created service accounts and the node is registered, about 3 s until CoreDNS's pod runs and is ready.
- Install: istioctl applies Istio's CRDs and waits for istiod (it polls every two seconds); a remote's gateways wait for
  the primary's istiod, its webhook, and the remote secret; sidecars take two to three seconds from pod to ready.
- Removing: Kubernetes' namespace controller waits five seconds by design before it looks again.
- Pass: claims are proven concurrently, so the machine's cores limit it: a quarter is spent in Envoys that forward the
  requests of samples, another in `exec` (some 50 ms of CPU time each, most of it in runc), the rest in API servers,
  kubelets and Python. The longest wait is that of TRAFFIC-04, for an ejection of 7 s to end.
"""


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values) + " s"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 written; 1 failure; 2 invalid input."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.measure", description=description)
    parser.add_argument("--upgrades", nargs="+", type=Path, metavar="REPORT_DIR", help="runs of --upgrade-to made here")
    try:
        _write(parser.parse_args(argv).upgrades)
    except Broken as problem:
        print(f"meshproof: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, BadInput) else 1
    return 0


def _write(upgrades: Sequence[Path] | None) -> None:
    if not TARGET.parent.is_dir():
        raise BadInput(f"file {TARGET}", "no such folder", "run it in the top folder of the checkout")
    named = f"file {TARGET}"
    writable_file(named, TARGET)
    before = read_text(named, TARGET, "run it in the top folder of the checkout") if TARGET.exists() else ""
    if upgrades:
        write_text(named, TARGET, with_section(before, section(read_upgrades(upgrades), machine())))
    else:
        write_text(named, TARGET, with_section(measure(LineNarrator()), section_of(before)))


if __name__ == "__main__":
    sys.exit(main())
