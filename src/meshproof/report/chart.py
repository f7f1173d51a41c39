"""A history chart: requests per second by outcome, failed and slow ones marked by reason, outages shaded."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from meshproof.load.history import SLOW_S, Request, RequestOutcome, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BIN_S: Final = 1.0
BY_CLUSTER: Final = ("#a9c3dc", "#b5d8b5", "#dcc3a9", "#c9bbd9")
"""Colours of responses by cluster, in the topology's order: pale, so that failures stand out."""
OTHERS: Final = {
    "answered, by an unknown cluster": "#cccccc",
    str(RequestOutcome.REFUSED): "#e0a000",
    str(RequestOutcome.LOST): "#d02020",
    str(RequestOutcome.UNKNOWN): "#ececec",
}
OUTAGE: Final = "#f6d5d5"
SLOW: Final = f"slower than {SLOW_S:g} s"
MOST_REASONS: Final = 6
"""Maximum number of rows for reasons in a panel; the rarest reasons share one."""
OF_SLOW: Final = "#7030a0"
SECONDS: Final = {0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s", 100: "100 s"}


def binned(requests: Sequence[Request], window: Window, clusters: Sequence[str]) -> dict[str, list[int]]:
    """Requests per bin of `BIN_S` seconds of sending, by responding cluster or outcome; all series have the same
    length."""
    count = max(1, int(window.seconds / BIN_S) + 1)
    series = {name: [0] * count for name in (*(f"answered by {c}" for c in clusters), *OTHERS)}
    for request in requests:
        place = int((request.sent_s - window.begin_s) / BIN_S)
        if 0 <= place < count:
            series[_series_of(request, clusters)][place] += 1
    return series


def _series_of(request: Request, clusters: Sequence[str]) -> str:
    if request.outcome is not RequestOutcome.ANSWERED:
        return str(request.outcome)
    return f"answered by {request.cluster}" if request.cluster in clusters else next(iter(OTHERS))


def mark_reason(request: Request) -> str:
    """The label of a request's mark: `503 UF`, `timeout`, slow; empty for one that was answered in time."""
    if request.is_bad:
        what = str(request.status) if request.status else request.error or str(request.outcome)
        flags = request.flags.strip("-")
        return _in_short(f"{what} {flags}" if flags else what)
    return SLOW if request.is_known and request.latency_s > SLOW_S else ""


def _in_short(text: str, most: int = 32) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def by_reason(requests: Sequence[Request]) -> dict[str, list[Request]]:
    """Marked requests by reason, the most frequent first and slow ones last; the rarest together.

    So a legend has at most `MOST_REASONS` entries.
    """
    found: dict[str, list[Request]] = {}
    for request in requests:
        if reason := mark_reason(request):
            found.setdefault(reason, []).append(request)
    ordered = sorted(found, key=lambda reason: (reason == SLOW, -len(found[reason]), reason))
    if len(ordered) <= MOST_REASONS:
        return {reason: found[reason] for reason in ordered}
    slow = [SLOW] if SLOW in found else []
    failed = [reason for reason in ordered if reason != SLOW]
    shown = failed[: MOST_REASONS - 1 - len(slow)]
    rest = failed[len(shown) :]
    together = {f"{len(rest)} other reasons": [request for reason in rest for request in found[reason]]}
    return {reason: found[reason] for reason in shown} | together | {reason: found[reason] for reason in slow}


def history_chart(
    title: str,
    panels: Mapping[str, Sequence[Request]],
    window: Window,
    marks: Sequence[tuple[float, str]],
    clusters: Sequence[str],
    outages: Sequence[Window] = (),
) -> str:
    """An SVG with a panel for each group of requests, and their latencies below.

    `marks` are labelled moments of the monotonic clock, `outages` the spans to shade.
    """
    import matplotlib as mpl  # takes 1.5 s, so only where something is drawn
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 8}):
        marked = {name: by_reason(requests) for name, requests in panels.items()}
        rows = [
            part for reasons in marked.values() for part in (1.7, *([0.15 + 0.17 * len(reasons)] * bool(reasons)), 1)
        ]
        labels = placed(marks, window)
        head = 0.5 + TIER_INCHES * (1 + max((tier for _, tier, _ in labels), default=0))
        figure = Figure(figsize=(12, head + 0.5 + 1.12 * sum(rows)), layout="constrained")
        figure.suptitle(title, fontsize=10)
        grid = [axes for (axes,) in figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=rows)]
        rest = iter(grid)
        for name, requests in panels.items():
            _draw_counts(next(rest), name, binned(requests, window, clusters), outages)
            if marked[name]:
                _draw_marks(next(rest), marked[name], window)
            _draw_latencies(next(rest), requests, window)
        for axes in grid:
            _draw_moments(axes, marks, outages, window)
        _name_moments(grid[0], labels)
        grid[-1].set_xlabel("seconds")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _draw_counts(axes: Axes, name: str, series: Mapping[str, list[int]], outages: Sequence[Window]) -> None:
    from matplotlib.patches import Patch

    colours = {what: BY_CLUSTER[i % len(BY_CLUSTER)] for i, what in enumerate(series) if what not in OTHERS} | OTHERS
    base = [0] * len(next(iter(series.values())))
    edges = [i * BIN_S for i in range(len(base) + 1)]
    shown = []
    for what, counts in series.items():
        if any(counts):
            top = [below + count for below, count in zip(base, counts, strict=True)]
            bars = axes.stairs(top, edges, baseline=base, fill=True, color=colours[what], linewidth=0)
            bars.set_antialiased(False)  # else seams between bars are visible
            shown.append(Patch(color=colours[what], label=f"{what}: {sum(counts)}"))
            base = top
    if not any(base):
        axes.text(0.5, 0.5, "no requests", transform=axes.transAxes, ha="center", va="center")
    shown += [Patch(color=OUTAGE, label=f"outage: {outage.seconds:.0f} s") for outage in outages]
    if shown:
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.set_ylabel(f"{_in_short(name, 24)}\nrequests per s")
    axes.set_ylim(0, max(base) * 1.15 or 1)


