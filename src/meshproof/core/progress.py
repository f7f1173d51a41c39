"""Progress output: one line per step with its time, as plain text for terminals and CI logs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Narrator(Protocol):
    """Receives progress. Safe to call from several threads."""

    def say(self, text: str) -> None:
        """Print one line immediately."""
        ...

    def step(self, title: str) -> AbstractContextManager[None]:
        """A context manager around one step, which is reported when it ends, with its duration and whether it
        failed."""
        ...


class LineNarrator:
    """Writes `  12.3 s  + 4.1 s  title` lines through `write` (default: standard error).

    The first column is the time since the narrator was created, or since `start` (monotonic), the second the step's
    own.
    """

    def __init__(self, write: Callable[[str], None] | None = None, *, start: float | None = None) -> None:
        self._write = write or self._to_stderr
        self._start = time.monotonic() if start is None else start
        self._lock = threading.Lock()
        self._open: list[str] = []

    @property
    def going_on(self) -> str:
        """The latest step that is still running; empty if there is none."""
        steps = tuple(self._open)
        return steps[-1] if steps else ""

    @staticmethod
    def _to_stderr(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        with self._lock:
            self._write(f"{time.monotonic() - self._start:7.1f} s           {text}")

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        begin = time.monotonic()
        outcome = ""
        self._open.append(title)
        try:
            yield
        except BaseException:
            outcome = "  FAILED"
            raise
        finally:
            now = time.monotonic()
            self._open.remove(title)
            with self._lock:
                self._write(f"{now - self._start:7.1f} s  +{now - begin:5.1f} s  {title}{outcome}")

    def step(self, title: str) -> AbstractContextManager[None]:
        return self._step(title)


class Silent:
    """Prints nothing; for tests and for callers without an audience."""

    def say(self, text: str) -> None: ...

    @contextmanager
    def _step(self) -> Iterator[None]:
        yield

    def step(self, title: str) -> AbstractContextManager[None]:
        return self._step()
