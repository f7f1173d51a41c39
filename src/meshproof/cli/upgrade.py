"""`meshproof upgrade ACTION`: checks and records of a mesh for an upgrade of Istio."""

from __future__ import annotations

from typing import Any

from meshproof.cli import upgrade_baseline as record_command
from meshproof.cli import upgrade_check as check_command


def add_parser(commands: Any) -> None:
    """Add the subcommands to the result of `add_subparsers`."""
    parser = commands.add_parser("upgrade", help="check a mesh before an upgrade of Istio, and compare it afterwards")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check_command.add_parser(actions)
    record_command.add_parser(actions)
