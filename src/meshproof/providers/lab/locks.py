"""Locks between processes that the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from meshproof.core.errors import BadInput
from meshproof.core.paths import cache_root, private_folder
from meshproof.core.progress import Narrator


@contextmanager
def exclusively(what: str, narrator: Narrator) -> Iterator[None]:
    """Hold the lock of that name for this user; waits for another holder, and reports that."""
    path = private_folder(cache_root() / "locks") / what.replace(" ", "-")
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            narrator.say(f"another run is {what}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


WAIT = "wait until it has finished, or choose another --lab-name"
HELD = "MESHPROOF_HELD_LAB"
"""Environment variable with the lab that this process, or a parent of it, holds."""


@contextmanager
def lab_lock(lab: str) -> Iterator[None]:
    """Lock a lab for this run and its child runs: two runs would remove each other's mesh.

    Raises `BadInput` at once, naming the process, if another run holds it.
    """
    if os.environ.get(HELD) == lab:
        yield
        return

    def busy(holder: str) -> BadInput:
        return BadInput(f"lab {lab}", f"another run is using it (process {holder})", WAIT)

    with by_one_run(private_folder(cache_root() / "locks") / f"lab-{lab}", busy):
        os.environ[HELD] = lab
        try:
            yield
        finally:
            del os.environ[HELD]


@contextmanager
def by_one_run(path: Path, busy: Callable[[str], BadInput]) -> Iterator[None]:
    """Hold a lock whose file names its holder; raises `busy(holder)` at once if another process holds it."""
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise busy(handle.read().strip() or "unknown") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
