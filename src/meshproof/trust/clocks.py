"""Whether clocks are close enough for certificates and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from meshproof.core.deadlines import DEADLINES
from meshproof.probes.clock_skew import Skew


def clock_problems(clocks: Mapping[str, Skew], bound_s: float = DEADLINES.clock_skew_s) -> dict[str, list[str]]:
    """Per clock, how far it is from the runner's; pairs that are further apart than the bound are reported as well."""
    result = {name: skew.problems(bound_s) for name, skew in clocks.items()}
    for (one, left), (other, right) in combinations(clocks.items(), 2):
        if left.apart(right) > bound_s and not result[one] and not result[other]:
            result[one].append(f"at least {left.apart(right):.1f} s from the {other}")
    return result