def _draw_marks(axes: Axes, reasons: Mapping[str, Sequence[Request]], window: Window) -> None:
    """A labelled row for each reason, with a mark for every request."""
    for row, (reason, requests) in enumerate(reasons.items()):
        colour = OF_SLOW if reason == SLOW else OTHERS[str(requests[0].outcome)]
        moments = [request.sent_s - window.begin_s for request in requests]
        axes.plot(moments, [row] * len(moments), "|", markersize=9, markeredgewidth=1.6, color=colour, clip_on=False)
    axes.set_yticks(range(len(reasons)), [f"{reason}: {len(requests)}" for reason, requests in reasons.items()])
    axes.yaxis.tick_right()
    axes.set_ylim(len(reasons) - 0.4, -0.6)


def _draw_latencies(axes: Axes, requests: Sequence[Request], window: Window) -> None:
    """A dot for each request, in the colour of its mark if it has one."""
    for colour, size, chosen in (
        ("#404040", 1.5, [r for r in requests if r.is_known and not mark_reason(r)]),
        (OF_SLOW, 4, [r for r in requests if mark_reason(r) == SLOW]),
        *(
            (OTHERS[str(o)], 4, [r for r in requests if r.outcome is o])
            for o in (RequestOutcome.REFUSED, RequestOutcome.LOST)
        ),
    ):
        moments = [r.sent_s - window.begin_s for r in chosen]
        axes.plot(
            moments, [max(r.latency_s, 1e-3) for r in chosen], ".", markersize=size, color=colour, rasterized=size < 2
        )
    axes.set_yscale("log")
    axes.set_ylim(1e-3, max([20.0, *(2 * r.latency_s for r in requests)]))
    axes.set_yticks([at for at in SECONDS if at <= axes.get_ylim()[1]])
    axes.set_yticklabels([SECONDS[at] for at in SECONDS if at <= axes.get_ylim()[1]])
    axes.minorticks_off()
    axes.axhline(SLOW_S, color="#b0b0b0", linewidth=0.6, linestyle=":")
    axes.set_ylabel("until answer\nor error")


def _draw_moments(axes: Axes, marks: Sequence[tuple[float, str]], outages: Sequence[Window], window: Window) -> None:
    axes.set_xlim(0, max(window.seconds, BIN_S))
    for outage in outages:
        axes.axvspan(
            outage.begin_s - window.begin_s, outage.end_s - window.begin_s, color=OUTAGE, zorder=0, linewidth=0
        )
    for moment, _ in marks:
        axes.axvline(moment - window.begin_s, color="black", linewidth=0.8, linestyle="--")


MOST_LETTERS: Final = 14
TIER_INCHES: Final = 0.14


def placed(marks: Sequence[tuple[float, str]], window: Window) -> list[tuple[float, int, str]]:
    """The labels of moments: start as a share of the panel's width, line above the panel, and text.

    Labels of a line do not overlap or leave the panel. Lines are counted from 0.
    """
    ends: list[float] = []
    labels = []
    for moment, what in marks:
        text = _in_short(what, MOST_LETTERS)
        begin = max(0.0, min((moment - window.begin_s) / max(window.seconds, BIN_S), 1 - width_of(text)))
        tier = next((tier for tier, end in enumerate(ends) if begin >= end), len(ends))
        ends[tier : tier + 1] = [begin + width_of(text)]
        labels.append((begin, tier, text))
    return labels


def width_of(text: str) -> float:
    """Upper bound of a label's share of the panel's width: a letter of 8 points is at most 0.07 of 9 inches wide."""
    return 0.01 + 0.008 * len(text)


def _name_moments(axes: Axes, labels: Sequence[tuple[float, int, str]]) -> None:
    for begin, tier, text in labels:
        axes.annotate(
            text,
            (begin, 1.0),
            xytext=(0, 3 + 72 * TIER_INCHES * tier),
            xycoords="axes fraction",
            textcoords="offset points",
        )
