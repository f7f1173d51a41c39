"""Rounds of claims: who runs beside whom, and what each comes to."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from meshproof.claims.scheduler import Job, Manners, Round
from meshproof.core.errors import ClaimFailed


def test_jobs_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    with Round([Job(name=str(n), work=lambda: _arrive(meeting)) for n in range(3)]) as round_:
        for turn in round_.turns.values():
            turn.result()


def _arrive(meeting: threading.Barrier) -> None:
    meeting.wait()


def test_jobs_that_want_to_be_alone_are_and_come_first() -> None:
    running: set[str] = set()
    company: dict[str, set[str]] = {}
    order: list[str] = []
    lock = threading.Lock()

    def job(name: str, manners: Manners = Manners.EASY) -> Job:
        def work() -> None:
            with lock:
                running.add(name)
                order.append(name)
            threading.Event().wait(0.02)
            with lock:
                company[name] = running - {name}
                running.discard(name)

        return Job(name=name, work=work, manners=manners)

    jobs = [job("a"), job("first", Manners.ALONE), job("b"), job("second", Manners.ALONE)]
    with Round(jobs) as round_:
        for turn in round_.turns.values():
            turn.result()
    assert set(order[:2]) == {"first", "second"}
    assert company["first"] == company["second"] == set()


def test_each_result_is_its_own_and_takes_its_own_time() -> None:
    def fail() -> None:
        threading.Event().wait(0.05)
        raise ClaimFailed("two roots")

    with Round([Job(name="bad", work=fail, manners=Manners.ALONE), Job(name="good", work=lambda: None)]) as round_:
        round_.turns["good"].result()
        with pytest.raises(ClaimFailed, match="two roots"):
            round_.turns["bad"].result()
    assert round_.turns["bad"].seconds >= 0.05
    assert round_.turns["good"].seconds < 0.05, "its waiting for the other does not count"


def test_leaving_early_drops_what_has_not_begun_and_waits_for_the_rest() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(10)
        ended.set()

    with Round([Job(name="slow", work=slow), Job(name="late", work=lambda: None)], width=1) as round_:
        begun.wait(10)
        threading.Timer(0.05, release.set).start()
    assert ended.is_set()
    with pytest.raises(CancelledError):
        round_.turns["late"].result()


def test_who_pushes_waits_for_who_needs_quiet_even_if_that_fails() -> None:
    order: list[str] = []

    def look() -> None:
        threading.Event().wait(0.05)
        order.append("look")
        raise ClaimFailed("out of sync")

    jobs = [
        Job(name="push", work=lambda: order.append("push"), manners=Manners.PUSHES),
        Job(name="look", work=look, manners=Manners.QUIET),
        Job(name="easy", work=lambda: order.append("easy")),
    ]
    with Round(jobs) as round_:
        round_.turns["push"].result()
    assert order == ["easy", "look", "push"]
