"""Renders a picture as SVG, deterministically."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from meshproof.claims.results import Result
from meshproof.core.model import Role
from meshproof.report.diagram.canvas import ALARM, FAINT, INK, LOOKS, MARK, PAPER, Canvas, Look, chip_width, clean
from meshproof.report.diagram.claim_edges import HEADLINES, State, proofs_elsewhere, proofs_on, state_of
from meshproof.report.diagram.layout import EDGE, LINE, TITLE, Box, Builder, Layout, Wire
from meshproof.report.diagram.model import Part, Picture, Proof

PANEL = 448
HEAD = 22
CHIP = 112
CHIPS = PANEL // CHIP
CHIP_ROW = 23
REASON = 16
REASON_WIDTH = 66
"""Width of a failure's line in characters."""

LOOK_OF = {
    Result.SUCCEEDED: LOOKS[State.PROVEN],
    Result.FAILED: LOOKS[State.FAILED],
    Result.BROKEN: LOOKS[State.BROKEN],
    Result.SKIPPED: LOOKS[State.UNPROVEN],
    Result.NOT_APPLICABLE: LOOKS[State.UNPROVEN],
    None: LOOKS[State.UNPROVEN],
}


def render(picture: Picture) -> str:
    """The SVG text. Any names and reasons from clusters and users are safe."""
    proofs = {kind: proofs_on(picture, kind) for kind in picture.kinds}
    states = {kind: state_of(picture, proofs[kind]) for kind in picture.kinds}
    layout = Builder(picture, {kind: _height(proofs[kind]) + 14 for kind in picture.kinds}).layout()
    canvas = Canvas(f"{picture.name}: {picture.title}", description(picture))
    width = layout.panel + PANEL + EDGE
    _heading(canvas, picture, width)
    _frames(canvas, picture, layout)
    for _, bundle in groupby(layout.wires, lambda wire: (wire.link.kind, wire.link.source)):
        wires = [*bundle]  # they may share a stem, so they must not clear each other
        for wire in wires:
            canvas.clear(wire.points, states[wire.link.kind])
        for wire in wires:
            canvas.wire(wire.points, states[wire.link.kind], both=wire.both, tip=_tip(wire))
    for box, part in layout.parts:
        _part(canvas, box, part)
    for wire in layout.wires:
        _label(canvas, wire, proofs[wire.link.kind], states[wire.link.kind])
    bottom = 0
    for kind in picture.kinds:
        bottom = _block(canvas, layout.panel, layout.rows[kind], HEADLINES[kind], proofs[kind], states[kind])
    bottom = _rest(canvas, picture, layout.panel, bottom + 14)
    _legend(canvas, layout.bottom + 26, picture)
    return canvas.text_of(width, max(bottom, layout.bottom + 46) + 10)


def description(picture: Picture) -> str:
    """A text description of the picture for screen readers."""
    clusters = (
        f"{c.name} ({c.role}, {c.network}): {'; '.join(_in_words(p) for p in (c.istiod, c.gateway, c.app) if p)}"
        for c in picture.clusters
    )
    bad = (f"{proof.code} {proof.result}" for proof in picture.proofs if proof.is_bad)
    return ". ".join([", ".join(picture.about), *clusters, *result_counts(picture), *bad]) + "."


def _in_words(part: Part) -> str:
    return f"{part.title} {', '.join(part.lines)}".strip()


def result_counts(picture: Picture) -> tuple[str, ...]:
    """`1 FAILED` and `38 SUCCEEDED, 2 SKIPPED`, failures first; empty for a plan."""
    counted = Counter(proof.result for proof in picture.proofs)
    groups = [[f"{counted[r]} {r}" for r in Result if counted[r] and r.good is good] for good in (False, True)]
    return tuple(", ".join(words) for words in groups if words)


# -- the picture ------------------------------------------------------------------------------------------------------


def _heading(canvas: Canvas, picture: Picture, width: int) -> None:
    canvas.text(EDGE, 38, picture.name, width - PANEL, size=21, bold=True)
    subtitle = " · ".join([picture.title, *picture.about])
    canvas.text(EDGE, 60, subtitle, width - PANEL - 2 * EDGE, size=12.5, fill=FAINT)
    bad = any(proof.is_bad for proof in picture.proofs)
    for number, line in enumerate(result_counts(picture) or ("nothing proven yet",)):
        alarming = bad and number == 0
        fill = ALARM if alarming else INK
        canvas.text(width - PANEL - EDGE, 38 + 22 * number, line, PANEL, size=13, bold=alarming, fill=fill)


def _frames(canvas: Canvas, picture: Picture, layout: Layout) -> None:
    for name, box in layout.networks.items():
        canvas.box(box.x, box.y, box.width, box.height, fill="#f2f5f8", stroke="#8796a5", dashes="2 3")
        canvas.text(box.x + 16, box.y + 17, f"network {name}", box.width - 32, size=12, fill=FAINT)
    for cluster in picture.clusters:
        box = layout.clusters[cluster.name]
        primary = cluster.role is Role.PRIMARY
        canvas.box(box.x, box.y, box.width, box.height, fill="#fbfcfd", stroke="#334e68", line=2 if primary else 1.2)
        canvas.text(box.x + 12, box.y + 22, cluster.name, box.width - 24, size=15, bold=True)
        subtitle = " · ".join(
            [str(cluster.role), *([f"Kubernetes {cluster.kubernetes}"] if cluster.kubernetes else [])]
        )
        canvas.text(box.x + 12, box.y + 40, subtitle, box.width - 24, size=12, fill=FAINT)


