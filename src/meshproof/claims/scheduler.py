"""Claims that leave the mesh as it is, proven at the same time: while one waits for a proxy, the others go on.

Claims that count what passes through proxies are `ALONE`: they have their turns first, one after the other, with no
other claim beside them. Those that have istiod push something, to prove themselves on it, are `PUSHES`: they wait for
those that need `QUIET`, since a push that is acknowledged hides one before it that was not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final

WIDTH: Final = 12
"""Claims at once. Each asks in parallel itself; with more of them the API servers' `exec` sessions only queue."""


class Manners(StrEnum):
    """How a claim gets on with the others, in the order of their turns."""

    ALONE = "alone"
    QUIET = "quiet"
    EASY = "easy"
    PUSHES = "pushes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claim's work."""

    name: str
    work: Callable[[], None]
    manners: Manners = Manners.EASY


class Turn:
    """One job's turn in a round."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seconds = 0.0
        self._future: Future[None] | None = None

    def begin(self, pool: ThreadPoolExecutor, run: Callable[[Turn], None]) -> None:
        self._future = pool.submit(run, self)

    def do(self) -> None:
        start = time.monotonic()
        try:
            self.job.work()
        finally:
            self.seconds = time.monotonic() - start

    def result(self) -> None:
        """Wait for the job's end, and raise what it raised. `seconds` is then its own time, without its waiting."""
        assert self._future is not None, "the round was not entered"
        self._future.result()


class Round:
    """Runs jobs while it is entered. On the way out those that have not begun are dropped, and the others end."""

    def __init__(
        self, jobs: Iterable[Job], *, width: int = WIDTH, after_quiet: Callable[[], object] = lambda: None
    ) -> None:
        """`after_quiet` is called as soon as something may be pushed, before a turn is free; it must return at once."""
        self._pool = ThreadPoolExecutor(max_workers=width, thread_name_prefix="claim")
        self._one_at_a_time = threading.Lock()
        self._when_quiet_is_over = after_quiet
        self.turns = {job.name: Turn(job) for job in jobs}
        self._alone_are_through = Countdown(self._count(Manners.ALONE))
        self._quiet_are_through = Countdown(self._count(Manners.QUIET))

    def __enter__(self) -> Round:
        run = {
            Manners.ALONE: self._alone,
            Manners.QUIET: self._in_quiet,
            Manners.EASY: self._beside_others,
            Manners.PUSHES: self._after_quiet,
        }
        for manners, how in run.items():
            for turn in self.turns.values():
                if turn.job.manners is manners:
                    turn.begin(self._pool, how)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _count(self, manners: Manners) -> int:
        return sum(turn.job.manners is manners for turn in self.turns.values())

    def _alone(self, turn: Turn) -> None:
        with self._one_at_a_time, self._alone_are_through.one():
            turn.do()

    def _in_quiet(self, turn: Turn) -> None:
        try:
            with self._quiet_are_through.one():
                self._beside_others(turn)
        finally:
            if self._quiet_are_through.done:
                self._when_quiet_is_over()

    def _after_quiet(self, turn: Turn) -> None:
        self._quiet_are_through.wait()
        self._beside_others(turn)

    def _beside_others(self, turn: Turn) -> None:
        self._alone_are_through.wait()
        turn.do()


class Countdown:
    """Lets who waits go on when so many have ended."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._done = threading.Event()
        if not count:
            self._done.set()

    def wait(self) -> None:
        self._done.wait()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """One of them: it has ended when the block is left, whatever happened in it."""
        try:
            yield
        finally:
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._done.set()
