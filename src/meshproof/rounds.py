"""Claims that leave the mesh as it is, proven at the same time: while one waits for a proxy, the others go on.

Claims that count what passes through proxies are `alone`: they have their turns first, one after the other, with no
other claim beside them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final

WIDTH: Final = 12
"""Claims at once. Each asks in parallel itself; with more of them the API servers' `exec` sessions only queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claim's work. No other may run beside one that is `alone`."""

    name: str
    work: Callable[[], None]
    alone: bool = False


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

    def __init__(self, jobs: Iterable[Job], *, width: int = WIDTH) -> None:
        self._pool = ThreadPoolExecutor(max_workers=width, thread_name_prefix="claim")
        self._one_at_a_time = threading.Lock()
        self._others_may = threading.Event()
        self.turns = {job.name: Turn(job) for job in jobs}
        self._still_alone = sum(turn.job.alone for turn in self.turns.values())

    def __enter__(self) -> Round:
        if not self._still_alone:
            self._others_may.set()
        for turn in sorted(self.turns.values(), key=lambda turn: not turn.job.alone):
            turn.begin(self._pool, self._alone if turn.job.alone else self._beside_others)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _alone(self, turn: Turn) -> None:
        with self._one_at_a_time:
            try:
                turn.do()
            finally:
                self._still_alone -= 1
                if not self._still_alone:
                    self._others_may.set()

    def _beside_others(self, turn: Turn) -> None:
        self._others_may.wait()
        turn.do()
