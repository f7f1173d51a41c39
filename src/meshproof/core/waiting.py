"""The only place that waits: `eventually`, on tenacity, `poll_until_clean` and `pause`; the last observation is kept.

A check is a callable that returns an observation, or raises `NotYet` with what it saw. Any other exception ends the
wait at once: a known-bad state must not cost the whole deadline (raise `Broken` or `ClaimFailed` for it).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential
from tenacity.wait import wait_base

from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed, MeshproofError, NotReady

T = TypeVar("T")


class NotYet(MeshproofError):
    """A check's way of saying that it must be asked again; its text is the observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOutcome:
    """What a wait saw: attempts made, seconds spent, the last observation and when it last changed (seconds in)."""

    attempts: int
    elapsed_s: float
    last: str
    changed_s: float


class _Watcher:
    """Keeps the last observation and when it last changed, for the failure text."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.attempts = 0
        self.last = "nothing yet"
        self.changed_s = 0.0

    def saw(self, text: str) -> None:
        self.attempts += 1
        if text != self.last:
            self.last = text
            self.changed_s = time.monotonic() - self.start

    def outcome(self) -> WaitOutcome:
        return WaitOutcome(
            attempts=self.attempts,
            elapsed_s=time.monotonic() - self.start,
            last=self.last,
            changed_s=self.changed_s,
        )


def _pace(poll_s: float) -> wait_base:
    """Quick at first, then no slower than `poll_s`: most waits here end within a second."""
    return wait_exponential(multiplier=min(0.05, poll_s), max=poll_s, exp_base=1.6)


def eventually(
    check: Callable[[], T],
    *,
    what: str,
    timeout_s: float,
    poll_s: float = 0.5,
    repair: str = "",
    error: type[NotReady] | type[ClaimFailed] = NotReady,
) -> T:
    """Ask `check` until it stops raising `NotYet`, and return what it returned.

    Raises `error` after `timeout_s` seconds, with the last observation, when it last changed, and the attempts.
    """
    watcher = _Watcher()

    def note(state: RetryCallState) -> None:
        if state.outcome is not None and state.outcome.failed:
            watcher.saw(str(state.outcome.exception()))

    retrying = Retrying(
        retry=retry_if_exception_type(NotYet),
        stop=stop_after_delay(timeout_s),
        wait=_pace(poll_s),
        after=note,
    )
    try:
        return retrying(check)
    except RetryError:
        outcome = watcher.outcome()
        reason = (
            f"not within {timeout_s:g} s ({outcome.attempts} attempts)\n"
            f"  last seen   {outcome.last} (unchanged since {outcome.changed_s:.1f} s)"
        )
        if issubclass(error, ClaimFailed):
            text = f"{what}: {reason}"
            raise ClaimFailed(f"{text}\n  repair      {repair}" if repair else text) from None
        raise error(what, reason, repair) from None


def pause(seconds: float) -> None:
    """Let `seconds` pass, for code whose subject is time itself (a request rate, a grace period)."""
    time.sleep(seconds)


def poll_until_clean(problems: Callable[[], list[str]], *, timeout_s: float = DEADLINES.configuration_s) -> list[str]:
    """Ask for problems until there are none, or `timeout_s` is over; returns the last ones.

    For what follows configuration that was just applied: the bound is part of what is claimed, the problems are told.
    """
    last: list[str] = []

    def check() -> None:
        nonlocal last
        last = problems()
        if last:
            raise NotYet("; ".join(last))

    try:
        eventually(check, what="settled", timeout_s=timeout_s)
    except NotReady:
        if not last:
            raise
    return last
