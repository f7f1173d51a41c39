"""Running a program to completion, with a deadline and a copy-pasteable error."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from meshproof.core.errors import Broken


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
    accepted_exit_codes: Collection[int] = (),
) -> str:
    """Run a program and return its standard output.

    Non-zero `accepted_exit_codes` are a success if something was printed. Raises `Broken` with the command line,
    the exit code and the last lines of both outputs if it fails, cannot be started, or does not end within `timeout_s`
    seconds.
    """
    command = shlex.join(str(a) for a in argv)
    try:
        done = subprocess.run(
            [str(a) for a in argv], input=stdin, capture_output=True, text=True, timeout=timeout_s, env=env, cwd=cwd
        )
    except FileNotFoundError as problem:
        raise Broken(command, f"cannot be started: {problem}") from None
    except subprocess.TimeoutExpired as problem:
        # Even with text=True the output read until the deadline is bytes (subprocess.TimeoutExpired).
        output = problem.stderr.decode(errors="replace") if isinstance(problem.stderr, bytes) else ""
        raise Broken(command, f"did not finish within {timeout_s:g} s; last output: {_tail(output)}") from None
    if done.returncode != 0 and (done.returncode not in accepted_exit_codes or not done.stdout.strip()):
        words = _tail(done.stderr if done.stderr else done.stdout)
        raise Broken(command, f"exit code {done.returncode}; last output: {words}")
    return done.stdout


def _tail(text: str, lines: int = 8) -> str:
    return "\n    ".join(text.strip().splitlines()[-lines:])
