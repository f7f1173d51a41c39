"""Elements of an SVG: boxes, fitted texts, arrows, marks and chips. Coordinates are whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

from meshproof.claims.results import Result
from meshproof.report.diagram.claim_edges import State

SANS: Final = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
MONO: Final = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"

INK: Final = "#1f2933"
FAINT: Final = "#52606d"
PAPER: Final = "#ffffff"
ALARM: Final = "#b00020"

MONO_ADVANCE: Final = 0.605
"""Width of a character of most monospaced fonts, in its size; Courier and DejaVu are among the widest."""
SANS_ADVANCE: Final = 0.6
"""Average width of a wide proportional font (DejaVu Sans); bold takes `BOLD` times as much."""
BOLD: Final = 1.13

Point = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A state's colour, and its line width and dashes, which distinguish it without colour."""

    colour: str
    width: float
    dashes: str = ""


LOOKS: Final = {
    State.PLANNED: Look(colour="#3b5b7a", width=1.6),
    State.UNPROVEN: Look(colour="#7b8794", width=1.4, dashes="1.5 3.5"),
    State.PROVEN: Look(colour="#1b7340", width=2.0),
    State.BROKEN: Look(colour="#9a5b00", width=2.4, dashes="2.5 4"),
    State.FAILED: Look(colour=ALARM, width=3.6, dashes="11 5"),
}

_MARKS: Final[dict[Result | None, str]] = {
    Result.SUCCEEDED: "M-4 0 L-1 3 L4 -4",
    Result.FAILED: "M-4 -4 L4 4 M-4 4 L4 -4",
    Result.BROKEN: "M0 -5 L0 1 M0 4 L0 4.5",
    Result.SKIPPED: "M-4 0 L4 0",
    Result.NOT_APPLICABLE: "M-4 0 L4 0",
    None: "M-3 0 A3 3 0 1 1 3 0 A3 3 0 1 1 -3 0",
}
"""Drawn as paths, since not every font has check marks."""

MARK: Final = 14
"""Width of a mark with the space around it."""
CHIP_SIZE: Final = 10.5
"""Font size of a chip."""


