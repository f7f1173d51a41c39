"""`meshproof variant …`: make the mesh of a running lab another legal mesh, and undo that."""

from __future__ import annotations

import argparse
from typing import Any

from meshproof.calibration.variants import VARIANTS, variant
from meshproof.calibration.variants.variant import Variant, apply_variant
from meshproof.cli.arguments import OF_RUNNING_MESH, add_lab_name, add_topology
from meshproof.cli.running_lab import described, heal_running_mesh, running_mesh
from meshproof.core.path_options import print_text
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import load_topology
from meshproof.faults.journal import default_journal


def add_parsers(commands: Any) -> None:
    """Add the subcommands to the result of `add_subparsers`."""
    actions = commands.add_parser(
        "variant", help="turn a running mesh into another legal one, on which every claim must hold"
    ).add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list all variants: what differs, and why it is legal")
    making = actions.add_parser("apply", help="make a variant; it stays until `meshproof variant heal`")
    making.add_argument("id", metavar="ID", help="ID of a variant in `meshproof variant list`")
    healing = actions.add_parser("heal", help="undo all variants and faults, and verify that the mesh is healthy")
    for each in (listing, making, healing):
        add_topology(each, OF_RUNNING_MESH)
    add_lab_name(making, healing)
    for each, run in ((listing, _list), (making, _apply), (healing, heal_running_mesh)):
        each.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> int:
    topology = load_topology(arguments.topology) if arguments.topology else None
    texts = [describe_variant(each, each.not_here(topology) if topology else None) for each in VARIANTS]
    print_text("".join(f"{text}\n" for text in texts))
    return 0


def describe_variant(each: Variant, reason: str | None = None) -> str:
    """A variant's description in a few lines; `reason` is why it does not apply to a topology."""
    rows = [("differs", each.sentence), ("legal", each.legal)]
    rows += [("skips", f"{', '.join(skip.codes)}: {skip.reason}") for skip in each.skips]
    rows += [("still kills", ", ".join(each.still_kills))] if each.still_kills else []
    rows += [("needs", " and ".join(need.name for need in each.needs))] if each.needs else []
    rows += [("not here", reason)] if reason else []
    return described(each.id, rows)


def _apply(arguments: argparse.Namespace) -> int:
    chosen = variant(arguments.id)
    lab, mesh = running_mesh(arguments)
    narrator = LineNarrator()
    with narrator.step(f"variant {chosen.id}: {chosen.sentence}"):
        apply_variant(chosen, mesh, default_journal(), lab.machine_control)
    for skip in chosen.skips:
        print(f'skipped: {", ".join(skip.codes)}, because "{skip.reason}"; every other claim must hold')
    again = f"--topology={mesh.topology.name} --lab-name={arguments.lab_name}"
    print(f"look:  pytest {again} --mesh=existing --ignore=suites/failover")
    print("       (with the demonstration service that is there; tests/specificity has each run make a new one)")
    print(f"undo:  meshproof variant heal --lab-name={arguments.lab_name}")
    return 0
