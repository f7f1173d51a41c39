"""Commands of other tools as records, to be run or only printed."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from meshproof.clients.process import run as run_process
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, Broken
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet, eventually

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line, and its purpose.

    One with an `example` is a query: it changes nothing, and a dry run continues with the example as its output.
    `stdin` is its input. It may take `timeout_s` seconds. If it fails with an error that contains `again_if` it is run
    again, for up to `patience_s` seconds.
    """

    argv: tuple[str, ...]
    why: str
    example: str | None = None
    stdin: str = ""
    timeout_s: float = 60.0
    again_if: str = ""
    patience_s: float = 0.0

    @property
    def text(self) -> str:
        """The command as copy-pasteable shell text."""
        line = shlex.join(self.argv)
        return f"{line} <<'END'\n{self.stdin.rstrip()}\nEND" if self.stdin else line


class Runner(Protocol):
    """Runs commands. Both methods return standard output without surrounding white space."""

    def run(self, command: Command) -> str: ...

    def at_once(self, commands: Sequence[Command]) -> list[str]:
        """Run them all at the same time."""
        ...


class Execute(Protocol):
    """`meshproof.clients.process.run`, or its substitute in tests."""

    def __call__(self, argv: Sequence[str], *, timeout_s: float, stdin: str) -> str: ...


class Shell:
    """Runs and logs commands, and reports those that change something.

    Raises `Broken` with the copy-pasteable command and its last output.
    """

    def __init__(self, narrator: Narrator, execute: Execute = run_process) -> None:
        self._narrator = narrator
        self._execute = execute

    def run(self, command: Command) -> str:
        log.info("%s: %s", command.why, command.text)
        with self._narrator.step(command.why) if command.example is None else nullcontext():
            return eventually(
                lambda: self._once(command),
                what=command.text,
                timeout_s=command.patience_s,
                poll_s=3.0,
                repair=_BY_HAND,
            )

    def at_once(self, commands: Sequence[Command]) -> list[str]:
        return together(self.run, commands)

    def _once(self, command: Command) -> str:
        try:
            return self._execute(command.argv, timeout_s=command.timeout_s, stdin=command.stdin).strip()
        except Broken as problem:
            if command.again_if and command.again_if in problem.reason:
                raise NotYet(problem.reason) from None
            raise Broken(command.text, problem.reason, _BY_HAND) from None


_BY_HAND: Final = "run it by hand for the complete output"


@dataclass(slots=True)
class DryRunner:
    """Runs nothing, returns the examples of queries, and records the commands."""

    commands: list[Command] = field(default_factory=list)

    def run(self, command: Command) -> str:
        self.commands.append(command)
        return command.example or ""

    def at_once(self, commands: Sequence[Command]) -> list[str]:
        return [self.run(command) for command in commands]


def try_all(steps: Iterable[Callable[[], object]]) -> None:
    """Run all of these steps even if some fail; then raise the first failure, with the others as notes."""
    problems = []
    for step in steps:
        try:
            step()
        except Broken as problem:
            problems.append(problem)
    if problems:
        first, *others = problems
        for other in others:
            first.add_note(f"and: {other}")
        raise first


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that must be in PATH, and how to install it."""

    name: str
    repair: str


def missing_tools(tools: Iterable[Tool], which: Callable[[str], str | None] = shutil.which) -> tuple[Tool, ...]:
    return tuple(tool for tool in tools if which(tool.name) is None)


def require_tools(provider: str, tools: Iterable[Tool]) -> None:
    """Raise one `BadInput` for all missing tools."""
    if missing := missing_tools(tools):
        raise BadInput(
            f"--provider={provider}",
            f"not in PATH: {', '.join(tool.name for tool in missing)}",
            "; ".join(tool.repair for tool in missing),
        )
