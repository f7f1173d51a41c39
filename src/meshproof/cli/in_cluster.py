"""A run inside a cluster: limits the time of pytest, and keeps the results until they are fetched.

    python -m meshproof.cli.in_cluster run -- --topology=NAME      a verify pass; ends with pytest's exit code
    python -m meshproof.cli.in_cluster keep                        a sidecar of it: ends when the results were fetched
    python -m meshproof.cli.in_cluster fetch > reports.tar.gz      in either container, when the run has ended

`deploy/` has the image, the Job and the Sonobuoy plugin that use these; see docs/inside.md.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final
from xml.etree import ElementTree

from meshproof.core.errors import BadInput, NotReady
from meshproof.core.path_options import writable_folder
from meshproof.core.signals import reset_inherited_signals
from meshproof.core.waiting import NotYet, eventually

RUN: Final = "run.xml"
"""JUnit XML about the run itself: a killed run has no other, and one that lacks claims would be all green."""
VERDICT: Final = "verdict.yaml"

ARCHIVE: Final = "meshproof.tar.gz"
DONE: Final = "done"
"""The files for Sonobuoy's worker: `done` contains the path of the archive that it sends."""

_RUNNING: Final = ".running"
"""Locked by the run while it lives: the kernel releases the lock, however the run ends."""
_FETCHED: Final = ".fetched"

GRACE_S: Final = 120.0
"""Time for an interrupted pytest to clean up. Pods need a longer terminationGracePeriodSeconds."""

EXITS: Final[Mapping[int, str]] = {
    1: "claims do not hold, or too few were proven",
    2: "it was interrupted: by --limit, or because the pod was terminated",
    3: "an error in meshproof or pytest",
    4: "an option, the kubeconfig or the topology is wrong",
    5: "nothing was asserted about any mesh",
    128 + signal.SIGKILL: "it was killed: out of memory, or it did not exit when it was interrupted",
}
"""Meanings of pytest's exit codes (pytest.ExitCode), and of that of a killed process."""


# -- run --------------------------------------------------------------------------------------------------------------


def run(results: Path, options: Sequence[str], *, limit_s: float, sonobuoy: Path | None) -> int:
    """A verify pass with results in a folder, and for Sonobuoy in that folder too. Returns pytest's exit code."""
    writable_folder(f"--results={results}", results)
    if sonobuoy is not None:
        writable_folder(f"--sonobuoy={sonobuoy}", sonobuoy)
    with _running(results):
        try:
            code = _end_of(subprocess.Popen(command(results, options), start_new_session=True), limit_s)
            (results / RUN).write_text(_run_xml(code))
            _print_verdict(results, code)
            return code
        finally:
            if sonobuoy is not None:
                hand_over(results, sonobuoy)


def command(results: Path, options: Sequence[str]) -> list[str]:
    """The verify pass, as in docs/attach.md. Folders next to the suites are read-only."""
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
        "--provider=kubeconfig",
        "--mesh=existing",
        f"--report-dir={results}",
        *options,
    ]


class _Terminated(Exception):
    """The kubelet's TERM, or Ctrl-C."""


def _end_of(pytest: subprocess.Popen[bytes] | subprocess.Popen[str], limit_s: float) -> int:
    """Its exit code. After `limit_s`, or when we receive a signal, it is interrupted as by Ctrl-C.

    Then it removes its probe namespaces, and writes a verdict. It is interrupted once: a second interrupt would break
    off the removal.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        raise _Terminated

    try:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, end)
        return _plain(pytest.wait(limit_s))
    except _Terminated:
        print("meshproof: terminated: the run is interrupted", flush=True)
    except subprocess.TimeoutExpired:
        print(f"meshproof: did not finish within --limit={limit_s:g} s: the run is interrupted", flush=True)
    pytest.send_signal(signal.SIGINT)
    try:
        return _plain(pytest.wait(GRACE_S))
    except subprocess.TimeoutExpired:
        os.killpg(pytest.pid, signal.SIGKILL)
        return _plain(pytest.wait())


def _plain(code: int) -> int:
    """The exit code as in a shell: 128 plus the signal's number for a killed process."""
    return code if code >= 0 else 128 - code


def _run_xml(code: int) -> str:
    suite = ElementTree.Element("testsuite", name="meshproof", tests="1", failures=str(int(code != 0)), errors="0")
    case = ElementTree.SubElement(
        suite, "testcase", classname="meshproof.cli.in_cluster", name="the run ends with exit code 0"
    )
    if code:
        ElementTree.SubElement(case, "failure", message=_meaning(code)).text = "See the container's log."
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _meaning(code: int) -> str:
    return f"exit code {code}: {EXITS.get(code, 'unknown')}" if code else "exit code 0"


