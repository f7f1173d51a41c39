"""docs/architecture.md describes the tree as it is: every room, in the order that import-linter holds."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LIBRARY = TOP / "src" / "meshproof"
TEXT = (TOP / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| `(\w+)/` \| (.+) \|$", re.MULTILINE)


def rooms() -> dict[str, str]:
    """The document's rows about rooms: their texts by name, in its order."""
    part = TEXT.partition("## Rooms of the library")[2].partition("\n## ")[0]
    return dict(ROW.findall(part))


def test_rooms_stand_in_the_order_of_their_layers() -> None:
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    assert list(rooms()) == list(reversed(layers))


def test_every_room_says_what_is_in_it_as_the_document_does() -> None:
    there = {path.parent.name: path for path in LIBRARY.glob("*/__init__.py")}
    said = {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0] for name, path in there.items()
    }
    assert rooms() == said


def test_nothing_lies_outside_of_the_rooms() -> None:
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"]


def test_no_layer_has_an_exception() -> None:
    assert "ignore_imports" not in (TOP / "pyproject.toml").read_text()
