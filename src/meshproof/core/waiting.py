"""All waiting is done here: `eventually`, on tenacity, `poll_until_clean` and `pause`; the last observation is kept for
the error text.

A check is a callable that returns an observation, or raises `NotYet` with the current state. Any other exception ends
the wait at once: for a known-bad state raise `Broken` or `ClaimFailed`, so that it does not cost the whole deadline.
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
    """Raised by a check that must be retried; its text is the observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOutcome:
    """Result of a wait: attempts, duration in seconds, the last observation, and when it last changed (seconds after
    the start)."""

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
    """Short intervals at first, then `poll_s`: most waits here end within a second."""
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
    """Call `check` until it stops raising `NotYet`, and return its result.

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
    """Let `seconds` pass, where time itself matters (a request rate, a grace period)."""
    time.sleep(seconds)


def poll_until_clean(problems: Callable[[], list[str]], *, timeout_s: float = DEADLINES.configuration_s) -> list[str]:
    """Poll until there are no problems, or for `timeout_s` seconds; returns the last problems.

    For effects of configuration that was just applied: the bound is part of the claim, and the problems are reported.
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
