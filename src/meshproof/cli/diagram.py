"""`meshproof diagram`: a topology as a picture, with live facts and results."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshproof.claims.claim import REGISTRY
from meshproof.claims.suite_run import import_suites
from meshproof.cli.arguments import OF_RUNNING_MESH, add_lab_name, add_topology
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import BadInput
from meshproof.core.model import Topology
from meshproof.core.path_options import print_text, writable_file, write_text
from meshproof.core.topology import available, load_topology
from meshproof.install.marker import is_marked, marked_topology
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.providers.lab import api as labs
from meshproof.providers.lab.api import Lab
from meshproof.report.diagram.build import plan, with_facts, with_results
from meshproof.report.diagram.model import Picture
from meshproof.report.diagram.svg import render
from meshproof.report.verdict import ReadVerdict, read_verdict


def add_parser(commands: Any) -> None:
    """Add the subcommand to the result of `add_subparsers`."""
    parser = commands.add_parser(
        "diagram", help="draw a topology as SVG, as planned or with the facts of a running lab"
    )
    parser.set_defaults(run=run)
    add_topology(parser, OF_RUNNING_MESH)
    add_lab_name(parser)
    parser.add_argument("--verdict", type=Path, metavar="FILE", help="add the results of a run: reports/verdict.yaml")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.svg", help="default: standard output")


def run(arguments: argparse.Namespace) -> int:
    """Raises `BadInput` and `Broken` like every command."""
    if arguments.output is not None:
        writable_file(f"-o {arguments.output}", arguments.output)
    verdict = read_verdict(arguments.verdict) if arguments.verdict else None
    lab = _lab(arguments.lab_name)
    topology = _topology(arguments, lab, verdict)
    picture = _planned(topology)
    if lab is not None:
        picture = _as_found(picture, topology, lab, arguments.lab_name)
    if verdict is not None:
        picture = with_results(_versions(picture, verdict), verdict.of(topology.name))
    _write(render(picture), arguments.output)
    return 0


def _lab(name: str) -> Lab | None:
    return labs.running(name)


def _topology(arguments: argparse.Namespace, lab: Lab | None, verdict: ReadVerdict | None) -> Topology:
    """The given topology, else the running mesh's, else the only one in the verdict."""
    if arguments.topology:
        return load_topology(arguments.topology)
    marked = marked_topology(_kubes(lab)) if lab is not None else None
    if marked is not None:
        return load_topology(marked)
    if verdict is not None and len(verdict.topologies) == 1:
        return load_topology(next(iter(verdict.topologies)))
    why = "has no mesh with a topology marker" if lab is not None else "is not up, so the topology is unknown"
    raise BadInput(
        "--topology is missing", f"lab {arguments.lab_name} {why}", f"use --topology={' | '.join(available())}"
    )


def _kubes(lab: Lab) -> list[Kube]:
    return [access.client() for access in lab.clusters]


def _planned(topology: Topology) -> Picture:
    """With the claims of the suites if available: they are not in the installed package."""
    import_suites()
    return plan(topology, REGISTRY)


def _as_found(picture: Picture, topology: Topology, lab: Lab, name: str) -> Picture:
    """With live facts, if the lab runs this topology."""
    there = {access.name for access in lab.clusters}
    if there.issuperset(cluster.name for cluster in topology.clusters):
        mesh = Mesh.of(topology, lab.clusters, lab.toolbox)
        if is_marked(mesh):
            versions = {str(c.name): str(c.kube.get("/version")["gitVersion"]) for c in mesh.clusters}
            return with_facts(picture, Snapshot.take(mesh), versions)
    print(f"meshproof: lab {name} does not run {topology.name}: drawn as planned", file=sys.stderr)
    return picture


def _versions(picture: Picture, verdict: ReadVerdict) -> Picture:
    """Add versions from the verdict, if no live ones were read."""
    clusters = tuple(
        replace(cluster, kubernetes=cluster.kubernetes or verdict.kubernetes.get(cluster.name, ""))
        for cluster in picture.clusters
    )
    return replace(picture, clusters=clusters)


def _write(text: str, target: Path | None) -> None:
    if target is None:
        print_text(text)
        return
    write_text(f"-o {target}", target, text)
    print(f"wrote {target}", file=sys.stderr)
