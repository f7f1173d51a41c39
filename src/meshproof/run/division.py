"""Who proves what, and in which order, where claims are spread over several processes.

One mesh is proven after the other. On each, claims that must have it to themselves come first, then all that can be
proven at the same time, then those that break something, one after the other in one process. Of those in the middle
only claims that get on with all others are spread: what must wait for its turn, pushes something, or shares probes that
are costly to make stays in one process, where it does so as in a run of one process. Claims of one suite read the same
things, each of which a process reads once: a suite is not torn apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby


class Step(IntEnum):
    """What is proven on one mesh in turn."""

    ALONE = 0
    TOGETHER = 1
    DISRUPTIVE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A step on one mesh; all before it has ended when it begins. `place` is that of its topology in the run, 0 for
    what needs no mesh, whose `topology` is empty."""

    place: int
    topology: str
    step: Step

    @property
    def name(self) -> str:
        return f"{self.place}-{self.topology}-{self.step.name.lower()}"

    @property
    def order(self) -> tuple[int, int]:
        return (self.place, self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """One test: its name, when it is run, its suite, and whether it may be run in any process."""

    name: str
    phase: Phase
    suite: str
    spreads: bool


def phases_of(lots: Sequence[Lot]) -> tuple[Phase, ...]:
    """The phases that have something in them, in order."""
    return tuple(sorted({lot.phase for lot in lots}, key=lambda phase: phase.order))


def divide(lots: Sequence[Lot], processes: int) -> list[list[Lot]]:
    """What each process runs, in the order of phases and therein of `lots`. The last ones may get nothing."""
    shares: list[list[Lot]] = [[] for _ in range(processes)]
    for phase in phases_of(lots):
        members = [lot for lot in lots if lot.phase == phase]
        parts: list[list[Lot]] = [[lot for lot in members if not lot.spreads], *([] for _ in range(processes - 1))]
        for suite in _largest_first([lot for lot in members if lot.spreads]):
            min(parts, key=len).extend(suite)
        for share, part in zip(shares, parts, strict=True):
            share += sorted(part, key=members.index)
    return shares


def _largest_first(lots: Sequence[Lot]) -> list[list[Lot]]:
    suites = [list(suite) for _, suite in groupby(sorted(lots, key=lambda lot: lot.suite), key=lambda lot: lot.suite)]
    return sorted(suites, key=len, reverse=True)
