"""The `meshproof` command: lab, faults, variants, detection, diagrams, upgrades and the doctor, all without pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import yaml

from meshproof import __version__
from meshproof.cli import detect as detect_command
from meshproof.cli import diagram as diagram_command
from meshproof.cli import faults as fault_commands
from meshproof.cli import soak as soak_command
from meshproof.cli import upgrade as upgrade_command
from meshproof.cli import variants as variant_commands
from meshproof.cli import verify as verify_command
from meshproof.cli.arguments import add_lab_name, add_topology
from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName, Topology
from meshproof.core.path_options import print_text
from meshproof.core.progress import LineNarrator
from meshproof.core.signals import reset_inherited_signals
from meshproof.core.topology import load_topology
from meshproof.install.lifecycle import install_mesh
from meshproof.mesh.handles import Mesh
from meshproof.providers.lab import api as labs
from meshproof.providers.lab import doctor
from meshproof.providers.lab.build.istio_releases import CURRENT, RELEASES, release_of
from meshproof.providers.lab.status import lab_status

DEFAULT_CLUSTERS = (ClusterName("cluster1"), ClusterName("cluster2"))

_DESCRIPTION = """\
Proves an Istio mesh over several clusters: yours with `meshproof verify`, or one on clusters that
are started on this machine, with faults to inject and variants (other legal meshes) to try. In a
checkout: pytest --topology=NAME."""
_EPILOG = """\
examples (commands on a lab need root):
  meshproof verify --context=A --context=B             prove the mesh on your clusters
  meshproof doctor                                     can this machine run a lab? repairs if not
  meshproof lab up --topology=primary-remote-multinet  clusters, mesh and application
  meshproof lab kubeconfig > kubeconfig                for kubectl and istioctl
  meshproof fault list                                 all faults, and the claims that detect them
  meshproof fault inject S1                            inject a fault; then: meshproof fault heal
  meshproof variant apply strict                       another legal mesh; then: variant heal
  meshproof lab down                                   remove everything
  meshproof detect --context=A --context=B             detect the mesh on your clusters
  meshproof upgrade check --to=1.31                    is the mesh ready for that version of Istio?
  meshproof upgrade record -o before.json              record a mesh, to `compare` it later

See also `meshproof COMMAND --help`. Exit codes: 0 success; 1 failure; 2 invalid input.
`meshproof verify` and `meshproof upgrade check` have more, see their --help."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshproof",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"meshproof {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "doctor", help="check whether this machine can run a lab; all findings with their repairs"
    ).set_defaults(run=_doctor)
    lab = commands.add_parser("lab", help="two real Kubernetes clusters on this machine").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    up = lab.add_parser("up", help="start the clusters; with --topology also install the mesh and the application")
    add_topology(up)
    up.add_argument(
        "--istio-version",
        action="append",
        metavar="VERSION",
        help=f"a release of Istio whose images the clusters get, one of {', '.join(map(str, RELEASES))}; the first is "
        f"installed, others are upgrade targets (default: {CURRENT})",
    )
    up.add_argument("--lab-slot", type=int, choices=range(16), metavar="0..15", help="which address ranges to use")
    down = lab.add_parser("down", help="remove a lab, or the leftovers of a killed run")
    status = lab.add_parser("status", help="clusters, addresses, memory, versions")
    kubeconfig = lab.add_parser("kubeconfig", help="print a kubeconfig with one context per cluster")
    for each, run in ((up, _up), (down, _down), (status, _status), (kubeconfig, _kubeconfig)):
        add_lab_name(each)
        each.set_defaults(run=run)
    fault_commands.add_parsers(commands)
    variant_commands.add_parsers(commands)
    diagram_command.add_parser(commands)
    detect_command.add_parser(commands)
    upgrade_command.add_parser(commands)
    soak_command.add_parser(commands)
    verify_command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 success; 1 failure; 2 invalid input; others are the command's own."""
    reset_inherited_signals()
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        print_text("")  # flushes the buffer
        return code
    except BadInput as problem:
        print(f"meshproof: {problem}", file=sys.stderr)
        return 2
    except Broken as problem:
        print(f"meshproof: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("meshproof: interrupted; nothing is left behind", file=sys.stderr)
        return 130


def _doctor(arguments: argparse.Namespace) -> int:
    findings = doctor.examine()
    for finding in findings:
        print(f"{finding.grade.upper():5} {finding.subject}: {finding.seen}")
        if finding.repair:
            print(f"      repair: {finding.repair}")
    return 1 if any(f.grade is doctor.Grade.STOP for f in findings) else 0


def _up(arguments: argparse.Namespace) -> int:
    narrator = LineNarrator()
    topology: Topology | None = load_topology(arguments.topology) if arguments.topology else None
    clusters = tuple(c.name for c in topology.clusters) if topology else DEFAULT_CLUSTERS
    given = arguments.istio_version or [CURRENT.number]
    releases = [release_of(version, "--istio-version") for version in given]
    lab = labs.up(arguments.lab_name, clusters, narrator, stays=True, slot=arguments.lab_slot, releases=releases)
    if topology is not None:
        lab.connect(topology)
        with narrator.step(f"mesh {topology.name}"):
            install_mesh(Mesh.of(topology, lab.clusters, lab.toolbox), narrator)
    narrator.say(f"ready; `meshproof lab kubeconfig --lab-name={arguments.lab_name}` prints the kubeconfig")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    there = labs.down(arguments.lab_name, LineNarrator())
    print(f"removed {there}" if there else f"lab {arguments.lab_name}: nothing to remove")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    print(lab_status(arguments.lab_name))
    return 0


def _kubeconfig(arguments: argparse.Namespace) -> int:
    lab = labs.running(arguments.lab_name)
    if lab is None:
        raise BadInput(f"lab {arguments.lab_name}", "is not up", "start it with `meshproof lab up`")
    merged: dict[str, object] = {}
    for access in lab.clusters:
        part = yaml.safe_load(access.kubeconfig.read_text())
        for key in ("clusters", "users", "contexts"):
            merged[key] = [*_items(merged.get(key)), *part[key]]
    print(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": lab.clusters[0].context, **merged}))
    return 0


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


if __name__ == "__main__":
    sys.exit(main())
