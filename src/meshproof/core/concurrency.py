"""Asking many things at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from meshproof.core.errors import ClaimFailed

A = TypeVar("A")
B = TypeVar("B")

WIDTH: Final = 12
"""Threads at most: an `exec` costs the API server and the kubelet a process each."""


def together(work: Callable[[A], B], items: Iterable[A], *, width: int = WIDTH) -> list[B]:
    """The results of `work` for each item, in the order of the items; all of them end before this returns.

    If some raise: `ClaimFailed` with all texts if the mesh is wrong in each case, else the first other exception, with
    the remaining ones as notes. A claim that could not be examined completely is not reported as failed.
    """
    things = list(items)
    if not things:
        return []
    with ThreadPoolExecutor(max_workers=min(width, len(things)), thread_name_prefix="meshproof") as pool:
        futures = [pool.submit(work, thing) for thing in things]
    problems = [problem for future in futures if (problem := future.exception()) is not None]
    if not problems:
        return [future.result() for future in futures]
    ours = [problem for problem in problems if not isinstance(problem, ClaimFailed)]
    if not ours:
        raise problems[0] if len(problems) == 1 else ClaimFailed("\n".join(str(problem) for problem in problems))
    first, *others = ours
    for other in others:
        first.add_note(f"and: {other}")
    raise first