def _print_verdict(results: Path, code: int) -> None:
    """Print the verdict to the log, for log collectors, and in case the pod ends before the results are fetched."""
    verdict = results / VERDICT
    if verdict.exists():
        print(f"---\n{verdict.read_text()}---")
    print(f"meshproof: {_meaning(code)}", flush=True)


def hand_over(results: Path, folder: Path) -> None:
    """Pass the results to Sonobuoy's worker. It sends the file named in `done` as soon as `done` exists: so that is
    last.

    It takes everything after the path's first dot as the file type, and the whole content as the path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ARCHIVE).open("wb") as archive:
        pack(results, archive)
    written = folder / f".{DONE}"
    written.write_text(str(folder / ARCHIVE))
    written.rename(folder / DONE)


# -- results ----------------------------------------------------------------------------------------------------------


def pack(results: Path, out: IO[bytes]) -> None:
    """Write the folder's content as tar.gz, under `reports/`."""
    with tarfile.open(fileobj=out, mode="w|gz") as archive:
        for path in sorted(results.iterdir()):
            if path.name not in (_RUNNING, _FETCHED):
                archive.add(path, arcname=f"reports/{path.name}")


@contextmanager
def _running(results: Path) -> Iterator[None]:
    with (results / _RUNNING).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(
            "this file is locked while the run is in progress\n"
        )  # only now: while it is empty, the run has not begun
        lock.flush()
        yield


def _must_have_ended(results: Path) -> None:
    """Raises `NotYet` before a run has begun, and while it is in progress."""
    lock = results / _RUNNING
    if not lock.exists() or not lock.stat().st_size:
        raise NotYet("no run has begun")
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotYet("the run is in progress") from None


def _must_be_fetched(results: Path) -> None:
    if not (results / _FETCHED).exists():
        raise NotYet("the results have not been fetched")


def keep(results: Path, *, begin_s: float, for_s: float) -> None:
    """Return when the results were fetched, or `for_s` after the run's end.

    `begin_s` is the deadline for a run to begin and to end. Raises `NotReady` if it takes longer.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a container's first process has no default signal handlers
    eventually(lambda: _must_have_ended(results), what="the run", timeout_s=begin_s, poll_s=1)
    try:
        eventually(lambda: _must_be_fetched(results), what="results", timeout_s=for_s, poll_s=1)
    except NotReady as problem:
        print(f"meshproof: {problem}", flush=True)


def fetch(results: Path, out: IO[bytes]) -> None:
    """Write the results like `pack`, and let `keep` return. Raises `BadInput` before the run has ended."""
    try:
        _must_have_ended(results)
    except NotYet as problem:
        raise BadInput(
            f"results in {results}", str(problem), "wait until it has ended: kubectl logs --follow job/meshproof -c run"
        ) from None
    pack(results, out)
    out.flush()
    (results / _FETCHED).touch()


# -- the command line -------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line of this module."""
    description = (__doc__ or "").splitlines()[0]
    parsed = argparse.ArgumentParser(prog="python -m meshproof.cli.in_cluster", description=description)
    actions = parsed.add_subparsers(dest="action", required=True, metavar="run|keep|fetch")
    running = actions.add_parser("run", help="a verify pass; ends with pytest's exit code")
    running.add_argument("--sonobuoy", type=Path, metavar="FOLDER", help="where Sonobuoy's worker waits for `done`")
    running.add_argument("options", nargs="*", metavar="OPTION", help="after --: pytest's and meshproof's options")
    keeping = actions.add_parser("keep", help="wait until the results were fetched")
    keeping.add_argument("--for", type=float, default=900, dest="for_s", metavar="SECONDS", help="default: %(default)s")
    for each in (running, keeping, actions.add_parser("fetch", help="write the results to standard output, as tar.gz")):
        each.add_argument("--results", type=Path, default=Path("/results"), metavar="FOLDER", help="default: /results")
    for each in (running, keeping):
        each.add_argument(
            "--limit", type=float, default=900, metavar="SECONDS", help="when a run is interrupted (default: 900)"
        )
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of `run`: pytest's. Of the others: 0 for success, 1 if no run has ended in time, 2 if it is too
    early."""
    reset_inherited_signals()
    given = parser().parse_args(argv)
    try:
        match given.action:
            case "run":
                return run(given.results, given.options, limit_s=given.limit, sonobuoy=given.sonobuoy)
            case "keep":
                keep(given.results, begin_s=given.limit + 2 * GRACE_S, for_s=given.for_s)
            case _:
                fetch(given.results, sys.stdout.buffer)
    except BadInput as problem:
        print(f"meshproof: {problem}", file=sys.stderr)
        return 2
    except NotReady as problem:
        print(f"meshproof: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
