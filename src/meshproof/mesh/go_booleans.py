"""Switches of istiod and its agents, as Go reads them (strconv.ParseBool), in any case."""

from __future__ import annotations

from typing import Final

_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})


def is_true(text: str) -> bool:
    return text.lower() in _TRUE


def is_false(text: str) -> bool:
    """An empty text is neither true nor false: the switch has its default."""
    return text.lower() in _FALSE
