"""Collecting problems over many things, so that one failure lists all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from meshproof.core.errors import Broken, ClaimFailed, Unavailable

MOST_SHOWN: Final = 12
INDENT: Final = " " * 14

_BEGUN: Final[ContextVar[tuple[int, list[Findings]] | None]] = ContextVar("findings that were begun", default=None)
"""The thread that collects them, and the list: contexts are copied into other threads."""


@contextmanager
def begun() -> Iterator[list[Findings]]:
    """The findings that this thread begins while the block lasts, for reports that list what was examined."""
    found: list[Findings] = []
    before = _BEGUN.set((threading.get_ident(), found))
    try:
        yield found
    finally:
        _BEGUN.reset(before)


class Findings:
    """What was examined and what was wrong with it. Passes only if something was examined and nothing was wrong."""

    def __init__(self, things: str) -> None:
        """`things` is the plural of what is examined, for the texts (`certificates`)."""
        self._things = things
        self.examined: list[str] = []
        self.wrong: dict[str, list[str]] = {}
        self._notes: list[str] = []
        self._doubts: list[str] = []
        self.advice: list[str] = []
        self.skipped: dict[str, str] = {}
        self._repair = ""
        if (begun := _BEGUN.get()) is not None and begun[0] == threading.get_ident():
            begun[1].append(self)

    def examine(self, thing: str, problems: Iterable[str] = ()) -> None:
        """Note that `thing` (`cluster1 meshproof-clients/client-x`) was examined, and what was wrong with it."""
        self.examined.append(thing)
        found = list(problems)
        if found:
            self.wrong.setdefault(thing, []).extend(found)

    def note(self, line: str) -> None:
        """Add a line to the text of a failure."""
        self._notes.append(line)

    def advise(self, line: str) -> None:
        """A note for the report, whatever becomes of the claim: nothing is broken, but the user should know."""
        if line not in self.advice:
            self.advice.append(line)

    def skip(self, things: Mapping[str, str], repair: str = "") -> None:
        """What could not be examined, each with the reason; reported whatever becomes of the claim."""
        self.skipped.update(things)
        self._repair = repair

    @property
    def notes(self) -> list[str]:
        """Notes of a report, even if the claim holds: what was not examined, and advice."""
        return [*(f"not examined: {thing}, since {why}" for thing, why in self.skipped.items()), *self.advice]

    def doubt(self, reason: str) -> None:
        """Why problems, if there are any, may not be those of the mesh."""
        self._doubts.append(reason)

    def conclude(self, *, also: str = "") -> None:
        """Return if all is healthy. Raises `ClaimFailed` with all that is wrong, `Broken` if nothing was examined, or
        if something is wrong and there is doubt, and `Unavailable` if all that there was had to be skipped.

        `also` is added to the text of a failure (what else was seen).
        """
        if self.skipped and not self.examined:
            reasons = "; ".join(dict.fromkeys(self.skipped.values()))
            raise Unavailable(", ".join(self.skipped), reasons, self._repair)
        if not self.examined:
            raise Broken(f"no {self._things}", "nothing was found to examine", "check that the mesh is installed")
        if not self.wrong:
            return
        lines = [f"{thing}: {problem}" for thing, problems in self.wrong.items() for problem in problems]
        head = f"{len(self.wrong)} of {len(self.examined)} {self._things} are wrong"
        text = "\n".join([f"{head}\n{listed('last seen', lines)}", *([also] if also else []), *self._notes])
        if self._doubts:
            raise Broken("; ".join(dict.fromkeys(self._doubts)), text, "run it again when the machine is less busy")
        raise ClaimFailed(text)


def notes_of(found: Iterable[Findings]) -> tuple[str, ...]:
    """The notes of several findings, each once."""
    return tuple(dict.fromkeys(note for findings in found for note in findings.notes))


def listed(label: str, lines: Sequence[str], *, most: int = MOST_SHOWN) -> str:
    """Lines under a label, in the two columns that failure texts have; too many are counted instead of shown."""
    shown = [*lines[:most], f"… and {len(lines) - most} more"] if len(lines) > most else list(lines)
    body = f"\n{INDENT}".join(line.replace("\n", f"\n{INDENT}  ") for line in shown or ["nothing"])
    return f"  {label:<12}{body}"
