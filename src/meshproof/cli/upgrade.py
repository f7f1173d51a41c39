"""`meshproof upgrade ACTION`: what is to be known of a mesh before, during and after an upgrade of Istio."""

from __future__ import annotations

from typing import Any

from meshproof.cli import upgrade_baseline as record_command
from meshproof.cli import upgrade_check as check_command


def add_parser(commands: Any) -> None:
    """The sub-commands, on what `add_subparsers` returned."""
    parser = commands.add_parser(
        "upgrade", help="is a mesh ready for another version of Istio? what has changed with it?"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check_command.add_parser(actions)
    record_command.add_parser(actions)
