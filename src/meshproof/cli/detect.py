"""`meshproof detect`: the topology of a mesh that exists, as a file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from meshproof.cli.arguments import add_options
from meshproof.core.path_options import print_text
from meshproof.detect.propose import FILE, proposal_for
from meshproof.run.settings import CHOOSING, ON_KUBECONFIG, PROVIDER, read_settings


def add_parser(commands: Any) -> None:
    """The sub-command, on what `add_subparsers` returned."""
    parser = commands.add_parser(
        "detect",
        help="print the topology of a mesh that exists, from its clusters themselves",
        description="Reads the clusters of these contexts, tells what mesh they are, and prints it as a topology file. "
        f"Changes nothing. For example: meshproof detect --cluster1-context=a --cluster2-context=b > {FILE}",
    )
    parser.set_defaults(run=run)
    add_options(parser, CHOOSING)


def run(arguments: argparse.Namespace) -> int:
    """The file goes to standard output, what was found to standard error. Raises `BadInput` as every command does."""
    values: dict[str, object] = {option.dest: getattr(arguments, option.dest) for option in CHOOSING}
    settings = read_settings(values | {PROVIDER.dest: ON_KUBECONFIG}, root=Path(), environment=os.environ)
    assert settings.attachment is not None
    proposal = proposal_for(settings.attachment)
    print("\n".join(proposal.lines), file=sys.stderr)
    if proposal.ours:
        print(f"{proposal.ours} says the same; to prove it: {proposal.command}", file=sys.stderr)
    print_text(proposal.text)
    return 0
