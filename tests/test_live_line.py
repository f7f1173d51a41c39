"""The live line: when it is drawn, when it goes, and what a run on a terminal leaves on the screen."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meshproof.core.progress import LineNarrator
from meshproof.report import live_line as lives
from meshproof.report.live_line import CLEAR, LiveLine

ROOT = Path(__file__).parent.parent


class Screen:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def fresh_line(self) -> None:
        self.text += "\n"


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lives, "time", clock)
    return clock


def test_it_is_drawn_when_something_takes_long_and_goes_with_it(clock: Clock) -> None:
    screen = Screen()
    line = LiveLine(screen, lambda: "istiod comes back", every_s=3600)
    try:
        line.draw()
        line.begin()
        clock.now = 1.9
        line.draw()
        assert screen.text == ""
        clock.now = 12.0
        line.draw()
        line.draw()
        assert screen.text == "\n" + 2 * f"{CLEAR}     12 s  … istiod comes back"
        with line.aside():
            screen.write("a line\n")
        assert screen.text.endswith(f"{CLEAR}a line\n")
        line.end()
        line.draw()
        assert screen.text.endswith("a line\n")
    finally:
        line.close()
    assert "live-line" not in {thread.name for thread in threading.enumerate()}


def test_it_is_no_wider_than_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    line = LiveLine(screen, lambda: "x" * 80, patience_s=0, every_s=3600)
    line.begin()
    line.draw()
    line.close()
    assert len(screen.text.split(CLEAR)[1]) == 19


def test_the_step_that_began_last_is_what_goes_on() -> None:
    narrator = LineNarrator(lambda line: None)
    assert narrator.going_on == ""
    with narrator.step("mesh"):
        with narrator.step("gateways"):
            assert narrator.going_on == "gateways"
        assert narrator.going_on == "mesh"


SLOW = """
import time
def test_slow(narrator):
    with narrator.step("a long step"):
        time.sleep(3.4)
"""


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_run_has_it_on_a_terminal_only(tmp_path: Path, on_a_terminal: bool) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW)
    (tmp_path / "conftest.py").write_text(f"pytest_plugins = {PLUGINS!r}\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "TERM": "xterm", "COLUMNS": "100"}
    seen = _on_a_terminal(argv, environment) if on_a_terminal else _in_a_pipe(argv, environment)
    assert "s  a long step" in seen
    assert "1 passed" in seen
    assert ("… test_slow: a long step" in seen) is on_a_terminal
    assert (CLEAR in seen) is on_a_terminal
    assert on_a_terminal or "\x1b" not in seen


PLUGINS = ["fixtures.options", "fixtures.topology", "fixtures.narration"]


def _in_a_pipe(argv: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60).stdout


def _on_a_terminal(argv: list[str], environment: dict[str, str]) -> str:
    child, terminal = pty.fork()
    if not child:
        os.execve(argv[0], argv, environment)
    bound = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    bound.start()
    seen = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # how Linux tells that nobody has the other end open any more
            break
        if not chunk:
            break
        seen += chunk
    os.waitpid(child, 0)
    bound.cancel()
    return seen.decode()
