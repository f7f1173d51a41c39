"""Gates between the processes of one run: one of them keeps them shut and opens them, the others wait.

A gate is a file on which its keeper holds a lock, so that nobody has to ask again and again, and nobody waits for a
keeper that has died: the kernel lets go of its locks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Final

OPEN: Final = "open"
OFF: Final = "off"
"""What is written into a gate before it is let go; as a name, of the file that says that the run was called off."""


class Gates:
    """The gates of a folder; an open gate stays open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shut: dict[str, TextIOWrapper] = {}

    def shut(self, names: Iterable[str]) -> None:
        """Keep these gates, shut until they are opened."""
        for name in names:
            handle = (self._folder / name).open("w")
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._shut[name] = handle

    def open(self, name: str) -> None:
        """Let all pass. Only for who has shut it."""
        self._let_go(name, OPEN)

    def call_off(self) -> None:
        """Nobody passes any gate any more, open or not; who waits is told."""
        (self._folder / OFF).touch()
        for name in list(self._shut):
            self._let_go(name, OFF)

    def _let_go(self, name: str, word: str) -> None:
        with self._shut.pop(name) as handle:
            handle.write(word)
            handle.flush()
            fcntl.flock(handle, fcntl.LOCK_UN)

    def passes(self, name: str) -> bool:
        """Wait until the gate is open; False if the run was called off, or its keeper has died."""
        with (self._folder / name).open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            return handle.read() == OPEN and not (self._folder / OFF).exists()


def at_work(path: Path) -> TextIOWrapper:
    """A mark of this process, which holds until it is closed or the process ends."""
    handle = path.open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def who_is_at_work(path: Path) -> int | None:
    """The process whose mark holds."""
    with path.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(handle.read())
    return None
