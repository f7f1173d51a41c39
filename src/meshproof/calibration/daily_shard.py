"""Selects a few mutants per day, so that daily CI runs cover all of them in turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TypeVar

T = TypeVar("T")


def part_of_day(things: Sequence[T], size: int, day: date) -> tuple[T, ...]:
    """The day's `size` items, advancing cyclically from day to day; the same for all calls on one day."""
    if size >= len(things):
        return tuple(things)
    start = day.toordinal() * size % len(things)
    return tuple(things[(start + step) % len(things)] for step in range(size))
