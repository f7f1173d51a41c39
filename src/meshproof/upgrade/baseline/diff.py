"""Differences of records; list items are matched by name, so that an added item does not shift the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshproof.core.structural_diff import Change, Inner, differences
from meshproof.upgrade.baseline.model import BaselineRecord, Key
from meshproof.upgrade.baseline.normalise import canonical

HOLDER = "holder"
"""Kind of a difference: a whole workload or cluster was added or removed."""
THERE = "there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference, in one or more places. None means that the value is absent.

    `places` are `cluster namespace/name`, or only the cluster. `path` is within the part; empty: all of it.
    """

    places: tuple[str, ...]
    kind: str
    name: str
    path: str
    before: object
    after: object


def record_differences(before: BaselineRecord, after: BaselineRecord) -> list[Difference]:
    """All differences, each once with all its places. Samples are not compared here."""
    found: dict[tuple[str, ...], list[str]] = {}
    values: dict[tuple[str, ...], tuple[object, object]] = {}

    def note(place: str, kind: str, name: str, path: str, was: object, now: object) -> None:
        key = (kind, name, path, canonical(was), canonical(now))
        found.setdefault(key, []).append(place)
        values[key] = (was, now)

    for cluster, workload in sorted(before.holders - after.holders):
        note(cluster, HOLDER, workload or cluster, "", THERE, None)
    for cluster, workload in sorted(after.holders - before.holders):
        note(cluster, HOLDER, workload or cluster, "", None, THERE)
    both = before.holders & after.holders
    for key in sorted(before.parts.keys() | after.parts.keys()):
        if (key.cluster, key.workload) in both:
            for path, was, now in differences(before.parts.get(key), after.parts.get(key), lists=by_name):
                note(_place(key), key.kind, key.name, path, was, now)
    return [
        Difference(
            places=tuple(places), kind=key[0], name=key[1], path=key[2], before=values[key][0], after=values[key][1]
        )
        for key, places in found.items()
    ]


def _place(key: Key) -> str:
    return f"{key.cluster} {key.workload}".strip()


def by_name(before: list[Any], after: list[Any], path: str, inner: Inner) -> Iterator[Change]:
    """Match named items by name; of other items, report those that are in one list only."""
    if not all(isinstance(item, dict) and _name(item) for item in (*before, *after)):
        yield from _of_nameless(before, after, path, inner)
        return
    was, now = _by_name(before), _by_name(after)
    for name in sorted(was.keys() | now.keys()):
        yield from inner(was.get(name), now.get(name), f"{path}[{name}]")
    common = [[name for name in one if name in other] for one, other in ((was, now), (now, was))]
    if common[0] != common[1]:
        yield f"{path} (order)", common[0], common[1]


def _name(item: dict[str, Any]) -> str:
    """The item's name, or the server names of a filter chain without a name."""
    match = item.get("filterChainMatch")
    return str(item.get("name") or ", ".join(match.get("serverNames") or [] if isinstance(match, dict) else []))


def _by_name(items: list[Any]) -> dict[str, Any]:
    seen: Counter[str] = Counter()
    found = {}
    for item in items:
        name = _name(item)
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} #{seen[name]}"] = item
    return found


def _of_nameless(before: list[Any], after: list[Any], path: str, inner: Inner) -> Iterator[Change]:
    gone, come = _left(before, after), _left(after, before)
    if not gone and not come:
        yield f"{path} (order)", before, after
    elif len(gone) == len(come) and all(isinstance(item, dict | list) for item in (*gone, *come)):
        for was, now in zip(gone, come, strict=True):
            yield from inner(was, now, f"{path}[{before.index(was)}]")
    else:
        yield path, gone or None, come or None


def _left(these: list[Any], those: list[Any]) -> list[Any]:
    """Items that occur more often in `these` than in `those`."""
    spare = Counter(canonical(item) for item in those)
    found = []
    for item in these:
        text = canonical(item)
        spare[text] -= 1
        if spare[text] < 0:
            found.append(item)
    return found
