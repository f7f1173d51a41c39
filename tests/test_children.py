"""A child process is interrupted once, and has time to clean up, however its run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meshproof.core.children import run_child

CHILD = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
try:
    (folder / "begun").touch()
    print("begun", flush=True)
    time.sleep(20)
except KeyboardInterrupt:
    time.sleep(0.5)
    (folder / "cleaned").touch()
"""


def child(folder: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, str(folder)]


def test_its_exit_code_and_output_are_those_of_the_child(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as out:
        code = run_child(["sh", "-c", "echo out; echo err >&2; exit 3"], cwd=tmp_path, output=out, limit_s=10)
    assert (code, output.read_text()) == (3, "out\nerr\n")


def test_a_child_that_takes_too_long_cleans_up(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as out, pytest.raises(subprocess.TimeoutExpired):
        run_child(child(tmp_path), cwd=tmp_path, output=out, limit_s=1)
    assert (tmp_path / "cleaned").exists()


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    deaf = ["sh", "-c", "trap '' INT; echo $$ > pid; while :; do sleep 0.1; done"]
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(deaf, cwd=tmp_path, limit_s=0.5, grace_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_we_are_interrupted_it_cleans_up_even_if_we_are_interrupted_again(tmp_path: Path, number: int) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), number)

    timers = [threading.Timer(delay, interrupt) for delay in (1.0, 1.2)]
    for timer in timers:
        timer.start()
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with (tmp_path / "output").open("w") as out, pytest.raises(KeyboardInterrupt):
        run_child(child(tmp_path), cwd=tmp_path, output=out, limit_s=10)
    for timer in timers:
        timer.join()
    assert (tmp_path / "cleaned").exists()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
