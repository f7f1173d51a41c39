"""A history as a picture: requests per 100 ms by outcome and answering cluster, the fault's start and end marked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from meshproof.load.history import Outcome, Request, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BIN_S: Final = 0.1
BY_CLUSTER: Final = ("#4878a8", "#6aa86a", "#a87848", "#8868a8")
"""Colours of answers by cluster, in the topology's order."""
OTHERS: Final = {
    "answered, by whom is not told": "#b0b0b0",
    str(Outcome.REFUSED): "#e0a000",
    str(Outcome.LOST): "#d02020",
    str(Outcome.UNKNOWN): "#d8d8d8",
}


def binned(requests: Sequence[Request], window: Window, clusters: Sequence[str]) -> dict[str, list[int]]:
    """Requests per bin of `BIN_S` seconds of sending, by who answered or what became of them; all series as long."""
    count = max(1, int(window.seconds / BIN_S) + 1)
    series = {name: [0] * count for name in (*(f"answered by {c}" for c in clusters), *OTHERS)}
    for request in requests:
        place = int((request.sent_s - window.begin_s) / BIN_S)
        if 0 <= place < count:
            series[_series_of(request, clusters)][place] += 1
    return series


def _series_of(request: Request, clusters: Sequence[str]) -> str:
    if request.outcome is not Outcome.ANSWERED:
        return str(request.outcome)
    return f"answered by {request.cluster}" if request.cluster in clusters else next(iter(OTHERS))


def history_chart(
    title: str,
    panels: Mapping[str, Sequence[Request]],
    window: Window,
    marks: Sequence[tuple[float, str]],
    clusters: Sequence[str],
) -> str:
    """An SVG with a panel for each group of requests, and beneath it how long their answers took.

    `marks` are moments of the monotonic clock with what happened then.
    """
    import matplotlib as mpl  # a second and a half, only where something is drawn
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(11, 1.2 + 2.4 * len(panels)), layout="constrained")
        figure.suptitle(title)
        grid = figure.subplots(2 * len(panels), 1, sharex=True, squeeze=False, height_ratios=[3, 1] * len(panels))
        for number, (name, requests) in enumerate(panels.items()):
            counts, latencies = grid[2 * number][0], grid[2 * number + 1][0]
            _draw_counts(counts, name, binned(requests, window, clusters))
            _draw_latencies(latencies, requests, window)
            for moment, what in marks:
                for axes in (counts, latencies):
                    axes.axvline(moment - window.begin_s, color="black", linewidth=0.8, linestyle="--")
                counts.annotate(
                    what, (moment - window.begin_s, 1.0), xycoords=("data", "axes fraction"), rotation=30, fontsize=7
                )
        grid[-1][0].set_xlabel("seconds")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _draw_counts(axes: Axes, name: str, series: Mapping[str, list[int]]) -> None:
    shown = {what: counts for what, counts in series.items() if any(counts)}
    colours = {what: BY_CLUSTER[i % len(BY_CLUSTER)] for i, what in enumerate(series) if what not in OTHERS} | OTHERS
    if shown:
        moments = [i * BIN_S for i in range(len(next(iter(shown.values()))))]
        axes.stackplot(moments, *shown.values(), labels=[*shown], colors=[colours[what] for what in shown], step="post")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_ylabel(f"{name}\nper {BIN_S * 1000:.0f} ms")
    axes.set_ylim(bottom=0)


def _draw_latencies(axes: Axes, requests: Sequence[Request], window: Window) -> None:
    for good, colour in ((True, "#404040"), (False, "#d02020")):
        chosen = [r for r in requests if r.is_known and r.is_bad is not good]
        moments = [r.sent_s - window.begin_s for r in chosen]
        axes.plot(moments, [max(r.latency_s, 1e-3) for r in chosen], ".", markersize=1.5, color=colour, rasterized=True)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 20)
    axes.set_ylabel("seconds")
