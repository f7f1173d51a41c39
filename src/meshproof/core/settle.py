"""Asking until nothing is wrong any more, and telling what still was if time runs out."""

from __future__ import annotations

from collections.abc import Callable

from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import NotReady
from meshproof.core.waiting import NotYet, eventually


def settled(problems: Callable[[], list[str]], *, timeout_s: float = DEADLINES.configuration) -> list[str]:
    """Ask for problems until there are none, or `timeout_s` is over; returns the last ones.

    For what follows configuration that was just applied: the bound is part of what is claimed, the problems are told.
    """
    last: list[str] = []

    def check() -> None:
        nonlocal last
        last = problems()
        if last:
            raise NotYet("; ".join(last))

    try:
        eventually(check, what="settled", timeout_s=timeout_s)
    except NotReady:
        if not last:
            raise
    return last
