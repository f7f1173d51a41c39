"""The chart of a history: bins, reasons and labels, whatever became of the requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest

from meshproof.load.history import Request, RequestOutcome, Window
from meshproof.report.chart import MOST_REASONS, OUTAGE, SLOW, binned, by_reason, history_chart, placed, width_of
from tests.test_history import request

WINDOW = Window(begin_s=0, end_s=10)


def refused(sent_s: float, status: int = 503, flags: str = "UF") -> Request:
    return replace(request(sent_s, RequestOutcome.REFUSED), status=status, flags=flags, error="")


def lost(sent_s: float, error: str = "timeout") -> Request:
    return replace(request(sent_s, RequestOutcome.LOST), status=0, error=error)


def slow(sent_s: float) -> Request:
    return replace(request(sent_s), latency_s=2.5, cluster="east")


def texts(svg: str) -> list[str]:
    return [(each.text or "").strip() for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def chart(panels: dict[str, Sequence[Request]], *, outages: Sequence[Window] = ()) -> str:
    marks = [(1.5, "fault"), (3.0, "healing")]
    return history_chart("istiod of east stopped", panels, WINDOW, marks, ["east"], outages)


def test_requests_are_binned_by_the_second_and_by_who_answered_or_what_became_of_the_others() -> None:
    requests = [
        replace(request(0.1), cluster="east"),
        replace(request(0.5), cluster="west"),
        replace(request(0.9), cluster="west"),
        request(1.5),
        request(2.5, RequestOutcome.UNKNOWN),
        request(11.0, RequestOutcome.LOST),
    ]
    series = binned(requests, WINDOW, ["east", "west"])
    assert series["answered by east"][:3] == [1, 0, 0]
    assert series["answered by west"][:3] == [2, 0, 0]
    assert series["answered, by an unknown cluster"][:3] == [0, 1, 0]
    assert series["unknown"][:3] == [0, 0, 1]
    assert sum(series["lost"]) == 0
    assert {len(counts) for counts in series.values()} == {11}


def test_reasons_are_those_of_the_gateway_or_the_client_and_slow_ones_come_last() -> None:
    requests = [slow(1), slow(2), slow(3), refused(1), refused(2), lost(3), refused(4, 500, "-"), request(5)]
    requests.append(replace(slow(6), outcome=RequestOutcome.UNKNOWN))
    counts = {reason: len(chosen) for reason, chosen in by_reason(requests).items()}
    assert list(counts.items()) == [("503 UF", 2), ("500", 1), ("timeout", 1), (SLOW, 3)]


def test_many_reasons_share_a_row_and_none_is_forgotten() -> None:
    requests = [lost(1, f"reason {number}") for number in range(20)] + [refused(2)] * 3 + [slow(3)]
    found = by_reason(requests)
    assert next(iter(found)) == "503 UF"
    assert list(found)[-2:] == [f"{21 - (MOST_REASONS - 2)} other reasons", SLOW]
    assert len(found) == MOST_REASONS
    assert sum(map(len, found.values())) == len(requests)


def test_a_long_reason_is_cut() -> None:
    (reason,) = by_reason([lost(1, "connection refused\n by the peer " * 9)])
    assert reason == "connection refused by the peer …"


def test_a_chart_names_the_moments_and_every_reason_with_its_count_and_is_the_same_each_time() -> None:
    panels: dict[str, Sequence[Request]] = {
        "east": [replace(request(1.0), cluster="east"), *[lost(2.0)] * 9, refused(2.2), slow(4)],
        "west": [],
    }
    first, second = (chart(panels, outages=[Window(begin_s=1.5, end_s=3.0)]) for _ in range(2))
    assert first == second
    wanted = {"istiod of east stopped", "fault", "healing", "answered by east: 2", "lost: 9", "refused: 1"}
    wanted |= {"timeout: 9", "503 UF: 1", f"{SLOW}: 1", "no requests", "outage: 2 s"}
    assert wanted <= set(texts(first))


def test_an_outage_is_shaded_in_every_part_and_nothing_is_without_one() -> None:
    panels: dict[str, Sequence[Request]] = {"east": [request(1.0), lost(2.0)], "west": [request(1.0)]}
    assert OUTAGE not in chart(panels)
    shaded = chart(panels, outages=[Window(begin_s=1.5, end_s=3.0)])
    parts, legends = 5, 2  # counts, marks and latencies of east, counts and latencies of west
    assert len(re.findall(f"fill: {OUTAGE}", shaded)) == parts + legends


def test_a_panel_without_failures_has_no_row_for_them() -> None:
    good, bad = (chart({"east": requests}) for requests in ([request(1.0)], [request(1.0), lost(2.0)]))
    heights = [float(ElementTree.fromstring(svg).attrib["height"].removesuffix("pt")) for svg in (good, bad)]
    assert heights[0] < heights[1]
    assert "timeout: 1" not in texts(good)


@pytest.mark.parametrize(
    "moments",
    [
        [(1.5, "fault"), (1.6, "gone"), (1.7, "healing"), (1.8, "back")],
        [(float(number) / 4, str(number)) for number in range(41)],
        [(9.8, "healing"), (9.9, "back"), (10.0, "a label that is much too long")],
        [(0.0, "fault"), (10.0, "back")],
    ],
)
def test_labels_never_overlap_or_leave_the_panel(moments: list[tuple[float, str]]) -> None:
    labels = placed(moments, WINDOW)
    assert [text[:3] for _, _, text in labels] == [what[:3] for _, what in moments]
    assert all(0 <= begin <= 1 - width_of(text) for begin, _, text in labels)
    for (begin, tier, text), (other, its_tier, its_text) in combinations(labels, 2):
        assert tier != its_tier or begin + width_of(text) <= other or other + width_of(its_text) <= begin
