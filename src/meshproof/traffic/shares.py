"""Judging a sample of answers: no errors in the window, and versions in the shares that endpoints promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from meshproof.core.statistics import test_shares
from meshproof.probes.answers import HttpAnswer


def share_problems(answers: Sequence[HttpAnswer], expected: Mapping[str, float]) -> list[str]:
    """What is wrong with a sample; shares are only judged if every request was answered."""
    errors = Counter(answer.outcome for answer in answers if not answer.ok)
    if errors:
        told = ", ".join(f"{outcome} x{count}" for outcome, count in errors.most_common(5))
        return [f"{errors.total()} of {len(answers)} requests failed: {told}"]
    test = test_shares(Counter(answer.outcome for answer in answers), expected)
    return [] if test.ok else [f"shares do not fit the endpoints' weights: {test}"]


def told(answers: Sequence[HttpAnswer]) -> str:
    """A sample in one line: `v1 101, v2 99 of 200`."""
    counts = Counter(answer.outcome for answer in answers)
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())) + f" of {len(answers)}"
