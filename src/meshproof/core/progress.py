"""Telling what is going on: one line per step, with its time; plain text that suits a terminal and a CI log alike."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Narrator(Protocol):
    """Where steps are told. Safe to call from several threads."""

    def say(self, text: str) -> None:
        """One line, now."""
        ...

    def step(self, title: str) -> AbstractContextManager[None]:
        """A context manager around one step: told when it ends, with its seconds, and told as failed if it raises."""
        ...


class LineNarrator:
    """Writes `  12.3 s  + 4.1 s  title` lines through `write` (default: standard error).

    The first column is the time since the narrator was made, or since `start` (monotonic), the second the step's own.
    """

    def __init__(self, write: Callable[[str], None] | None = None, *, start: float | None = None) -> None:
        self._write = write or self._to_stderr
        self._start = time.monotonic() if start is None else start
        self._lock = threading.Lock()
        self._open: list[str] = []

    @property
    def going_on(self) -> str:
        """The step that began last and has not ended; empty if there is none."""
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
    """Tells nothing; for tests and for callers that have nobody to tell."""

    def say(self, text: str) -> None: ...

    @contextmanager
    def _step(self) -> Iterator[None]:
        yield

    def step(self, title: str) -> AbstractContextManager[None]:
        return self._step()
