"""The layout: clusters are columns, parts of a kind form a row across them, and each arrow has a track.

Each arrow has a track of its own at a height of its own, in the row of the box that it ends at, and leaves its source
by a stem in the margin next to the boxes. So arrows cross at right angles only, and labels do not overlap, for any
number of clusters. Where an arrow would pass through the column of a third cluster, boxes of the row are at different
heights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.core.model import ClusterName, NetworkName
from meshproof.report.diagram.canvas import Point
from meshproof.report.diagram.model import ClusterPicture, Kind, Link, Part, Picture

EDGE: Final = 24
TOP: Final = 84
COLUMN: Final = 304
NARROW: Final = 208
WIDE: Final = 292
GAP: Final = 204
PADDING: Final = 16
"""Between a network's frame and its clusters."""
CAPTION: Final = 24
HEADER: Final = 52
BETWEEN_ROWS: Final = 36
TITLE: Final = 18
LINE: Final = 15
TRACK: Final = 26

MARGIN_OF: Final = {Kind.DISCOVERY: 20, Kind.CONTROL: 16, Kind.GATEWAY: 26, Kind.DIRECT: 36}
"""Distance of stems of a kind from the cluster's side."""
ISTIOD_UP: Final = 20
"""Distance right of the middle at which istiod's control arrows leave it; further ones a little more."""


