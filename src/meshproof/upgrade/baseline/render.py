"""A comparison as text, for output and as evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from meshproof.upgrade.baseline.compare import BaselineComparison
from meshproof.upgrade.baseline.diff import HOLDER, Difference
from meshproof.upgrade.baseline.normalise import canonical

LONGEST: Final = 300
"""Characters of a value that are shown; the records have all of it."""
MOST: Final = 8
"""Names or places that are listed individually."""


def comparison_text(comparison: BaselineComparison) -> str:
    """The whole comparison: what could not be compared, then unexplained differences, and explained ones by rule."""
    return "\n".join(_lines(comparison))


def _lines(comparison: BaselineComparison) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    yield f"{before.mesh}: {before.taken:%Y-%m-%d %H:%M:%S} and {after.taken:%Y-%m-%d %H:%M:%S} UTC"
    yield f"Istio {comparison.from_version} and {comparison.to_version}; {len(after.parts)} parts of configuration"
    for gap in comparison.gaps:
        yield f"NOT KNOWN: {gap}"
    if comparison.equal:
        yield "no difference" + (" in the rest" if comparison.gaps else "")
    if comparison.unexplained:
        yield f"differences that no rule explains: {len(comparison.unexplained)}"
        yield from (f"  {line}" for line in grouped(comparison.unexplained))
    if comparison.explained:
        yield f"differences that a rule explains: {len(comparison.explained)}"
    by_rule = sorted(comparison.explained, key=lambda each: each.rule.id)
    for _, group in groupby(by_rule, key=lambda each: each.rule.id):
        each, *others = group
        yield f"  {each.rule.id} {each.rule.sentence} ({each.rule.source})"
        yield from (f"    {line}" for line in grouped([found.difference for found in (each, *others)]))


def grouped(differences: Iterable[Difference]) -> Iterator[str]:
    """Differences with old value, new value and places; equal ones of several parts are grouped."""
    alike: dict[tuple[object, ...], list[Difference]] = {}
    for each in differences:
        same = (each.kind, each.path, canonical(each.before), canonical(each.after), each.places)
        alike.setdefault(same, []).append(each)
    for first, *others in alike.values():
        names = [first.name, *(each.name for each in others)]
        if first.kind == HOLDER:
            yield f"{_some(names)} {'is gone' if first.after is None else 'is new'}: {_some(first.places)}"
            continue
        path = f" {first.path}" if first.path else ""
        yield f"{first.kind} {_some(names)}{path}{_change(first.before, first.after)}"
        yield f"  at {_some(first.places)}"


def _change(before: object, after: object) -> str:
    if after is None:
        return f" is gone; it was {_value(before)}"
    return f" is new: {_value(after)}" if before is None else f": was {_value(before)}, is {_value(after)}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return ", ".join(texts[:MOST]) + more


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
