"""One at a time, whoever asks: locks that the kernel lets go of when their holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from meshproof.progress import Narrator
from meshproof.providers.lab.paths import cache_root, private_folder


@contextmanager
def exclusively(what: str, narrator: Narrator) -> Iterator[None]:
    """Hold the lock of that name for this user; waits for another holder, and says so."""
    path = private_folder(cache_root() / "locks") / what.replace(" ", "-")
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            narrator.say(f"another run is {what}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