ASIDE: Final = 92
"""Distance left of the middle of arrows within a cluster; those through a gateway are as far right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle."""

    x: int
    y: int
    width: int
    height: int

    @property
    def middle(self) -> int:
        return self.x + self.width // 2

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """An arrow's path, and the centre of its label; None without a label."""

    link: Link
    points: tuple[Point, ...]
    label: Point | None = None
    both: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The complete layout; `rows` has the start of each row, `panel` that of the column of proofs."""

    clusters: Mapping[ClusterName, Box]
    networks: Mapping[NetworkName, Box]
    parts: tuple[tuple[Box, Part], ...]
    wires: tuple[Wire, ...]
    rows: Mapping[Kind, int]
    panel: int
    bottom: int


def height_of(part: Part) -> int:
    return 10 + TITLE + LINE * len(part.lines)


class Builder:
    """Lays out rows from top to bottom; space below a row's boxes is allocated with the next row."""

    def __init__(self, picture: Picture, needed: Mapping[Kind, int]) -> None:
        self._picture = picture
        self._needed = needed
        self._sides = [EDGE + PADDING + place * (COLUMN + GAP) for place in range(len(picture.clusters))]
        self._boxes: dict[tuple[str, ClusterName], Box] = {}
        self._parts: list[tuple[Box, Part]] = []
        self._heights: dict[Link, int] = {}
        self._rows: dict[Kind, int] = {}

    def layout(self) -> Layout:
        picture = self._picture
        first = TOP + CAPTION
        self._rows[Kind.CLUSTER] = TOP
        y = max(first + HEADER, TOP + self._needed.get(Kind.CLUSTER, 0))
        across = [link for link in picture.links if not link.is_own]
        orders = [link for link in across if link.kind is Kind.CONTROL and not link.ports]
        gateway = [link for link in across if link.kind is Kind.CONTROL and link.ports]
        gateway += [link for link in across if link.kind is Kind.GATEWAY]
        y = self._row("trust", Kind.TRUST, lambda c: c.trust, y, [])
        y = self._row("api", Kind.DISCOVERY, lambda c: c.api_server, y, [*_of(across, Kind.DISCOVERY)])
        self._rows[Kind.CONTROL] = y
        for link in orders:
            self._heights[link] = y + TRACK // 2
            y += TRACK
        y = self._row("istiod", Kind.CONTROL, lambda c: c.istiod, y + (BETWEEN_ROWS // 2 if orders else 0), [], WIDE)
        if any(cluster.gateway for cluster in picture.clusters):
            y = self._row("gateway", Kind.GATEWAY, lambda c: c.gateway, y, gateway)
        y = self._row("app", Kind.DIRECT, lambda c: c.app, y, [*_of(across, Kind.DIRECT)])
        y = self._row("clients", Kind.REQUESTS, lambda c: c.clients, y, [], WIDE)
        bottom = y - BETWEEN_ROWS + 14
        clusters = {
            cluster.name: Box(x=side, y=first, width=COLUMN, height=bottom - first)
            for cluster, side in zip(picture.clusters, self._sides, strict=True)
        }
        return Layout(
            clusters=clusters,
            networks=self._networks(clusters),
            parts=tuple(self._parts),
            wires=tuple(self._wires()),
            rows=self._rows,
            panel=self._sides[-1] + COLUMN + PADDING + 36,
            bottom=bottom + PADDING,
        )

    def _networks(self, clusters: Mapping[ClusterName, Box]) -> dict[NetworkName, Box]:
        frames: dict[NetworkName, Box] = {}
        for cluster in self._picture.clusters:
            box = clusters[cluster.name]
            left = frames[cluster.network].x if cluster.network in frames else box.x - PADDING
            frames[cluster.network] = Box(
                x=left, y=TOP, width=box.right + PADDING - left, height=box.bottom + PADDING - TOP
            )
        return frames

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _row(
        self,
        name: str,
        kind: Kind,
        part_of: Callable[[ClusterPicture], Part | None],
        y: int,
        tracks: Sequence[Link],
        width: int = NARROW,
    ) -> int:
        """Place the boxes of a row and the tracks that end there; returns the start of the next row."""
        self._rows.setdefault(kind, y)
        there = [(c, part) for c in self._picture.clusters if (part := part_of(c)) is not None]
        staggered = any(abs(self._picture.place(t.source) - self._picture.place(t.target)) > 1 for t in tracks)
        groups = [[pair] for pair in there] if staggered else [there]
        end = y
        for group in groups:
            names = {cluster.name for cluster, _ in group}
            ending = [track for track in tracks if track.target in names]
            height = max(*(height_of(part) for _, part in group), TRACK * len(ending))
            for number, track in enumerate(ending):
                self._heights[track] = end + (2 * number + 1) * height // (2 * len(ending))
            for cluster, part in group:
                x = self._sides[self._picture.place(cluster.name)] + (COLUMN - width) // 2
                self._boxes[name, cluster.name] = box = Box(x=x, y=end, width=width, height=height)
                self._parts.append((box, part))
            end += height + (12 if staggered else 0)
        needed = self._rows[kind] + self._needed.get(kind, 0)
        return max(end + BETWEEN_ROWS, needed)

    # -- wires --------------------------------------------------------------------------------------------------------

    def _wires(self) -> list[Wire]:
        wires = []
        for link in self._picture.links:
            if link.kind is Kind.TRUST:
                wires.append(self._trust(link))
            elif link.is_own:
                wires += self._own(link)
            elif link.kind is Kind.CONTROL and not link.ports:
                wires.append(self._order(link))
            else:
                wires.append(self._track(link))
        return wires + self._through_gateways()

    def _trust(self, link: Link) -> Wire:
        a, b = self._boxes["trust", link.source], self._boxes["trust", link.target]
        y = a.y + a.height // 2
        return Wire(link=link, points=((a.right, y), (b.x, y)), label=((a.right + b.x) // 2, y), both=True)

    def _own(self, link: Link) -> list[Wire]:
        """An arrow within a cluster: from box to box, vertically."""
        ways = {
            Kind.DISCOVERY: ("istiod", "api", -ASIDE, False),
            Kind.CONTROL: ("istiod", "gateway" if ("gateway", link.target) in self._boxes else "app", -ASIDE, True),
            Kind.REQUESTS: ("clients", "app", -ASIDE, True),
        }
        source, target, aside, labelled = ways[link.kind]
        begin, end = self._boxes[source, link.source], self._boxes[target, link.target]
        x = begin.middle + aside
        up = end.y < begin.y
        points = ((x, begin.y), (x, end.bottom)) if up else ((x, begin.bottom), (x, end.y))
        label_at = (x, points[0][1] + (-BETWEEN_ROWS if up else BETWEEN_ROWS) // 2)
        return [Wire(link=link, points=points, label=label_at if labelled else None)]

    def _order(self, link: Link) -> Wire:
        """A control arrow: from istiod over the boxes, and down."""
        begin, end = self._boxes["istiod", link.source], self._boxes["istiod", link.target]
        orders = [other for other in self._picture.links_of(Kind.CONTROL) if not (other.is_own or other.ports)]
        x = begin.middle + ISTIOD_UP + 14 * orders.index(link)
        y = self._heights[link]
        points = ((x, begin.y), (x, y), (end.middle, y), (end.middle, end.y))
        return Wire(link=link, points=points, label=(self._before(link), y))

    def _track(self, link: Link) -> Wire:
        """By a stem next to the boxes to the track's height, and along it."""
        sources = {Kind.DISCOVERY: "istiod", Kind.CONTROL: "istiod"}
        targets = {Kind.DISCOVERY: "api", Kind.CONTROL: "gateway", Kind.GATEWAY: "gateway", Kind.DIRECT: "app"}
        begin = self._boxes[sources.get(link.kind, "clients"), link.source]
        end = self._boxes[targets[link.kind], link.target]
        rightwards = self._picture.place(link.target) > self._picture.place(link.source)
        side = self._sides[self._picture.place(link.source)]
        x = side + COLUMN - MARGIN_OF[link.kind] if rightwards else side + MARGIN_OF[link.kind]
        y = self._heights[link]
        start = (x, begin.bottom if y > begin.bottom else begin.y)
        points = (start, (x, y), (end.x if rightwards else end.right, y))
        return Wire(link=link, points=points, label=(self._before(link), y))

    def _before(self, link: Link) -> int:
        """The middle of the last gap that an arrow crosses."""
        source, target = self._picture.place(link.source), self._picture.place(link.target)
        return self._sides[target] - GAP // 2 if target > source else self._sides[target] + COLUMN + GAP // 2

    def _through_gateways(self) -> list[Wire]:
        """From each gateway to the parts behind it."""
        wires: dict[tuple[Kind, ClusterName], Wire] = {}
        for link in self._picture.links:
            box = self._boxes.get(("gateway", link.target))
            if box is None or not link.ports:
                continue
            if link.kind is Kind.CONTROL:
                x, end = box.middle + ASIDE, self._boxes["istiod", link.target]
                points = ((x, box.y), (x, end.bottom))
            else:
                x, end = box.middle + ASIDE, self._boxes["app", link.target]
                points = ((x, box.bottom), (x, end.y))
            wires.setdefault((link.kind, link.target), Wire(link=link, points=points))
        return list(wires.values())


def _of(links: Sequence[Link], kind: Kind) -> list[Link]:
    return [link for link in links if link.kind is kind]
