"""Differences between two JSON values: the path and both values of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import eq
from typing import Any

Change = tuple[str, Any, Any]
"""A path, and what the first and the second value have there; None if absent."""
Inner = Callable[[Any, Any, str], Iterator[Change]]
ListRule = Callable[[list[Any], list[Any], str, Inner], Iterator[Change]]
"""How two different lists are compared; receives the function that compares their items."""


def by_position(before: list[Any], after: list[Any], path: str, inner: Inner) -> Iterator[Change]:
    """Item by item; lists of different lengths differ as a whole."""
    if len(before) != len(after):
        yield path, before, after
        return
    for index, (was, now) in enumerate(zip(before, after, strict=True)):
        yield from inner(was, now, f"{path}[{index}]")


def differences(
    before: Any,
    after: Any,
    path: str = "",
    *,
    lists: ListRule = by_position,
    same: Callable[[Any, Any], bool] = eq,
) -> Iterator[Change]:
    """The innermost differences below `path`, in the order of keys; values that are `same` are skipped."""

    def inner(before: Any, after: Any, path: str) -> Iterator[Change]:
        if same(before, after):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            for key in sorted(before.keys() | after.keys()):
                yield from inner(before.get(key), after.get(key), _into(path, key))
        elif isinstance(before, list) and isinstance(after, list):
            yield from lists(before, after, path, inner)
        else:
            yield path, before, after

    return inner(before, after, path)


def _into(path: str, key: str) -> str:
    if not key.replace("_", "").isalnum():
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
