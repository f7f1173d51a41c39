"""`meshproof upgrade record` and `compare`: record a mesh, and compare two records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from meshproof.cli.select_mesh import add_choosers, chosen_mesh
from meshproof.clients.kubernetes.rbac import FOR_RECORD
from meshproof.core.errors import BadInput
from meshproof.core.path_options import print_text, writable_file
from meshproof.core.versions import Version
from meshproof.upgrade.baseline.capture import take_record
from meshproof.upgrade.baseline.compare import compare_records
from meshproof.upgrade.baseline.file import read_record, record_text, write_record
from meshproof.upgrade.baseline.model import BaselineRecord
from meshproof.upgrade.baseline.render import comparison_text


def add_parser(actions: Any) -> None:
    """Add both actions to the result of `add_subparsers`."""
    recording = actions.add_parser(
        "record",
        help="record the configuration of proxies, istiods and clusters in a file",
        description="Queries one proxy of every workload, the istiods and the API servers, and changes nothing. "
        "For example: meshproof upgrade record --lab-name=default -o before.json",
    )
    recording.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="default: standard output")
    comparing = actions.add_parser(
        "compare",
        help="compare two records: all differences with the rule that explains them, or red",
        description="Exit codes: 0 all differences are explained; 1 some are not, or something could not be "
        "compared; 2 invalid input.",
    )
    comparing.add_argument("before", type=Path, metavar="BEFORE.json")
    comparing.add_argument("after", type=Path, nargs="?", metavar="AFTER.json", help="default: the mesh as it is now")
    for option in ("--from", "--to"):
        comparing.add_argument(
            option, dest=f"version_{option[2:]}", default="", metavar="VERSION", help="default: that of the istiods"
        )
    for each in (recording, comparing):
        each.add_argument("--no-traffic", action="store_true", help="send no requests, and compare none")
        add_choosers(each)
    recording.set_defaults(run=_record)
    comparing.set_defaults(run=_compare)


def _record(arguments: argparse.Namespace) -> int:
    if arguments.output is None:
        print_text(record_text(_taken(arguments)))
        return 0
    writable_file(f"-o {arguments.output}", arguments.output)  # before the mesh is queried in vain
    record = _taken(arguments)
    write_record(record, arguments.output)
    callers = ", ".join(record.samples) or "no client: client or demonstration service is missing"
    print(
        f"wrote {arguments.output}: {len(record.parts)} parts of {len(record.holders)} holders, "
        f"Istio {', '.join(record.istiods) or 'unknown'}; requests from {callers}",
        file=sys.stderr,
    )
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    for flag, text in (("--from", arguments.version_from), ("--to", arguments.version_to)):
        if text and Version.parse(text) is None:
            raise BadInput(f"{flag}={text}", "not a version of Istio", "write it as 1.31 or 1.31.0")
    before = read_record(arguments.before)
    after = read_record(arguments.after) if arguments.after else _taken(arguments)
    found = compare_records(
        before,
        after,
        from_version=arguments.version_from,
        to_version=arguments.version_to,
        traffic=not arguments.no_traffic,
    )
    print_text(f"{comparison_text(found)}\n")
    return 1 if found.unexplained or found.gaps else 0


def _taken(arguments: argparse.Namespace) -> BaselineRecord:
    return take_record(chosen_mesh(arguments, FOR_RECORD).mesh, traffic=not arguments.no_traffic)
