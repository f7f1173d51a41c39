"""Processes of the lab: a frozen spec each, with their output in a file, watched until they exit."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from meshproof.core.errors import Broken

TAIL_LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One program: `name` is unique in the lab (`cluster1/kubelet`); its output goes to `log`."""

    name: str
    argv: tuple[str, ...]
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A process that exited unexpectedly: its exit code (negative: the signal) and its last log lines."""

    name: str
    code: int
    tail: str

    def __str__(self) -> str:
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"exited with code {self.code}"
        return f"{self.name} {how}; last log lines:\n    {self.tail}"


def tail_of(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, each truncated to 300 characters."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n    ".join(line[:300] for line in text.strip().splitlines()[-lines:]) or "(empty log)"


class Supervisor:
    """Starts processes, reaps them, and records unexpected exits.

    It must live in the process that started the children, and reap them promptly: a child entered with nsenter keeps
    its parent outside the PID namespace, and a zombie keeps its namespace from being removed.
    """

    def __init__(self, on_exit: Callable[[Exit], None]) -> None:
        self._children: dict[str, tuple[ProcessSpec, subprocess.Popen[bytes]]] = {}
        self._expected: set[str] = set()
        self._on_exit = on_exit
        self._lock = threading.RLock()
        # The kernel's parent-death signal is bound to the forking thread, so one thread forks all and never ends.
        self._forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")
        self.exits: list[Exit] = []

    def start(self, spec: ProcessSpec) -> int:
        """Start a process and return its process id. The kernel kills the program if we die."""
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as output, self._lock:
            try:
                child = self._forker.submit(
                    subprocess.Popen,
                    ["setpriv", "--pdeathsig", "KILL", *spec.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd="/",
                ).result()
            except OSError as problem:
                raise Broken(spec.name, f"cannot be started: {problem}", "see `meshproof doctor`") from problem
            self._children[spec.name] = (spec, child)
            self._expected.discard(spec.name)
            return child.pid

    def poll(self) -> None:
        """Reap exited processes; unexpected exits are passed to `on_exit`."""
        with self._lock:
            ended = [(spec, child) for spec, child in self._children.values() if child.poll() is not None]
            for spec, _ in ended:
                del self._children[spec.name]
        for spec, child in ended:
            if spec.name not in self._expected:
                gone = Exit(name=spec.name, code=child.returncode, tail=tail_of(spec.log))
                self.exits.append(gone)
                self._on_exit(gone)

    def running(self) -> Mapping[str, int]:
        """Process ids by name."""
        with self._lock:
            return {name: child.pid for name, (_, child) in self._children.items()}

    def expect_ends(self, prefix: str) -> None:
        """Exits of processes with this name prefix are expected from now on."""
        with self._lock:
            self._expected.update(name for name in self._children if name.startswith(prefix))

    def inner_pid(self, name: str) -> int:
        """The process id (in our namespace) of the program that our nsenter has started."""
        outer = self.running()[name]
        text = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return int(text[0]) if text else outer

    def stop(self, name: str, *, grace_s: float = 5.0) -> ProcessSpec:
        """Stop a process: TERM to the program itself, KILL after `grace_s` seconds. Returns its spec for a restart."""
        with self._lock:
            spec, child = self._children[name]
            self._expected.add(name)
        for how, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            try:
                os.kill(self.inner_pid(name), how)
                child.wait(timeout=patience)
                break
            except (ProcessLookupError, FileNotFoundError, KeyError):
                break
            except subprocess.TimeoutExpired:
                continue
        self.poll()
        return spec
