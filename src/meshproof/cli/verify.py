"""`meshproof verify`: proves the mesh on clusters of a kubeconfig with all claims that break nothing."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, Final

from meshproof.claims.results import Result
from meshproof.claims.suite_run import ROOT, SUITES, SuiteRun, run_claims
from meshproof.cli.arguments import add_options
from meshproof.cli.select_mesh import OF_EXISTING, Chosen, chosen_mesh
from meshproof.clients.kubernetes.rbac import FOR_DETECTION
from meshproof.core.path_options import NAME_FOLDER, print_text, usable, writable_folder
from meshproof.core.progress import LineNarrator
from meshproof.detect.compare import refuse_differences
from meshproof.detect.infer import FoundCluster, find_clusters
from meshproof.detect.overview import overview
from meshproof.detect.propose import FILE
from meshproof.report.summary import outcome_text
from meshproof.report.verdict import RunOutcome
from meshproof.run.settings import (
    ALLOW_CREDENTIALS,
    APP_IMAGE,
    CLIENT_IMAGE,
    IMAGE_PULL_SECRET,
    ISTIOCTL,
    REPORT_DIR,
    istioctl_file,
)

FOR_CLAIMS: Final = (CLIENT_IMAGE, APP_IMAGE, IMAGE_PULL_SECRET)
_EPILOG: Final = (
    "Exit codes: "
    + "; ".join(f"{outcome.exit_code}: {outcome}" for outcome in RunOutcome)
    + ", where NO-GO means that a claim does not hold, and NOT KNOWN that claims are BROKEN or were not asked; "
    "2: invalid input, or clusters that differ from --topology; 130: interrupted."
)


def add_parser(commands: Any) -> None:
    """Add the subcommand to the result of `add_subparsers`."""
    parser = commands.add_parser(
        "verify",
        help="prove the mesh on your clusters: every claim that breaks nothing, in a minute",
        description="Detects the mesh of these contexts, reports it in a line for each cluster, proves all claims "
        "that stop nothing, and ends with the verdict. It creates and removes namespaces whose names begin with "
        "meshproof-, and changes nothing else. For example: meshproof verify --context=prod-a --context=prod-b",
        epilog=_EPILOG,
    )
    parser.set_defaults(run=run)
    add_options(parser, OF_EXISTING)
    add_options(parser, FOR_CLAIMS)
    parser.add_argument(ISTIOCTL.flag, type=Path, metavar="FILE", help="for CONTROL-06 (default: the one in PATH)")
    parser.add_argument(
        ALLOW_CREDENTIALS.flag, dest=ALLOW_CREDENTIALS.dest, action="store_true", help=ALLOW_CREDENTIALS.help
    )
    parser.add_argument(REPORT_DIR.flag, metavar="FOLDER", default="reports", help=REPORT_DIR.help)


def run(arguments: argparse.Namespace) -> int:
    """Prints what it finds and the verdict, which is also the exit code. Raises `BadInput` like every command."""
    named = f"{REPORT_DIR.flag}={arguments.report_dir}"
    folder = writable_folder(named, Path(arguments.report_dir))
    options = _for_claims(arguments)
    with LineNarrator().step("clusters"):
        chosen = chosen_mesh(arguments, FOR_DETECTION, on_kubeconfig=True)
        found = chosen.found or find_clusters(cluster.kube for cluster in chosen.mesh.clusters)
    print_text("".join(f"{line}\n" for line in overview(found, _shown(chosen))))
    _refuse_differences(chosen, found)
    if chosen.text:
        with usable(named, NAME_FOLDER):
            file = folder / FILE
            file.write_text(chosen.text)
        options = (f"--topology={file}", *options)
    suites = [f"suites/{suite}" for suite in SUITES]
    done = run_claims(ROOT, (*suites, *chosen.options, *options), folder, shown=True)
    outcome = _outcome(done)
    print_text(f"{outcome_text(outcome, Counter(done.results.values()))}\n")
    return outcome.exit_code


def _for_claims(arguments: argparse.Namespace) -> tuple[str, ...]:
    given = {option.flag: getattr(arguments, option.dest) for option in FOR_CLAIMS}
    istioctl = istioctl_file(arguments.istioctl).absolute() if arguments.istioctl else None
    values = [f"{flag}={value}" for flag, value in {**given, ISTIOCTL.flag: istioctl}.items() if value]
    return (*values, *([ALLOW_CREDENTIALS.flag] if getattr(arguments, ALLOW_CREDENTIALS.dest) else []))


def _shown(chosen: Chosen) -> str:
    """The name of a topology; one without a name is written to the report folder."""
    return "a topology of its own" if chosen.text else chosen.mesh.topology.name


def _refuse_differences(chosen: Chosen, found: tuple[FoundCluster, ...]) -> None:
    """What was detected cannot differ from itself."""
    if not chosen.found:
        refuse_differences(chosen.mesh.topology, found)


def _outcome(done: SuiteRun) -> RunOutcome:
    """That of the run's own verdict; one that says nothing about its end is no GO."""
    outcome = RunOutcome(done.outcome) if done.outcome else RunOutcome.UNKNOWN
    went_well = not done.unfinished and Result.SUCCEEDED in done.results.values()
    return RunOutcome.UNKNOWN if outcome is RunOutcome.GO and not went_well else outcome
