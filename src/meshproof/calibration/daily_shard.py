"""A few mutants a day, so that an ordinary CI run sees all of them in turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TypeVar

T = TypeVar("T")


def part_of_day(things: Sequence[T], size: int, day: date) -> tuple[T, ...]:
    """`size` of the things, the next ones each day, around in a circle; the same for all who ask on that day."""
    if size >= len(things):
        return tuple(things)
    start = day.toordinal() * size % len(things)
    return tuple(things[(start + step) % len(things)] for step in range(size))
