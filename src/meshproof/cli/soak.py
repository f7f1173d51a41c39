"""`meshproof soak`: run all claims again and again on meshes without a fault, and keep every red with its evidence."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from meshproof.claims.results import FILE_NAME
from meshproof.claims.suite_run import OUTPUT, ROOT, run_to_verdict
from meshproof.cli.arguments import TOPOLOGY_HELP, add_lab_name
from meshproof.core.errors import BadInput
from meshproof.core.path_options import writable_folder
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import load_topology
from meshproof.report.reliability import Round, reliability_tables, rounds_in, verdicts_below
from meshproof.run.settings import ALL

ROUND_S: Final = 2 * 3600.0
"""Longest duration of a round; one of all topologies with their drills takes three quarters of an hour."""


def add_parser(commands: Any) -> None:
    """Add the subcommand to the result of `add_subparsers`."""
    soak = commands.add_parser(
        "soak", help="run all claims again and again on the lab's clusters; every red is a false alarm or a find"
    )
    soak.add_argument("--topology", metavar=f"NAME|FILE|{ALL}", default=ALL, help=f"{TOPOLOGY_HELP}, or {ALL}")
    soak.add_argument("--rounds", type=int, required=True, metavar="N", help="how many more runs")
    soak.add_argument("--without-failover", action="store_true", help="omit the failover drills")
    soak.add_argument(
        "--report-dir", default="reports/soak", metavar="DIR", help="one folder for each round (default: %(default)s)"
    )
    add_lab_name(soak)
    soak.set_defaults(run=_soak)


def _soak(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1:
        raise BadInput(f"--rounds={arguments.rounds}", "not a number of rounds", "use 1 or more")
    if arguments.topology != ALL:
        load_topology(arguments.topology)
    folder = writable_folder(f"--report-dir={arguments.report_dir}", Path(arguments.report_dir))
    chosen = [f"--topology={arguments.topology}", f"--lab-name={arguments.lab_name}"]
    chosen += ["--ignore=suites/failover"] if arguments.without_failover else []
    narrator, found = LineNarrator(), list[Round]()
    for number in range(1, arguments.rounds + 1):
        place = _next(folder)
        with narrator.step(f"round {number} of {arguments.rounds} ({place.name})"):
            rounds = _run(chosen, place)
        for each in rounds:
            narrator.say(str(each))
        found += rounds
        if not any(each.red for each in rounds):
            _keep_the_verdict_only(place)
    print(reliability_tables(found))
    return 1 if any(each.red for each in found) else 0


def _next(folder: Path) -> Path:
    numbers = [int(path.name.partition("-")[2]) for path in folder.glob("round-*")]
    place = folder / f"round-{max(numbers, default=0) + 1:03}"
    place.mkdir(parents=True)
    return place.resolve()


def _run(chosen: list[str], place: Path) -> tuple[Round, ...]:
    """One run of pytest in a process of its own. Raises `Broken` if it gives no verdict."""
    argv = [sys.executable, "-m", "pytest", "suites", *chosen, f"--report-dir={place}", "-q", "-p", "no:cacheprovider"]
    run_to_verdict(place.name, argv, place, cwd=ROOT, limit_s=ROUND_S)
    return tuple(each for path in verdicts_below(place) for each in rounds_in(path))


def _keep_the_verdict_only(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (FILE_NAME, OUTPUT):
            path.unlink()
