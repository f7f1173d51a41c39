"""Processes that a test starts: each has a bound, whatever it waits for and whatever the test reads from it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    within_s: float = 60,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stderr: int | None = None,
    start_new_session: bool = False,
    preexec_fn: Callable[[], object] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process whose output can be read; the block's end waits for its end. It is killed after `within_s` seconds.

    So neither a read nor a wait in the block blocks for longer: the test fails instead.
    """
    expired = threading.Event()
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        text=True,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=start_new_session,
        preexec_fn=preexec_fn,
    ) as process:

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(within_s, expire)
        timer.start()
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait(timeout=within_s + 10)
            timer.cancel()
    if expired.is_set():
        pytest.fail(f"{' '.join(map(str, argv))}: did not finish within {within_s:g} s")


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of its standard output, without its end."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def ignore_interrupts() -> None:
    """As a non-interactive shell does for a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def block_signals() -> None:
    """As a process does that waits for signals in a thread of its own, and forgets to unblock them for its children."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGALRM))
