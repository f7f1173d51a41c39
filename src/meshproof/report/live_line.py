"""One line at the bottom of a terminal that tells what is going on, rewritten in place until something else is told."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

CLEAR: Final = "\r\x1b[K"
"""Back to the beginning of the line, and nothing on it (ECMA-48, EL)."""


class Terminal(Protocol):
    """Where it is written: what leaves the line alone while others write to it has a `fresh_line` to begin on."""

    def write(self, text: str) -> None:
        """Text as it is, at once."""
        ...

    def fresh_line(self) -> None:
        """Go to the beginning of a line, if somebody has left one half full."""
        ...


class LiveLine:
    """Tells `words()` and the seconds so far once a second, for what takes longer than `patience_s`.

    Between `begin` and `end` it may write at any time; whoever writes to the terminal meanwhile does it inside
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
        """Something begins that may take long."""
        with self._lock:
            self._since = time.monotonic()

    def end(self) -> None:
        """It has ended: the line goes, and does not come back before the next `begin`."""
        with self._lock:
            self._since = None
            self._clear()

    def close(self) -> None:
        self.end()
        self._over.set()
        self._thread.join()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The line is away while somebody else writes."""
        with self._lock:
            self._clear()
            yield

    def _go_on(self) -> None:
        while not self._over.wait(self._every_s):
            self.draw()

    def draw(self) -> None:
        """Write the line now, if it is time for it."""
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
