"""Ctrl-C keeps its promises whatever a process has inherited: ignored signals of a shell's job, or blocked ones."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from meshproof.core.waiting import NotYet, eventually
from tests.processes import block_signals, ignore_interrupts, line_of, started

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
IN_BACKGROUND = ("sh", "-c", '"$@" & echo $! && wait $!', "sh")
"""A shell that starts a command in the background, as a script does, and ends with its exit code."""
INHERITED = pytest.mark.parametrize("inherit", [ignore_interrupts, block_signals])


def masks(pid: int) -> dict[str, int]:
    """Which signals a process has blocked, ignored and caught: masks, the first signal from 1 (proc(5))."""
    found = re.findall(r"^Sig(Blk|Ign|Cgt):\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return {kind: int(mask, 16) for kind, mask in found}


def holds(mask: int, number: int) -> bool:
    return bool(mask >> (number - 1) & 1)


# -- pytest -----------------------------------------------------------------------------------------------------------

LONG = """
import os, pathlib, signal, subprocess, sys, time
import pytest

@pytest.fixture
def made():
    yield
    pathlib.Path("cleaned-up").touch()

def test_long(made):
    child = subprocess.run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], capture_output=True, text=True)
    pathlib.Path("child").write_text(child.stdout)
    pathlib.Path("began").write_text(str(os.getpid()))
    time.sleep(50)
"""


@pytest.fixture
def long_run(pytester: pytest.Pytester) -> pytest.Pytester:
    """A run with the hooks of ours that says when its test has begun, and what a child of it inherits."""
    pytester.makeconftest(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\npytest_plugins = ['fixtures.signals']\n")
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider")
    pytester.makepyfile(test_long=LONG)
    return pytester


PYTEST = (sys.executable, "-m", "pytest", "test_long.py")


def pid_once_begun(folder: Path) -> int:
    def begun() -> None:
        if not (folder / "began").exists() or not (folder / "began").read_text():
            raise NotYet("the test has not begun")

    eventually(begun, what="the test", timeout_s=30, poll_s=0.1)
    return int((folder / "began").read_text())


def must_have_cleaned_up(process: subprocess.Popen[str], folder: Path) -> None:
    assert process.stdout is not None
    assert "KeyboardInterrupt" in process.stdout.read()
    assert process.wait(timeout=30) == pytest.ExitCode.INTERRUPTED
    assert (folder / "cleaned-up").exists()


@INHERITED
def test_an_interrupt_ends_a_run_with_its_clean_up(long_run: pytest.Pytester, inherit: Callable[[], None]) -> None:
    with started(PYTEST, cwd=long_run.path, preexec_fn=inherit) as process:
        os.kill(pid_once_begun(long_run.path), signal.SIGINT)
        must_have_cleaned_up(process, long_run.path)


def test_an_interrupt_ends_a_run_that_a_shell_has_in_the_background(long_run: pytest.Pytester) -> None:
    with started([*IN_BACKGROUND, *PYTEST], cwd=long_run.path) as shell:
        pid = pid_once_begun(long_run.path)
        assert int(line_of(shell)) == pid
        os.kill(pid, signal.SIGINT)
        must_have_cleaned_up(shell, long_run.path)


@INHERITED
def test_children_of_a_run_begin_with_the_default_signals(
    long_run: pytest.Pytester, inherit: Callable[[], None]
) -> None:
    with started(PYTEST, cwd=long_run.path, preexec_fn=inherit) as process:
        os.kill(pid_once_begun(long_run.path), signal.SIGINT)
        must_have_cleaned_up(process, long_run.path)
    lines = dict(line.split(":\t") for line in (long_run.path / "child").read_text().splitlines())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        assert not holds(int(lines["SigBlk"], 16), number)
        assert not holds(int(lines["SigIgn"], 16), number)


def test_the_checkout_has_the_hook_for_every_run() -> None:
    assert '"fixtures.signals"' in (ROOT / "conftest.py").read_text()


# -- the command line -------------------------------------------------------------------------------------------------


class Deaf:
    """An API server that takes connections and never responds."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.socket.settimeout(30)
        self.taken: list[socket.socket] = []

    def must_be_called(self) -> None:
        self.taken.append(self.socket.accept()[0])

    def close(self) -> None:
        for each in (*self.taken, self.socket):
            each.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    server = Deaf()
    yield server
    server.close()


@pytest.fixture
def detect(deaf: Deaf, tmp_path: Path) -> tuple[str, ...]:
    """A command that waits for an API server, and has a client's key in a file as long as it lives."""
    address = f"http://127.0.0.1:{deaf.socket.getsockname()[1]}"
    user = {"client-key-data": "YSBrZXk=", "client-certificate-data": "YSBrZXk="}
    document = {
        "current-context": "a",
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("a", "b")],
        "clusters": [{"name": "c", "cluster": {"server": address, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": user}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    (tmp_path / "temporary").mkdir()
    command = (sys.executable, "-m", "meshproof.cli.main", "detect", f"--kubeconfig={tmp_path / 'kubeconfig'}")
    return (*command, "--cluster1-context=a", "--cluster2-context=b")


@pytest.mark.parametrize("how", ["ignored", "blocked", "in the background"])
def test_an_interrupt_ends_a_command_with_its_clean_up(
    how: str, deaf: Deaf, detect: tuple[str, ...], tmp_path: Path
) -> None:
    inherit = {"ignored": ignore_interrupts, "blocked": block_signals}.get(how)
    argv = detect if inherit else (*IN_BACKGROUND, *detect)
    folder = tmp_path / "temporary"
    environment = {**os.environ, "TMPDIR": str(folder)}
    with started(argv, env=environment, stderr=subprocess.PIPE, preexec_fn=inherit) as process:
        pid = process.pid if inherit else int(line_of(process))
        deaf.must_be_called()
        assert [path.name.startswith("meshproof-keys-") for path in folder.iterdir()] == [True]
        os.kill(pid, signal.SIGINT)
        deaf.close()  # a request in flight would be awaited for as long as its own bound
        assert process.stderr is not None
        assert process.stderr.readline() == "meshproof: interrupted; nothing is left behind\n"
        assert process.wait(timeout=30) == 130
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD])
def test_what_is_ignored_is_handled_again_and_own_handlers_stay(ignored: signal.Signals) -> None:
    code = (
        "import signal, subprocess\n"
        "from meshproof.core.signals import reset_inherited_signals\n"
        f"signal.signal({int(ignored)}, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGUSR1, print)\n"
        "reset_inherited_signals()\n"
        f"print(signal.getsignal({int(ignored)}) is not signal.SIG_IGN, signal.getsignal(signal.SIGHUP).name,\n"
        "      signal.getsignal(signal.SIGUSR1) is print, subprocess.run(['false']).returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("True SIG_IGN True 1\n", "")