class Canvas:
    """Collects elements in paint order."""

    def __init__(self, title: str, description: str) -> None:
        self.root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        self.root.set("aria-labelledby", "title desc")
        ElementTree.SubElement(self.root, "title", {"id": "title"}).text = clean(title)
        ElementTree.SubElement(self.root, "desc", {"id": "desc"}).text = clean(description)
        self._paper = ElementTree.SubElement(self.root, "rect", {"x": "0", "y": "0", "fill": PAPER})

    def text_of(self, width: int, height: int) -> str:
        """The SVG text with this size."""
        for element in (self.root, self._paper):
            element.set("width", str(width))
            element.set("height", str(height))
        self.root.set("viewBox", f"0 0 {width} {height}")
        ElementTree.indent(self.root, " ")
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"

    def _add(self, tag: str, tip: str = "", **attributes: object) -> ElementTree.Element:
        named = {key.replace("_", "-"): str(value) for key, value in attributes.items() if value != ""}
        element = ElementTree.SubElement(self.root, tag, named)
        if tip:
            ElementTree.SubElement(element, "title").text = clean(tip)
        return element

    def box(
        self, x: int, y: int, width: int, height: int, *, fill: str, stroke: str, line: float = 1.2, dashes: str = ""
    ) -> None:
        """A rectangle with rounded corners."""
        self._add(
            "rect",
            x=x,
            y=y,
            width=width,
            height=height,
            rx=6,
            fill=fill,
            stroke=stroke,
            stroke_width=line,
            stroke_dasharray=dashes,
        )

    def text(
        self,
        x: int,
        y: int,
        text: str,
        room: int,
        *,
        size: float = 11,
        mono: bool = False,
        bold: bool = False,
        fill: str = INK,
        anchor: str = "start",
    ) -> None:
        """One line of at most `room` pixels; a shortened text has a tooltip."""
        shown = fit(text, room, size, mono=mono, bold=bold)
        element = self._add(
            "text",
            text if shown != clean(text) else "",
            x=x,
            y=y,
            font_family=MONO if mono else SANS,
            font_size=size,
            font_weight="bold" if bold else "",
            fill=fill,
            text_anchor=anchor if anchor != "start" else "",
        )
        if len(element):
            element[0].tail = shown  # the title must come first
        else:
            element.text = shown

    def clear(self, points: Sequence[Point], state: State) -> None:
        """Clear the space around a line, so that it visibly passes over lines that it crosses."""
        self._line(points, stroke=PAPER, stroke_width=LOOKS[state].width + 5)

    def wire(self, points: Sequence[Point], state: State, *, both: bool = False, tip: str = "") -> None:
        """A line through these points with an arrow head at its end, or at both ends."""
        look = LOOKS[state]
        self._line(points, tip, stroke=look.colour, stroke_width=look.width, stroke_dasharray=look.dashes)
        self._head(points[-2], points[-1], look.colour)
        if both:
            self._head(points[1], points[0], look.colour)

    def _line(self, points: Sequence[Point], tip: str = "", **attributes: object) -> None:
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        self._add("path", tip, d=path, fill="none", stroke_linejoin="round", **attributes)

    def _head(self, before: Point, at: Point, colour: str) -> None:
        (x, y), (dx, dy) = at, (_sign(at[0] - before[0]), _sign(at[1] - before[1]))
        back, side = 9, 5
        left = (x - dx * back - dy * side, y - dy * back - dx * side)
        right = (x - dx * back + dy * side, y - dy * back + dx * side)
        self._add("path", d=f"M{x} {y} L{left[0]} {left[1]} L{right[0]} {right[1]} Z", fill=colour)

    def mark(self, x: int, y: int, result: Result | None, colour: str) -> None:
        """The mark of a result, centred."""
        self._add(
            "path",
            d=_MARKS[result],
            transform=f"translate({x} {y})",
            fill="none",
            stroke=colour,
            stroke_width=2.2 if result in (Result.FAILED, Result.BROKEN) else 1.7,
            stroke_linecap="round",
        )

    def chip(self, x: int, y: int, text: str, result: Result | None, look: Look, *, tip: str = "") -> int:
        """A label with a mark, its left end at `x`, its middle at `y`; bad ones are filled. Returns its width."""
        bad = result is not None and not result.good
        width = chip_width(text)
        ink = PAPER if bad else look.colour
        self._add(
            "rect",
            tip,
            x=x,
            y=y - 9,
            width=width,
            height=18,
            rx=9,
            fill=look.colour if bad else PAPER,
            stroke=look.colour,
            stroke_width=1.2,
        )
        self.mark(x + 12, y, result, ink)
        self.text(x + 6 + MARK, y + 4, text, width, size=CHIP_SIZE, mono=True, bold=bad, fill=ink)
        return width


def chip_width(text: str) -> int:
    """Of the label with its mark."""
    return round(len(text) * MONO_ADVANCE * CHIP_SIZE) + MARK + 16


def fit(text: str, room: int, size: float, *, mono: bool = False, bold: bool = False) -> str:
    """The text, with its middle elided if it is longer than this many pixels."""
    whole = clean(text)
    each = MONO_ADVANCE * size if mono else SANS_ADVANCE * size * (BOLD if bold else 1)
    most = max(3, int(room / each))
    if len(whole) <= most:
        return whole
    tail = (most - 1) // 3
    return whole[: most - 1 - tail] + "…" + (whole[-tail:] if tail else "")


def clean(text: str) -> str:
    """The text on one line, without characters that XML 1.0 forbids (section 2.2, Char)."""
    return "".join(
        c for c in " ".join(text.split()) if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"
    )


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
