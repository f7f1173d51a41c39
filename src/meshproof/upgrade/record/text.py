"""A comparison in words, for people and as evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from meshproof.upgrade.record.compare import Comparison
from meshproof.upgrade.record.differences import HOLDER, Difference

LONGEST: Final = 300
"""Characters of a value that are shown; the records have all of it."""


def told(comparison: Comparison) -> str:
    """All of it: what is red first, then what is explained, by rule."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    yield f"{before.mesh}: {before.taken:%Y-%m-%d %H:%M:%S} and {after.taken:%Y-%m-%d %H:%M:%S} UTC"
    yield f"Istio {comparison.from_version} and {comparison.to_version}; {len(after.parts)} parts of configuration"
    if comparison.equal:
        yield "no difference"
    if comparison.unexplained:
        yield f"{len(comparison.unexplained)} differences that no rule explains:"
        for difference in comparison.unexplained:
            yield from (f"  {line}" for line in line_of(difference).splitlines())
    if comparison.explained:
        yield f"{len(comparison.explained)} differences that a rule explains:"
    by_rule = sorted(comparison.explained, key=lambda each: each.rule.id)
    for _, group in groupby(by_rule, key=lambda each: each.rule.id):
        each, *others = group
        yield f"  {each.rule.id} {each.rule.sentence} ({each.rule.source})"
        yield from (f"    {line_of(found.difference).splitlines()[0]}" for found in (each, *others))


def line_of(difference: Difference) -> str:
    """What it is, what was there and is there now, and where."""
    if difference.kind == HOLDER:
        what = "is gone" if difference.after is None else "is new"
        return f"{difference.name} {what}: {', '.join(difference.places)}"
    path = f" {difference.path}" if difference.path else ""
    was, now = _value(difference.before), _value(difference.after)
    return f"{difference.kind} {difference.name}{path}: was {was}, is {now}\n  at {', '.join(difference.places)}"


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
