"""Records that users name by ID, in any case, alone or in a comma-separated list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from meshproof.core.errors import BadInput


class Identified(Protocol):
    """A record with an ID."""

    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Identified)


def find_by_id(kind: str, records: Sequence[R], identifier: str) -> R:
    """The record with this ID, in any case. Raises `BadInput` with the valid IDs."""
    for candidate in records:
        if candidate.id.lower() == identifier.lower():
            return candidate
    raise BadInput(
        f"{kind} {identifier}", f"there is no {kind} with this ID", f"use one of {', '.join(r.id for r in records)}"
    )


def find_all_by_id(kind: str, records: Sequence[R], identifiers: str) -> tuple[R, ...]:
    """The records of a comma-separated list. Raises `BadInput` as above."""
    return tuple(find_by_id(kind, records, part) for part in parts_of(identifiers))


def parts_of(identifiers: str) -> Iterable[str]:
    return [part.strip() for part in identifiers.split(",") if part.strip()]
