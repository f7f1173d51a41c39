"""What the documents point at is there: links between them, headings, and files of this repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted((*TOP.glob("*.md"), *TOP.glob("docs/*.md"), TOP / "reports" / "README.md"))

OURS = re.compile(r"`((?:src|tests|tools|docs|deploy|fixtures|suites|topologies|\.github)/[\w./-]*\w)`")


def anchors(document: Path) -> set[str]:
    """The names that headings get (lower case, no punctuation, dashes for spaces), and those that are written."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


def by_name(document: Path) -> str:
    return str(document.relative_to(TOP))


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        place = document.parent / name if name else document
        assert place.exists(), f"{by_name(document)} links to {target}, which is not there"
        if heading:
            assert heading in anchors(place), f"{by_name(document)} links to {target}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_file_that_is_named_is_there(document: Path) -> None:
    for name in OURS.findall(document.read_text()):
        assert (TOP / name).exists(), f"{by_name(document)} names {name}, which is not there"


def test_the_readme_links_to_every_document() -> None:
    text = (TOP / "README.md").read_text()
    for document in DOCUMENTS:
        if document.name != "README.md" or document.parent != TOP:
            assert f"]({by_name(document)}" in text, by_name(document)
