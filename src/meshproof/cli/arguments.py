"""Arguments of several commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Final

from meshproof.core.topology import available
from meshproof.run.settings import Option

TOPOLOGY_HELP: Final = f"one of {', '.join(available())}, or a YAML file"
OF_RUNNING_MESH: Final = " (default: that of the running mesh, from its marker)"


def add_topology(parser: argparse.ArgumentParser, default: str = "") -> None:
    """Add the option for the topology; `default` describes its default."""
    parser.add_argument("--topology", metavar="NAME|FILE", help=f"{TOPOLOGY_HELP}{default}")


def add_lab_name(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--lab-name", default="default", metavar="NAME", help="default: %(default)s")


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option], prefix: str = "") -> None:
    """Add options that pytest has too, without a default: `read_settings` has it."""
    for option in options:
        parser.add_argument(
            option.flag,
            dest=option.dest,
            metavar=option.metavar,
            action="append" if option.repeated else "store",
            help=f"{prefix}{option.help}".replace("%", "%%"),
        )
