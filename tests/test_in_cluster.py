"""The wrapper that runs in a pod: whatever becomes of pytest, results are where they are looked for, and in order."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meshproof.cli import in_cluster as inside
from meshproof.core.errors import BadInput
from meshproof.core.waiting import NotYet, eventually
from tests.processes import ignore_interrupts, line_of, started

# Stands in for pytest: `python -m` looks for modules in the working folder first. It does what its last option says.
PYTEST = """\
import os, pathlib, signal, sys, time

options = dict(word.split("=", 1) for word in sys.argv if word.startswith("--"))
reports = pathlib.Path(options["--report-dir"])

def written(go):
    (reports / "verdict.yaml").write_text(f"go: {go}\\n")
    (reports / "allure-results").mkdir(exist_ok=True)
    (reports / "allure-results" / "one.json").write_text("{}")
    (reports / "junit.xml").write_text("<testsuites/>")

match options["--end"]:
    case "green":
        written("true")
    case "red":
        written("false")
        sys.exit(1)
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "long":
        try:
            print(os.getpid(), flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            written("false")
            sys.exit(2)
    case "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        time.sleep(60)
"""


class Pod:
    """A folder with such a pytest in it, and the folders that a pod has."""

    def __init__(self, folder: Path) -> None:
        (folder / "pytest.py").write_text(PYTEST)
        self.folder = folder
        self.results = folder / "results"
        self.sonobuoy = folder / "sonobuoy"

    def start(self, end: str, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """As a script would in the background: pytest must not inherit that SIGINT is ignored."""
        argv = [sys.executable, "-m", "meshproof.cli.in_cluster", "run", f"--results={self.results}", *more]
        return started([*argv, "--", f"--end={end}"], cwd=self.folder, preexec_fn=ignore_interrupts)

    def run(self, end: str, *more: str) -> tuple[int, str]:
        """Exit code and log of a run that ends by itself."""
        with self.start(end, *more) as process:
            log, _ = process.communicate(timeout=30)
        return process.returncode, log

    def fetched(self) -> dict[str, str]:
        out = io.BytesIO()
        inside.fetch(self.results, out)
        return unpacked(out.getvalue())

    def handed_over(self) -> dict[str, str]:
        """What Sonobuoy's worker finds at the path that `done` holds."""
        return unpacked(Path((self.sonobuoy / "done").read_text()).read_bytes())


def unpacked(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def failure(run_xml: str) -> str | None:
    found = ElementTree.fromstring(run_xml).find("testcase/failure")
    return None if found is None else found.attrib["message"]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


ALL = {"verdict.yaml", "junit.xml", "run.xml", "allure-results/one.json"}


@pytest.mark.parametrize(("end", "code", "go"), [("green", 0, "true"), ("red", 1, "false")])
def test_a_run_ends_as_pytest_does_and_all_of_its_results_come_back(pod: Pod, end: str, code: int, go: str) -> None:
    ended, log = pod.run(end)
    assert ended == code
    assert f"---\ngo: {go}\n---\nmeshproof: exit code {code}" in log
    came = pod.fetched()
    assert set(came) == {f"reports/{name}" for name in ALL}
    assert came["reports/verdict.yaml"] == f"go: {go}\n"
    assert failure(came["reports/run.xml"]) == (None if code == 0 else f"exit code 1: {inside.EXITS[1]}")


def test_a_pytest_that_was_killed_is_told_of(pod: Pod) -> None:
    """As the kernel does when memory runs out: there is no verdict, and nothing may look green."""
    ended, log = pod.run("killed", f"--sonobuoy={pod.sonobuoy}")
    assert ended == 137
    assert log == f"meshproof: exit code 137: {inside.EXITS[137]}\n"
    assert set(pod.handed_over()) == {"reports/run.xml"}
    assert failure(pod.handed_over()["reports/run.xml"]) == log.removeprefix("meshproof: ").strip()


@pytest.mark.parametrize("end", ["green", "red"])
def test_sonobuoy_gets_an_archive_and_then_the_file_that_names_it(pod: Pod, end: str) -> None:
    pod.run(end, f"--sonobuoy={pod.sonobuoy}")
    assert (pod.sonobuoy / "done").read_text() == f"{pod.sonobuoy}/meshproof.tar.gz"
    assert set(pod.handed_over()) == {f"reports/{name}" for name in ALL}
    assert {path.name for path in pod.sonobuoy.iterdir()} == {"done", "meshproof.tar.gz"}


def test_done_is_written_last(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sonobuoy's worker sends what is there as soon as it sees `done`."""
    pod.results.mkdir()

    def break_off(results: Path, out: io.BytesIO) -> None:
        out.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(inside, "pack", break_off)
    with pytest.raises(OSError, match="no space left"):
        inside.hand_over(pod.results, pod.sonobuoy)
    assert [path.name for path in pod.sonobuoy.iterdir()] == ["meshproof.tar.gz"]


def test_whoever_ends_the_pod_interrupts_pytest(pod: Pod) -> None:
    """TERM alone would kill it, and its probe namespaces would stay."""
    with pod.start("long", f"--sonobuoy={pod.sonobuoy}") as process:
        assert process.stdout is not None
        assert line_of(process)
        process.send_signal(signal.SIGTERM)
        log = process.stdout.read()
    assert process.returncode == 2
    assert log == (
        "meshproof: terminated: the run is interrupted\n---\ngo: false\n---\n"
        f"meshproof: exit code 2: {inside.EXITS[2]}\n"
    )
    assert set(pod.handed_over()) == {f"reports/{name}" for name in ALL}


def test_a_run_that_takes_too_long_is_interrupted(pod: Pod) -> None:
    ended, log = pod.run("long", "--limit=1")
    assert ended == 2
    assert "meshproof: did not finish within --limit=1 s: the run is interrupted\n" in log
    assert pod.fetched()["reports/verdict.yaml"] == "go: false\n"


def test_a_pytest_that_does_not_end_is_killed(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "GRACE_S", 0.5)
    argv = [sys.executable, "-m", "pytest", f"--report-dir={pod.results}", "--end=stubborn"]
    with started(argv, cwd=pod.folder, start_new_session=True) as process:
        assert line_of(process)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            assert inside._end_of(process, 0.5) == 137
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def test_results_cannot_be_fetched_before_the_end(pod: Pod) -> None:
    with pytest.raises(BadInput, match="no run has begun"):
        pod.fetched()
    with pod.start("long") as process:
        orphan = int(line_of(process))
        with pytest.raises(BadInput, match="the run is in progress"):
            pod.fetched()
        process.kill()  # the wrapper itself: nobody is left who could say that it has ended
    os.kill(orphan, signal.SIGKILL)
    pod.fetched()


def keeping(pod: Pod, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "meshproof.cli.in_cluster", "keep", f"--results={pod.results}", *more]
    return started(argv, stderr=subprocess.PIPE)


def test_results_are_kept_until_they_are_fetched(pod: Pod) -> None:
    pod.run("green")
    with keeping(pod) as keeper:
        threading.Timer(1, pod.fetched).start()
        out, err = keeper.communicate(timeout=30)
    assert (keeper.returncode, out, err) == (0, "", "")


def test_results_are_not_kept_for_ever(pod: Pod) -> None:
    """The Job's success does not hang on somebody who fetches them."""
    pod.run("green")
    with keeping(pod, "--for=0.5") as keeper:
        out, err = keeper.communicate(timeout=30)
    assert (keeper.returncode, err) == (0, "")
    assert out.startswith("meshproof: results: not within 0.5 s")
    assert "the results have not been fetched" in out


def test_a_keeper_goes_when_the_pod_goes(pod: Pod) -> None:
    pod.run("green")
    with keeping(pod) as keeper:
        eventually(lambda: must_catch_term(keeper.pid), what="the keeper's handler", timeout_s=20)
        keeper.terminate()
        keeper.communicate(timeout=10)
    assert keeper.returncode == 0


def must_catch_term(pid: int) -> None:
    """SigCgt is a mask of signals, the first one from 1 (proc(5))."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if not int(caught, 16) >> (signal.SIGTERM - 1) & 1:
        raise NotYet("it would not notice")
