"""docs/troubleshooting.md quotes what the programs really say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
TEXT = (TOP / "docs" / "troubleshooting.md").read_text()


def quoted() -> Iterator[str]:
    """The texts in the first column of the tables."""
    for line in TEXT.splitlines():
        if line.startswith("| `"):
            yield from re.findall("`([^`]+)`", line.split(" |")[0])


def said() -> Iterator[str]:
    """Every text in the source, with `…` for what is put into it."""
    for folder in ("src", "fixtures"):
        for path in (TOP / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
                    yield "".join(parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    yield re.sub(r"\$(\w+|\*)", "…", (TOP / "in-venv").read_text())


SAID = "\n".join(said())
QUOTED = list(quoted())


def test_it_quotes_many_texts_each_once() -> None:
    assert len(QUOTED) > 60
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("text", QUOTED)
def test_a_quoted_text_is_in_the_source(text: str) -> None:
    assert text in SAID
