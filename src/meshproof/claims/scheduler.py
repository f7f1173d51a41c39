"""Claims that leave the mesh as it is, proven at the same time: while one waits for a proxy, the others go on.

`EXCLUSIVE` claims run first, one after the other, with no other claim at the same time. Those that have istiod push
configuration wait until all that are `BEFORE_CONFIG_PUSHES` have ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from meshproof.claims.claim import Isolation
from meshproof.claims.job import Job

WIDTH: Final = 12
"""Claims at once. Each queries in parallel itself; what bounds a pass is the machine's processors."""


class Scheduler:
    """Runs jobs while it is entered. On the way out those that have not begun are dropped, and the others end."""

    def __init__(
        self, jobs: Iterable[Job], *, width: int = WIDTH, before_pushes: Callable[[], object] = lambda: None
    ) -> None:
        """`before_pushes` is called as soon as something may be pushed after claims that tolerate no push; it must
        return at once."""
        order = list(Isolation)
        self._waiting = sorted(jobs, key=lambda job: order.index(job.isolation))
        self._running: list[Job] = []
        self._leaving: list[Job] = []
        """Ended, and `before_pushes` may still be under way for them."""
        self._width = width
        self._before_pushes = before_pushes
        self._changed = threading.Condition()

    def __enter__(self) -> Scheduler:
        with self._changed:
            self._advance()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            for job in self._waiting:
                job.cancel()
            self._waiting.clear()
        self.join()

    def join(self) -> None:
        """Wait until every job has ended; each does by its deadline."""
        with self._changed:
            self._changed.wait_for(self._is_done)

    @property
    def done(self) -> bool:
        """Whether every job has ended."""
        with self._changed:
            return self._is_done()

    def _is_done(self) -> bool:
        return not self._waiting and not self._running and not self._leaving

    def _advance(self) -> None:
        """Begin all that may."""
        while len(self._running) < self._width and self._waiting and self._may_begin(self._waiting[0]):
            job = self._waiting.pop(0)
            self._running.append(job)
            job.start(self._has_ended)

    def _may_begin(self, job: Job) -> bool:
        """They begin in the order of their isolation, so what is left need not be looked at."""
        running = {other.isolation for other in self._running}
        if job.isolation is Isolation.EXCLUSIVE:
            return not running
        if job.isolation is Isolation.PUSHES_CONFIG and Isolation.BEFORE_CONFIG_PUSHES in running:
            return False
        return Isolation.EXCLUSIVE not in running

    def _has_ended(self, job: Job) -> None:
        with self._changed:
            self._running.remove(job)
            self._leaving.append(job)
            left = [*self._running, *self._waiting]
            pushes_may_begin = job.isolation is Isolation.BEFORE_CONFIG_PUSHES and job.isolation not in {
                other.isolation for other in left
            }
        try:
            if pushes_may_begin:
                self._before_pushes()
        finally:
            with self._changed:
                self._leaving.remove(job)
                self._advance()
                self._changed.notify_all()
