"""Waiting, on a clock that moves only when something sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.waiting import NotYet, eventually


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)  # tenacity looks it up there as well


def after(seconds: float, *, before: str = "0 of 2 pods", answer: str = "2 of 2 pods") -> Callable[[], str]:
    """A check that passes once `seconds` have gone by."""
    start = time.monotonic()

    def check() -> str:
        if time.monotonic() - start < seconds:
            raise NotYet(before)
        return answer

    return check


def test_eventually_returns_what_the_check_returned() -> None:
    assert eventually(after(3), what="pods", timeout_s=10) == "2 of 2 pods"


def test_eventually_asks_at_once_and_soon_again() -> None:
    start = time.monotonic()
    eventually(after(0), what="pods", timeout_s=10)
    assert time.monotonic() == start
    eventually(after(0.04), what="pods", timeout_s=10)
    assert time.monotonic() - start < 0.1


def test_eventually_is_never_more_than_a_poll_late() -> None:
    start = time.monotonic()
    eventually(after(20), what="pods", timeout_s=60, poll_s=0.5)
    assert 20 <= time.monotonic() - start <= 20.5


def test_eventually_says_what_it_saw_last_and_since_when() -> None:
    start = time.monotonic()

    def check() -> str:
        raise NotYet("0 of 2 pods" if time.monotonic() - start < 2 else "1 of 2 pods")

    with pytest.raises(NotReady) as caught:
        eventually(check, what="pods of cluster1", timeout_s=5, repair="kubectl describe them")
    assert str(caught.value) == (
        "pods of cluster1: not within 5 s (15 attempts)\n"
        "  last seen   1 of 2 pods (unchanged since 2.3 s)\n"
        "  repair: kubectl describe them"
    )


def test_eventually_can_fail_a_claim_instead() -> None:
    with pytest.raises(ClaimFailed, match="endpoint in EDS: not within 1 s") as caught:
        eventually(after(9), what="endpoint in EDS", timeout_s=1, error=ClaimFailed, repair="look at clusterz")
    assert str(caught.value).endswith("\n  repair      look at clusterz")


def test_eventually_ends_at_once_at_a_state_that_cannot_get_better() -> None:
    start = time.monotonic()

    def check() -> str:
        raise Broken("pod client", "ErrImagePull")

    with pytest.raises(Broken, match="ErrImagePull"):
        eventually(check, what="pods", timeout_s=300)
    assert time.monotonic() == start
