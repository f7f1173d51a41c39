"""Lines that the processes of one run tell, heard by one of them at once."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

_END: Final = "\x04"


class Ear:
    """Hears what is told at `path`, and hands it on line by line from a thread of its own, while it is entered."""

    def __init__(self, path: Path, hear: Callable[[str], None]) -> None:
        self._path = path
        self._hear = hear
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)

    def __enter__(self) -> Ear:
        os.mkfifo(self._path, 0o600)
        # Open for writing too: it does not end when the last that tells something has ended.
        self._pipe = os.fdopen(os.open(self._path, os.O_RDWR), closefd=True, encoding="utf-8", errors="replace")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tell(self._path, _END)
        self._thread.join()
        self._pipe.close()
        self._path.unlink()

    def _listen(self) -> None:
        while (line := self._pipe.readline().rstrip("\n")) != _END:
            self._hear(line)


def tell(path: Path, text: str) -> None:
    """Have it heard; lost if nobody hears, which must not stop who tells it."""
    # Up to this size a pipe takes it as a whole, or not at all (pipe(7)).
    line = f"{text}\n".encode()[: select.PIPE_BUF - 1]
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, line if line.endswith(b"\n") else line + b"\n")
        finally:
            os.close(descriptor)
