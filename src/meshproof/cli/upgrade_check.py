"""`meshproof upgrade check --to=VERSION`: go or no-go for an upgrade of Istio, with every reason."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from meshproof.claims.suite_run import ROOT, SUITES, SuiteRun, run_claims
from meshproof.cli.arguments import add_options
from meshproof.cli.select_mesh import Chosen, add_choosers, chosen_mesh
from meshproof.clients.kubernetes.rbac import FOR_DETECTION
from meshproof.core.errors import Broken
from meshproof.core.path_options import NAME_FOLDER, print_text, usable, writable_folder
from meshproof.core.progress import LineNarrator
from meshproof.core.versions import parse_target
from meshproof.mesh.handles import Mesh
from meshproof.run.settings import APP_IMAGE, CLIENT_IMAGE, IMAGE_PULL_SECRET, REPORT_DIR, istioctl_file
from meshproof.upgrade.precheck.check import check
from meshproof.upgrade.precheck.verdict import UpgradeOutcome, render_verdict

FOLDER: Final = "upgrade-check"
FOR_PROBES: Final = (CLIENT_IMAGE, APP_IMAGE, IMAGE_PULL_SECRET)
"""Options of the claims, which create probe pods."""
_EPILOG: Final = (
    "Exit codes: "
    + "; ".join(f"{outcome.exit_code}: {outcome}" for outcome in UpgradeOutcome)
    + ", since claims were BROKEN or could not be run, or a cluster does not respond; 2: invalid input."
)


def add_parser(actions: Any) -> None:
    """Add the subcommand to the result of `add_subparsers`."""
    parser = actions.add_parser(
        "check",
        help="go or no-go for an upgrade of Istio, before it begins",
        description="Reads every cluster of a mesh, checks it against requirements and changes of the target version, "
        "runs istioctl x precheck and analyze, and all non-disruptive claims. Creates only the claims' probes.",
        epilog=_EPILOG,
    )
    parser.add_argument("--to", required=True, metavar="VERSION", help="the version of Istio to upgrade to, as 1.31")
    parser.add_argument(
        "--no-claims", action="store_true", help="omit the claims: then nothing is written to any cluster"
    )
    parser.add_argument(
        "--istioctl",
        type=Path,
        metavar="FILE",
        help="the istioctl of the target version, for its precheck (default: the lab's, or the one in PATH)",
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument(
        "--report-dir",
        metavar="FOLDER",
        default="reports",
        help=f"where verdict and evidence go, in a folder {FOLDER} (default: reports)",
    )
    add_choosers(parser)
    add_options(parser, FOR_PROBES, "for the claims: ")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the verdict, which is also the exit code. Raises `BadInput` and `Broken` like every command."""
    target = parse_target(arguments.to)
    istioctl = istioctl_file(arguments.istioctl) if arguments.istioctl else None
    named = f"{REPORT_DIR.flag}={arguments.report_dir}"
    folder = writable_folder(named, Path(arguments.report_dir)) / FOLDER
    narrator = LineNarrator()
    with narrator.step("clusters"):
        chosen = chosen_mesh(arguments, FOR_DETECTION)
    claims: SuiteRun | Broken | None = None
    if not arguments.no_claims:
        with narrator.step("claims on the current mesh"):
            claims = _claims(chosen, folder, arguments)
    with narrator.step(f"rules for {target}"):
        mesh = _with_tool(chosen.mesh, istioctl)
        verdict = check(mesh, target, now=datetime.now(UTC), claims=claims)
    text, plain = render_verdict(verdict), f"{json.dumps(verdict.as_plain(), indent=2)}\n"
    with usable(named, NAME_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "verdict.txt").write_text(text)
        (folder / "verdict.json").write_text(plain)
    print_text(plain if arguments.json else text)
    return verdict.outcome.exit_code


def _with_tool(mesh: Mesh, istioctl: Path | None) -> Mesh:
    if istioctl is None:
        return mesh
    return replace(mesh, toolbox=replace(mesh.toolbox, istioctl=istioctl, istioctls={}))


def _claims(chosen: Chosen, folder: Path, arguments: argparse.Namespace) -> SuiteRun | Broken:
    """The result of the claims, run as by a user; or why they could not be run, which does not affect the rules."""
    given = {option.flag: getattr(arguments, option.dest) for option in FOR_PROBES}
    options = (*chosen.options, *(f"{flag}={value}" for flag, value in given.items() if value))
    if chosen.text:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "mesh.yaml"
        file.write_text(chosen.text)
        options = (f"--topology={file}", *options)
    try:
        return run_claims(ROOT, (*(f"suites/{suite}" for suite in SUITES), *options), folder / "claims")
    except Broken as problem:
        return problem
