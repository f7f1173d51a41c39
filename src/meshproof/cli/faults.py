"""`meshproof fault …`: inject faults into the mesh of a running lab, and heal them."""

from __future__ import annotations

import argparse
from typing import Any

from meshproof.cli.arguments import OF_RUNNING_MESH, add_lab_name, add_topology
from meshproof.cli.running_lab import described, heal_running_mesh, running_mesh
from meshproof.core.path_options import print_text
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import load_topology
from meshproof.core.versions import next_release
from meshproof.faults.catalogue import FAULTS, fault
from meshproof.faults.editor import Prevented
from meshproof.faults.fault import Fault, inject
from meshproof.faults.journal import default_journal
from meshproof.run.settings import UPGRADE_TO


def add_parsers(commands: Any) -> None:
    """Add the subcommands to the result of `add_subparsers`."""
    actions = commands.add_parser("fault", help="break a running mesh on purpose, and heal it").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    listing = actions.add_parser(
        "list", help="list all faults: what is wrong, what a user sees, which claims detect it"
    )
    breaking = actions.add_parser("inject", help="break the mesh; it stays broken until `meshproof fault heal`")
    breaking.add_argument("id", metavar="ID", help="ID of a fault in `meshproof fault list`")
    healing = actions.add_parser("heal", help="undo all open faults, and verify that the mesh is healthy")
    for each in (listing, breaking, healing):
        add_topology(each, OF_RUNNING_MESH)
    add_lab_name(breaking, healing)
    for each, run in ((listing, _list), (breaking, _inject), (healing, heal_running_mesh)):
        each.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> int:
    topology = load_topology(arguments.topology) if arguments.topology else None
    texts = [describe_fault(each, each.not_here(topology) if topology else None) for each in FAULTS]
    print_text("".join(f"{text}\n" for text in texts))
    return 0


def describe_fault(each: Fault, reason: str | None = None) -> str:
    """A fault's description in a few lines; `reason` is why it does not apply to a topology."""
    rows = [("user sees", each.seen), ("detected by", ", ".join(each.kills))]
    rows += [("needs", " and ".join(need.name for need in each.needs))] if each.needs else []
    rows += [("Istio", each.note)] if each.note else []
    rows += [("not here", reason)] if reason else []
    return described(f"{each.id:<5} {each.sentence}", rows)


def _inject(arguments: argparse.Namespace) -> int:
    chosen = fault(arguments.id)
    lab, mesh = running_mesh(arguments)
    narrator = LineNarrator()
    try:
        with narrator.step(f"fault {chosen.id}: {chosen.sentence}"):
            inject(chosen, mesh, default_journal(), lab.machine_control)
    except Prevented as problem:
        print(f"{chosen.id} has not taken effect: {problem}")
    print(f"a user sees: {chosen.seen}")
    print(f"claims that must fail: {', '.join(chosen.kills)}")
    again = f"--topology={mesh.topology.name} --lab-name={arguments.lab_name}"
    if chosen.before_upgrade:
        again += f" {UPGRADE_TO.flag}={next_release(mesh.toolbox.istio_version)}"
    print(f"look:  pytest {again} --mesh=existing -k '{' or '.join(chosen.kills)}'")
    print(f"heal:  meshproof fault heal --lab-name={arguments.lab_name}")
    return 0
