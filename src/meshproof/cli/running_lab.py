"""The mesh of a running lab, for commands that change it and heal it."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable

from meshproof.core.errors import BadInput, Broken
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import load_topology
from meshproof.faults.heal import heal, heal_machines
from meshproof.faults.journal import default_journal
from meshproof.health.mesh import must_be_healthy
from meshproof.install.marker import running_topology
from meshproof.mesh.handles import Mesh
from meshproof.providers.lab import api as labs
from meshproof.providers.lab.api import Lab


def running_mesh(arguments: argparse.Namespace) -> tuple[Lab, Mesh]:
    """The lab and the mesh on it. Raises `BadInput` if the lab is not up."""
    lab = _lab(arguments)
    if arguments.topology:
        topology = load_topology(arguments.topology)
    else:
        topology = running_topology(access.client() for access in lab.clusters)
    names = {access.name for access in lab.clusters}
    if missing := [c.name for c in topology.clusters if c.name not in names]:
        raise Broken(f"lab {arguments.lab_name}", f"it has no cluster {', '.join(missing)}", "name another topology")
    return lab, Mesh.of(topology, lab.clusters, lab.toolbox)


def heal_running_mesh(arguments: argparse.Namespace) -> int:
    """Undo everything that the journal has for these clusters, faults and variants alike, and verify the mesh."""
    narrator = LineNarrator()
    machines = _lab(arguments)
    kubes = {access.name: access.client() for access in machines.clusters}
    # Until machines are healed the running topology cannot be read.
    done = heal_machines(kubes, default_journal(), machines.machine_control)
    lab, mesh = running_mesh(arguments)
    done |= heal(mesh, default_journal(), lab.machine_control)
    for name, clusters in done.items():
        narrator.say(f"healed {name} on {', '.join(clusters)}")
    if not done:
        narrator.say("no fault and no variant is open on these clusters")
    with narrator.step("the mesh is healthy"):
        must_be_healthy(mesh)
    return 0


def described(first: str, rows: Iterable[tuple[str, str]]) -> str:
    """A record in a few lines: its first line, and the others by their labels."""
    lines = [first]
    for label, text in rows:
        lines += textwrap.wrap(text, 100, initial_indent=f"      {label:<12}", subsequent_indent=" " * 18)
    return "\n".join(lines)


def _lab(arguments: argparse.Namespace) -> Lab:
    lab = labs.running(arguments.lab_name)
    if lab is None:
        raise BadInput(f"lab {arguments.lab_name}", "is not up", "start it with `meshproof lab up --topology=NAME`")
    return lab
