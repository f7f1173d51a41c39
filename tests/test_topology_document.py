"""docs/writing-a-topology.md: its files load, its errors are raised word for word, and it leaves none out."""

from __future__ import annotations

import ast
import re
import traceback
from pathlib import Path

import pytest

from meshproof.core import topology as module
from meshproof.core.errors import BadInput
from meshproof.core.topology import load_topology

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "writing-a-topology.md").read_text()
FILES: list[str] = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SOURCE = Path(module.__file__)

HEAD = FILES[0][: FILES[0].index("clusters:")]
REMOTE = "{{name: {}, role: remote, control_plane: {}, network: n, app_version: {}}}"
WHOLE: dict[str, bytes | None] = {
    "is not there": None,
    "is in Latin-1": "title: café\n".encode("latin-1"),
    "is empty": b"",
    "is a list": b"- a\n",
    "has a mapping for its clusters": f"{HEAD}clusters: {{east: {{}}}}\n".encode(),
    "has no clusters": f"{HEAD}clusters: []\n".encode(),
    "has remotes only": (
        f"{HEAD}clusters:\n  - {REMOTE.format('a', 'b', 'v1')}\n  - {REMOTE.format('b', 'a', 'v2')}\n".encode()
    ),
    "is named without slash or ending": FILES[0].encode(),
}
"""What makes a file be as the second table says; None: there is none."""


def rows(columns: int) -> list[list[str]]:
    """The rows of the tables of errors with so many columns, without the marks of code."""
    found = []
    for line in TEXT[TEXT.index("## Errors") :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if line.startswith("|") and len(cells) == columns and re.fullmatch("`.+`", cells[-1]):
            found.append([cell.strip("`").replace("⏎", "\n") for cell in cells])
    return found


CHANGED = rows(4)
ABOUT_THE_FILE = rows(3)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(old: str, new: str) -> bytes:
    assert old in FILES[0], old
    return FILES[0].replace(old, new, 1).encode()


def refused(content: bytes | None, name: str = "mesh.yaml") -> BadInput:
    if content is not None:
        Path("mesh.yaml").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_topology(name)
    return caught.value


def about_the_file(which: str) -> BadInput:
    return refused(WHOLE[which], "mesh" if which == "is named without slash or ending" else "mesh.yaml")


@pytest.mark.parametrize("text", FILES, ids=[text.splitlines()[0] for text in FILES])
def test_a_file_of_the_document_loads(text: str) -> None:
    Path("mesh.yaml").write_text(text)
    assert load_topology("./mesh.yaml").clusters


@pytest.mark.parametrize(("old", "new", "error", "repair"), CHANGED, ids=[row[2] for row in CHANGED])
def test_a_changed_file_is_refused_in_these_words(old: str, new: str, error: str, repair: str) -> None:
    assert str(refused(changed(old, new))) == f"{error}\n  repair: {repair}"


@pytest.mark.parametrize(("which", "error", "repair"), ABOUT_THE_FILE, ids=[row[0] for row in ABOUT_THE_FILE])
def test_a_file_as_a_whole_is_refused_in_these_words(which: str, error: str, repair: str) -> None:
    assert str(about_the_file(which)) == f"{error}\n  repair: {repair}"


def test_no_error_of_the_loader_is_left_out() -> None:
    """Every place where the loader refuses is one that an error of the document comes from."""
    places = {
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("self._wrong", "BadInput")
    }
    assert len(places) > 15
    problems = [about_the_file(row[0]) for row in ABOUT_THE_FILE] + [refused(changed(*row[:2])) for row in CHANGED]
    reached = {
        frame.lineno
        for problem in problems
        for frame in traceback.extract_tb(problem.__traceback__)
        if frame.filename == str(SOURCE)
    }
    unreached = sorted(place.start for place in places if not reached & set(place))
    assert not unreached, f"{SOURCE.name}, lines {unreached}: these errors are not in docs/writing-a-topology.md"
