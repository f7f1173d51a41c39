"""A status line at the bottom of a terminal, rewritten in place until other output follows."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

CLEAR: Final = "\r\x1b[K"
"""Carriage return and erase line (ECMA-48, EL)."""


class Terminal(Protocol):
    """The output of the status line."""

    def write(self, text: str) -> None:
        """Write text unchanged and flush it."""
        ...

    def fresh_line(self) -> None:
        """Begin a new line if the current one is not empty."""
        ...


class LiveLine:
    """Shows `words()` and the elapsed seconds once a second, for steps that take longer than `patience_s`.

    Between `begin` and `end` it may write at any time; others must write to the terminal inside
    `aside`. Safe to call from several threads.
    """

    def __init__(
        self, terminal: Terminal, words: Callable[[], str], *, patience_s: float = 2.0, every_s: float = 1.0
    ) -> None:
        self._terminal = terminal
        self._words = words
        self._patience_s = patience_s
        self._every_s = every_s
        self._lock = threading.RLock()
        self._since: float | None = None
        self._drawn = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="live-line", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """A step begins that may take long."""
        with self._lock:
            self._since = time.monotonic()

    def end(self) -> None:
        """The step has ended: the line is removed until the next `begin`."""
        with self._lock:
            self._since = None
            self._clear()

    def close(self) -> None:
        self.end()
        self._over.set()
        self._thread.join()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the line while others write."""
        with self._lock:
            self._clear()
            yield

    def _go_on(self) -> None:
        while not self._over.wait(self._every_s):
            self.draw()

    def draw(self) -> None:
        """Write the line if it is due."""
        with self._lock:
            if self._since is None or (spent := time.monotonic() - self._since) < self._patience_s:
                return
            if not self._drawn:
                self._terminal.fresh_line()
            text = f"{spent:7.0f} s  … {self._words()}"
            self._terminal.write(f"{CLEAR}{text[: shutil.get_terminal_size().columns - 1]}")
            self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._terminal.write(CLEAR)
            self._drawn = False