def _part(canvas: Canvas, box: Box, part: Part) -> None:
    canvas.box(
        box.x,
        box.y,
        box.width,
        box.height,
        fill=PAPER,
        stroke=ALARM if part.missing else "#52606d",
        line=2.4 if part.missing else 1.1,
        dashes="6 4" if part.missing else "",
    )
    used = TITLE + LINE * len(part.lines)
    y = box.y + (box.height - used) // 2 + 13
    canvas.text(box.x + 10, y, part.title, box.width - 20, size=12, bold=True, fill=ALARM if part.missing else INK)
    for number, line in enumerate(part.lines, start=1):
        canvas.text(box.x + 10, y + 1 + LINE * number, line, box.width - 20, mono=True, fill=INK)


def _tip(wire: Wire) -> str:
    link = wire.link
    return f"{link.kind}: {link.source} {'and' if wire.both else '→'} {link.target}, {link.caption} {link.label}"


def _label(canvas: Canvas, wire: Wire, proofs: Sequence[Proof], state: State) -> None:
    """An arrow's label: its kind, and the number of proven claims or the failed claim."""
    if wire.label is None:
        return
    text, result = wire.link.label, None
    bad = sorted((p for p in proofs if p.is_bad), key=lambda p: p.result is not Result.FAILED)
    decided = [p for p in proofs if p.result is not None]
    if bad:
        first = bad[0].code + (f" +{len(bad) - 1}" if len(bad) > 1 else "")
        text, result = first if wire.link.is_own else f"{text} {first}", bad[0].result
    elif decided:
        good = sum(p.result is Result.SUCCEEDED for p in decided)
        text += f" · {good} of {len(decided)}" if good < len(decided) else f" · {good} claim{'s' * (good > 1)}"
        result = Result.SUCCEEDED if good else Result.SKIPPED
    x, y = wire.label
    left = x + 8 if wire.link.is_own else x - chip_width(text) // 2
    tip = "; ".join(f"{p.code} {p.result or 'to be proven'}" for p in proofs)
    canvas.chip(left, y, text, result, LOOKS[state], tip=tip)


# -- the panel --------------------------------------------------------------------------------------------------------


def _height(proofs: Sequence[Proof]) -> int:
    return HEAD + CHIP_ROW * -(-len(proofs) // CHIPS) + REASON * sum(len(_reason(p)) for p in proofs if p.is_bad)


def _reason(proof: Proof) -> list[str]:
    """A failure's reason in at most two lines."""
    line = clean(f"{proof.code} {proof.result}: {proof.text}")
    return textwrap.wrap(line, REASON_WIDTH, subsequent_indent="  ", max_lines=2, placeholder=" …")


def _block(canvas: Canvas, x: int, y: int, headline: str, proofs: Sequence[Proof], state: State) -> int:
    """A headline, a chip for each claim, a line for each failure; returns its lower end."""
    canvas.box(x - 14, y, 4, _height(proofs) - 4, fill=LOOKS[state].colour, stroke="none")
    canvas.text(x, y + 13, headline, PANEL, size=12.5, bold=True)
    for number, proof in enumerate(proofs):
        row, column = divmod(number, CHIPS)
        canvas.chip(
            x + CHIP * column,
            y + HEAD + 9 + CHIP_ROW * row,
            proof.code,
            proof.result,
            _look(proof, state),
            tip=f"{proof.code} {proof.result or 'to be proven'}: {proof.text}",
        )
    below = y + HEAD + CHIP_ROW * -(-len(proofs) // CHIPS)
    lines = [(line, _look(proof, state)) for proof in proofs if proof.is_bad for line in _reason(proof)]
    for number, (line, look) in enumerate(lines):
        canvas.text(x, below + 11 + REASON * number, line, PANEL, fill=look.colour)
    return y + _height(proofs)


def _look(proof: Proof, state: State) -> Look:
    return LOOKS[state] if state is State.PLANNED else LOOK_OF[proof.result]


def _rest(canvas: Canvas, picture: Picture, x: int, y: int) -> int:
    """Claims that belong on no arrow, and claims that are not applicable."""
    elsewhere = proofs_elsewhere(picture)
    if elsewhere:
        state = state_of(picture, elsewhere)
        y = _block(canvas, x, y, "the whole mesh: during failures", elsewhere, state) + 14
    absent = [proof.code for proof in picture.proofs if proof.result is Result.NOT_APPLICABLE]
    for number in range(0, len(absent), 5):
        head = "not applicable here: " if number == 0 else ""
        canvas.text(x, y + 13, head + ", ".join(absent[number : number + 5]), PANEL, fill=FAINT)
        y += REASON
    return y


def _legend(canvas: Canvas, y: int, picture: Picture) -> None:
    """The legend of lines and marks."""
    x = EDGE
    shown: list[tuple[State, Result | None, str]] = [(State.PLANNED, None, "to be proven")]
    if picture.has_results:
        shown = [
            (State.PROVEN, Result.SUCCEEDED, "SUCCEEDED"),
            (State.FAILED, Result.FAILED, "FAILED"),
            (State.BROKEN, Result.BROKEN, "BROKEN"),
            (State.UNPROVEN, Result.SKIPPED, "SKIPPED"),
            (State.UNPROVEN, None, "no result"),
        ]
    for state, result, text in shown:
        canvas.wire(((x, y), (x + 44, y)), state)
        canvas.mark(x + 58, y, result, LOOKS[state].colour)
        canvas.text(x + 58 + MARK, y + 4, text, 100, size=11, fill=INK)
        x += 160
