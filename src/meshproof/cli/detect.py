"""`meshproof detect`: the topology of an existing mesh, as a file."""

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
    """Add the subcommand to the result of `add_subparsers`."""
    parser = commands.add_parser(
        "detect",
        help="print the topology of an existing mesh, detected from its clusters",
        description="Reads the clusters of these contexts, detects their mesh, and prints it as a topology file. "
        f"Changes nothing. For example: meshproof detect --context=a --context=b > {FILE}",
    )
    parser.set_defaults(run=run)
    add_options(parser, CHOOSING)


def run(arguments: argparse.Namespace) -> int:
    """Prints the file to standard output, findings to standard error. Raises `BadInput` like every command."""
    values: dict[str, object] = {option.dest: getattr(arguments, option.dest) for option in CHOOSING}
    settings = read_settings(values | {PROVIDER.dest: ON_KUBECONFIG}, root=Path(), environment=os.environ)
    assert settings.attachment is not None
    proposal = proposal_for(settings.attachment)
    print("\n".join(proposal.lines), file=sys.stderr)
    if proposal.ours:
        print(f"{proposal.ours} is the same topology; to verify it: {proposal.command}", file=sys.stderr)
    print_text(proposal.text)
    return 0
