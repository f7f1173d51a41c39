"""A child process that cleans up when it is interrupted, as pytest does: it is interrupted once, and then has time."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final, NoReturn

GRACE_S: Final = 120.0
"""Time for an interrupted child to undo what it did."""


def run_child(
    argv: Sequence[str], *, cwd: Path, output: IO[str] | None = None, limit_s: float, grace_s: float = GRACE_S
) -> int:
    """Its exit code. `output` gets both of its outputs; without it they are ours.

    After `limit_s`, and when we are interrupted or terminated, it is interrupted, and awaited; then raises
    `subprocess.TimeoutExpired` or `KeyboardInterrupt`. It is in a process group of its own: a terminal would interrupt
    it, too, and a second interrupt would cut its clean-up short.
    """
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        process_group=0,
    )
    try:
        with _handled(signal.SIGTERM, by=_interrupt):
            return process.wait(limit_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        with _handled(signal.SIGINT, signal.SIGTERM, by=signal.SIG_IGN):
            _end(process, grace_s)
        raise


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _handled(*numbers: int, by: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """Our own handling of these signals for a while; only the main thread can change it, and receives them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, by) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
