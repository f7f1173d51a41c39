"""The files of calibration reports: a text for people, and its data, which later runs into the same folder read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshproof.calibration.outcome import CleanPass
from meshproof.core.errors import Broken


def write_files(folder: Path, contents: Mapping[str, str | Mapping[str, Any]]) -> tuple[Path, ...]:
    """Write these files into `folder`, texts as they are and data as JSON; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text)
    return tuple(folder / name for name in contents)


@contextmanager
def read_data(folder: Path, name: str, schema: str) -> Iterator[dict[str, Any] | None]:
    """The data of that file, for a block that parses it; None if there is no such file.

    Raises `Broken` if it is not a report of this schema.
    """
    path = folder / name
    if not path.exists():
        yield None
        return
    try:
        report = json.loads(path.read_text())
        if report["schema"] != schema:
            raise Broken(str(path), f"its schema is {report['schema']}, not {schema}", "move or delete the file")
        yield report
    except (ValueError, KeyError, TypeError) as problem:
        raise Broken(str(path), f"it cannot be read: {problem}", "move or delete the file") from problem


def pass_of(row: dict[str, Any]) -> CleanPass:
    return CleanPass(**(row | {"red": tuple(row["red"])}))
