"""One claim's proof in a thread of its own: its result, its deadline, and what it may write meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextvars import ContextVar
from typing import Final

from meshproof.claims.claim import Isolation
from meshproof.core.concurrency import ChildThread, innermost_calls
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import Broken

_CURRENT: Final[ContextVar[Job | None]] = ContextVar("the job that is running", default=None)


class Job:
    """Work that a `Scheduler` runs. It ends when the work does, or at its deadline: then it is BROKEN.

    Python cannot end a thread: one that hangs is left behind, and may only delete from then on.
    """

    def __init__(
        self,
        code: str,
        work: Callable[[], None],
        *,
        isolation: Isolation = Isolation.SHARED,
        deadline_s: float = DEADLINES.claim_s,
    ) -> None:
        self.code = code
        self.isolation = isolation
        self.seconds = 0.0
        """How long it took itself, without its waiting for others."""
        self.overdue = False
        self.undeclared: Broken | None = None
        """The first attempt to have istiod push what the claim did not declare."""
        self._work = work
        self._deadline_s = deadline_s
        self._began = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def start(self, when_ended: Callable[[Job], None]) -> None:
        """Begin; `when_ended` is called once, in a thread of its own choice, when the job has ended in either way."""
        self._began, began = True, time.monotonic()

        def run() -> None:
            _CURRENT.set(self)
            error: BaseException | None = None
            try:
                self._work()
            except BaseException as problem:  # noqa: BLE001 - whoever waits for the result gets it
                error = problem
            watchdog.cancel()
            end(self.undeclared or error)

        def expire() -> None:
            doing = ", ".join(innermost_calls(thread)) or "nothing that can be seen"
            end(
                Broken(
                    f"{self.code} did not end within {self._deadline_s:g} s",
                    f"it was doing {doing}",
                    f"run it by itself: -k {self.code}; if it only needs longer, declare deadline_s in its @claim",
                ),
                overdue=True,
            )

        def end(error: BaseException | None, *, overdue: bool = False) -> None:
            with self._lock:
                if self._ended.is_set():
                    return
                self.seconds, self._error, self.overdue = time.monotonic() - began, error, overdue
                self._ended.set()
            when_ended(self)

        thread = ChildThread(run, name=f"claim {self.code}", daemon=True)
        watchdog = threading.Timer(self._deadline_s, expire)
        watchdog.daemon = True
        watchdog.start()
        thread.start()

    def cancel(self) -> None:
        """It never begins."""
        self._error = CancelledError(f"{self.code} had not begun")
        self._ended.set()

    @property
    def problem(self) -> BaseException | None:
        """Why it failed, as far as it has ended; None if it never began, too."""
        return None if isinstance(self._error, CancelledError) else self._error

    @property
    def begun(self) -> bool:
        return self._began

    def result(self) -> None:
        """Wait for the end, and raise what the work raised, or `Broken` if it did not end in time."""
        self._ended.wait()
        if self._error is not None:
            raise self._error


def require_config_pushes(what: str, *, removes: bool = False) -> None:
    """Let the running claim do `what`, which makes istiod push configuration. Outside of concurrent claims: always.

    Raises `Broken` if it has not declared `Isolation.PUSHES_CONFIG`, so that it and not its neighbour fails, and if its
    deadline is over, unless this `removes` something.
    """
    job = _CURRENT.get()
    if job is None:
        return
    if job.isolation is not Isolation.PUSHES_CONFIG:
        problem = Broken(
            f"{job.code}: {what}",
            "istiod pushes this to proxies while other claims look at them, and the claim does not declare it",
            "declare isolation=Isolation.PUSHES_CONFIG in its @claim",
        )
        job.undeclared = job.undeclared or problem
        raise problem
    if job.overdue and not removes:
        raise Broken(f"{job.code}: {what}", "the claim's deadline is over, so it may only remove what it has made")
