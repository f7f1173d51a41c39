"""Whether counts of responses match the shares expected from endpoint weights: one sample, one test, a stated alpha."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import exp, lgamma, log
from types import MappingProxyType
from typing import Final

from meshproof.core.errors import BadInput

ALPHA: Final = 1e-6
"""Probability of a false alarm in one test: once in a million tests, so a failure is not chance."""

_MOST_OUTCOMES: Final = 200_000
"""Up to this many outcomes the multinomial test is exact (a fraction of a second); beyond, chi-square is accurate
enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTest:
    """Counts per category, the shares they were tested against, and the p-value of these counts."""

    counts: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    alpha: float

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ok(self) -> bool:
        """Whether the counts match the shares (p at least alpha)."""
        return self.p_value >= self.alpha

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        shares = " : ".join(f"{self.expected.get(name, 0.0) * 100:.1f} %" for name in self.counts)
        return f"{counts} of {self.total}; expected {shares}; p = {self.p_value:.2g} (alpha {self.alpha:.0e})"


def expected_shares(weights: Mapping[str, int]) -> dict[str, float]:
    """Shares from endpoint weights or ready pods per category; they sum to 1.

    Raises `BadInput` if a weight is negative or none is positive.
    """
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or total <= 0:
        raise BadInput(f"weights {dict(weights)}", "weights must not be negative, and one must be positive")
    return {name: weight / total for name, weight in weights.items()}


def test_shares(observed: Mapping[str, int], expected: Mapping[str, float], alpha: float = ALPHA) -> ShareTest:  # noqa: PT028
    """Test counts against shares, two-sided: exact for two categories, and for more where that is affordable.

    An observed category whose expected share is zero or missing makes p zero: it is impossible.
    An expected category that was not observed counts as zero. An empty sample makes p one: there is no evidence
    against the shares, so callers fix the size of their sample first (`smallest_sample`).
    Raises `BadInput` if the shares do not sum to 1 or a count is negative.
    """
    if abs(sum(expected.values()) - 1) > 1e-9 or any(share < 0 for share in expected.values()):
        raise BadInput(f"shares {dict(expected)}", "they must not be negative, and must sum to 1")
    if any(count < 0 for count in observed.values()):
        raise BadInput(f"counts {dict(observed)}", "they must not be negative")
    names = sorted({*observed, *expected})
    counts = {name: observed.get(name, 0) for name in names}
    possible = [name for name in names if expected.get(name, 0.0) > 0]
    if any(count for name, count in counts.items() if name not in possible):
        p_value = 0.0
    else:
        p_value = _p_value([counts[name] for name in possible], [expected[name] for name in possible])
    return ShareTest(
        counts=MappingProxyType(counts), expected=MappingProxyType(dict(expected)), p_value=p_value, alpha=alpha
    )


test_shares.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it wherever it is imported


def power(n: int, p_null: float, p_true: float, alpha: float = ALPHA) -> float:
    """Probability that `n` responses expose a share of `p_true` where `p_null` is expected (exact, two categories)."""
    from scipy.stats import binom  # slow to import, and most commands need no statistics

    low, high = _acceptance(n, p_null, alpha)
    accepted = float(binom.cdf(high, n, p_true) - binom.cdf(low - 1, n, p_true))
    return 1.0 - accepted


def smallest_sample(p_null: float, p_true: float, alpha: float = ALPHA, power: float = 0.99) -> int:
    """The smallest n from which on the test's power stays at least `power`. Raises `BadInput` if the shares are equal.

    The power of an exact test is not monotonic in n (a sawtooth), so the first n that reaches it is not yet enough.
    """
    if p_null == p_true:
        raise BadInput(f"share {p_true}", "equals the expected share, so no sample can distinguish them")
    reaches = _power  # the parameter hides the function's name
    low, high = 0, 1
    while reaches(high, p_null, p_true, alpha) < power:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle, p_null, p_true, alpha) >= power else (middle, high)
    # The first crossing, maybe of a single tooth: the last n below `power` is at most a few teeth later.
    n = high + high // 8 + 64
    while n > 1 and reaches(n - 1, p_null, p_true, alpha) >= power:
        n -= 1
    return n


_power = power


def _acceptance(n: int, p_null: float, alpha: float) -> tuple[int, int]:
    """The lowest and the highest count that the exact two-sided test accepts (both ends included)."""
    import numpy as np  # slow to import, as above
    from scipy.stats import binom

    # binomtest's p value of k is the sum of all outcomes at most as likely as k; so sort them once for all k.
    likely = binom.pmf(np.arange(n + 1), n, p_null)
    order = np.argsort(likely)
    tail = np.cumsum(likely[order])
    # Outcomes that are equally likely share one p value, that of the last of them (relative slack as in binomtest).
    last = np.searchsorted(likely[order], likely * (1 + 1e-7), side="right") - 1
    accepted = np.flatnonzero(tail[last] >= alpha)
    return int(accepted[0]), int(accepted[-1])


def _p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    total = sum(counts)
    if total == 0 or len(counts) == 1:
        return 1.0
    if _outcomes(total, len(counts)) <= _MOST_OUTCOMES:
        return _multinomial(counts, shares)
    from scipy.stats import chisquare  # its import takes longer than a sample of requests, so only where it is needed

    return float(chisquare(counts, [share * total for share in shares]).pvalue)


def _outcomes(total: int, categories: int) -> float:
    return exp(lgamma(total + categories) - lgamma(total + 1) - lgamma(categories))


def _multinomial(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The sum of the probabilities of all outcomes that are at most as likely as `counts`."""
    total, categories = sum(counts), len(counts)
    logs = [log(share) for share in shares]
    factorials = [lgamma(k + 1) for k in range(total + 1)]

    def log_likelihood(outcome: Sequence[int]) -> float:
        return factorials[total] + sum(k * p - factorials[k] for k, p in zip(outcome, logs, strict=True))

    limit = log_likelihood(counts) + 1e-7  # the relative slack that binomtest allows for rounding
    p_value = 0.0
    for bars in combinations(range(total + categories - 1), categories - 1):  # stars and bars: every outcome once
        edges = (-1, *bars, total + categories - 1)
        likely = log_likelihood([right - left - 1 for left, right in pairwise(edges)])
        if likely <= limit:
            p_value += exp(likely)
    return min(p_value, 1.0)
