"""Request history and its evaluation, and the load generator."""

from __future__ import annotations

from dataclasses import replace

from meshproof.core.waiting import pause
from meshproof.load.generator import Load, outcome_of
from meshproof.load.history import History, Request, RequestOutcome, Response, Window, bad_spell, silence, summarise


def request(
    sent_s: float, outcome: RequestOutcome = RequestOutcome.ANSWERED, *, source: str = "a", latency_s: float = 0.01
) -> Request:
    return Request(
        sent_s=sent_s,
        wall=1_800_000_000 + sent_s,
        source=source,
        outcome=outcome,
        status=200 if outcome is RequestOutcome.ANSWERED else 0,
        version="v1" if outcome is RequestOutcome.ANSWERED else "",
        latency_s=latency_s,
        error="" if outcome is RequestOutcome.ANSWERED else "timed out",
    )


def test_a_window_has_the_requests_that_were_sent_in_it_whenever_they_ended() -> None:
    history = History()
    for sent in (3.0, 1.0, 2.0):
        history.add(request(sent))
    assert [r.sent_s for r in history.sent_in(Window(begin_s=1.5, end_s=3.0))] == [2.0, 3.0]


def test_lost_are_errors_and_refusals_but_not_those_with_unknown_outcome() -> None:
    history = History()
    for number, outcome in enumerate(RequestOutcome):
        history.add(request(float(number), outcome))
    lost = history.lost_in(Window(begin_s=0, end_s=10))
    assert [r.outcome for r in lost] == [RequestOutcome.REFUSED, RequestOutcome.LOST]


def test_sources_are_judged_apart() -> None:
    history = History()
    history.add(request(1, RequestOutcome.LOST, source="east"))
    history.add(request(1, source="west"))
    assert history.lost_in(Window(begin_s=0, end_s=2), sources=("west",)) == []


def test_a_summary_counts_and_ranks_answered_requests_only() -> None:
    requests = [request(n, latency_s=n / 100) for n in range(1, 101)] + [
        request(101, RequestOutcome.LOST, latency_s=15)
    ]
    summary = summarise(requests)
    assert (summary.total, summary.answered, summary.versions) == (101, 100, {"v1": 100})
    assert (summary.p50_s, summary.p99_s, summary.longest_s) == (0.5, 0.99, 1.0)
    assert str(summary) == "100 of 101 answered (v1 100), 1 lost; p50 500 ms, p99 990 ms, max 1.00 s"


def test_a_summary_of_nothing_is_nothing() -> None:
    assert str(summarise([])) == "0 of 0 answered (no version); p50 0 ms, p99 0 ms, max 0.00 s"


def test_the_csv_has_a_line_per_request_in_utc() -> None:
    history = History()
    history.add(request(0.5, RequestOutcome.LOST))
    assert history.as_csv().splitlines()[1] == '2027-01-15T08:00:00.500+00:00,a,lost,0,,,10.0,,"","timed out"'


def test_outcomes_follow_from_responses() -> None:
    assert outcome_of(Response(status=200, version="v1")) is RequestOutcome.ANSWERED
    assert outcome_of(Response(status=503)) is RequestOutcome.REFUSED
    assert outcome_of(Response(status=0, error="timed out")) is RequestOutcome.LOST
    assert outcome_of(Response(status=200, version="v1", error="transfer closed")) is RequestOutcome.LOST


def test_a_bad_spell_lasts_until_the_last_request_that_was_lost_or_slow_after_the_fault() -> None:
    requests = [
        request(1, RequestOutcome.LOST),
        request(5),
        request(6, RequestOutcome.LOST),
        request(7, latency_s=2.0),
        request(8),
    ]
    assert bad_spell(requests, 4.0) == 3.0
    assert bad_spell(requests, 7.5) == 0.0
    assert bad_spell([request(5, RequestOutcome.UNKNOWN)], 4.0) == 0.0


def test_silence_is_the_longest_time_without_a_response_of_a_cluster() -> None:
    requests = [replace(request(n), cluster="east") for n in (1, 2, 6)] + [replace(request(4), cluster="west")]
    assert silence(requests, Window(begin_s=0, end_s=7), "east") == 4
    assert silence(requests, Window(begin_s=0, end_s=7), "west") == 4
    assert silence([], Window(begin_s=0, end_s=7), "east") == 7


def test_a_slow_response_does_not_slow_the_load_down() -> None:
    def slow() -> Response:
        pause(0.3)
        return Response(status=200, version="v1")

    def quick() -> Response:
        return Response(status=200, version="v2")

    with Load({"slow": slow, "quick": quick}, rate=50) as load:
        pause(0.5)
    counts = summarise(load.history).versions
    assert counts["v1"] >= 5, "one after the other there would be two"
    assert counts["v2"] >= 5
