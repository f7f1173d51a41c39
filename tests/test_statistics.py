"""Shares: known values, symmetry, and samples large enough to see what they must."""

from __future__ import annotations

from math import isclose

import pytest

from meshproof.core.errors import BadInput
from meshproof.core.statistics import ALPHA, expected_shares, power, smallest_sample, test_shares

EVEN = {"v1": 0.5, "v2": 0.5}


def test_shares_come_from_weights() -> None:
    assert expected_shares({"v1": 1, "v2": 3}) == {"v1": 0.25, "v2": 0.75}


@pytest.mark.parametrize("weights", [{}, {"v1": 0}, {"v1": 2, "v2": -1}])
def test_weights_that_give_no_shares_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="must not be negative, and one must be positive"):
        expected_shares(weights)


@pytest.mark.parametrize(
    ("v1", "n", "p_value"),
    [
        (10, 10, 2 / 2**10),
        (0, 10, 2 / 2**10),
        (8, 10, 2 * (1 + 10 + 45) / 2**10),
        (5, 10, 1.0),
    ],
)
def test_two_even_shares_have_the_textbook_p_value(v1: int, n: int, p_value: float) -> None:
    assert isclose(test_shares({"v1": v1, "v2": n - v1}, EVEN).p_value, p_value)


def test_three_shares_have_the_textbook_p_value() -> None:
    """Three answers of one of three equal versions: 3 of 27 outcomes are as unlikely as this one."""
    third = expected_shares({"v1": 1, "v2": 1, "v3": 1})
    assert isclose(test_shares({"v1": 3}, third).p_value, 3 / 27)
    assert isclose(test_shares({"v1": 1, "v2": 1, "v3": 1}, third).p_value, 1.0)


def test_the_exact_test_of_three_shares_agrees_with_that_of_two() -> None:
    """A third version with a share of almost zero changes nothing."""
    two = test_shares({"v1": 14, "v2": 6}, EVEN).p_value
    three = test_shares({"v1": 14, "v2": 6}, {"v1": 0.5 - 1e-12, "v2": 0.5 - 1e-12, "v3": 2e-12}).p_value
    assert isclose(two, three, rel_tol=1e-6)


def test_large_samples_of_many_versions_use_chi_square() -> None:
    four = expected_shares({f"v{i}": 1 for i in range(4)})
    fair = test_shares({"v0": 260, "v1": 240, "v2": 255, "v3": 245}, four)
    skewed = test_shares({"v0": 400, "v1": 200, "v2": 200, "v3": 200}, four)
    assert isclose(fair.p_value, 0.8012519569, rel_tol=1e-6)  # chi-square 1.0 with 3 degrees of freedom
    assert fair.ok
    assert not skewed.ok


def test_the_names_of_the_versions_do_not_matter() -> None:
    weights = {"v1": 1, "v2": 4}
    one = test_shares({"v1": 30, "v2": 70}, expected_shares(weights))
    other = test_shares({"v2": 30, "v1": 70}, expected_shares({"v2": 1, "v1": 4}))
    assert isclose(one.p_value, other.p_value)


def test_a_version_that_nobody_expects_is_impossible() -> None:
    result = test_shares({"v1": 30, "v2": 29, "v3": 1}, EVEN)
    assert result.p_value == 0
    assert not result.ok
    assert str(result) == ("v1 30, v2 29, v3 1 of 60; expected 50.0 % : 50.0 % : 0.0 %; p = 0 (alpha 1e-06)")


def test_a_version_with_share_zero_is_impossible_only_if_it_answers() -> None:
    drained = {"v1": 1.0, "v2": 0.0}
    assert test_shares({"v1": 60}, drained).p_value == 1
    assert test_shares({"v1": 59, "v2": 1}, drained).p_value == 0


def test_a_version_that_never_answers_is_seen() -> None:
    result = test_shares({"v1": 60}, EVEN)
    assert not result.ok
    assert str(result) == "v1 60, v2 0 of 60; expected 50.0 % : 50.0 %; p = 1.7e-18 (alpha 1e-06)"


def test_no_answers_speak_against_nothing() -> None:
    assert test_shares({}, EVEN).p_value == 1


def test_shares_must_sum_to_one_and_counts_must_be_counts() -> None:
    with pytest.raises(BadInput, match="must sum to 1"):
        test_shares({"v1": 1}, {"v1": 0.9})
    with pytest.raises(BadInput, match="must not be negative"):
        test_shares({"v1": -1}, EVEN)


def test_the_text_gives_counts_shares_and_p() -> None:
    result = test_shares({"v1": 31, "v2": 29}, EVEN)
    assert str(result) == "v1 31, v2 29 of 60; expected 50.0 % : 50.0 %; p = 0.9 (alpha 1e-06)"


@pytest.mark.parametrize(("p_null", "n"), [(0.5, 60), (0.2, 47), (1 / 3, 120)])
def test_the_power_against_the_promise_itself_is_at_most_alpha(p_null: float, n: int) -> None:
    """A fair mesh must not be called unfair more often than alpha says."""
    assert power(n, p_null, p_null, alpha=0.01) <= 0.01 + 1e-12
    assert power(n, p_null, p_null) <= ALPHA + 1e-12


@pytest.mark.parametrize(("p_null", "p_true", "n"), [(0.5, 0.6, 60), (0.2, 0.35, 33), (1 / 3, 0.6, 50)])
def test_power_is_the_chance_that_the_test_fails(p_null: float, p_true: float, n: int) -> None:
    """The quick acceptance region and scipy's test, count by count, must say the same."""
    from scipy.stats import binom

    refused = sum(
        float(binom.pmf(k, n, p_true))
        for k in range(n + 1)
        if not test_shares({"a": k, "b": n - k}, {"a": p_null, "b": 1 - p_null}, 0.001).ok
    )
    assert isclose(power(n, p_null, p_true, alpha=0.001), refused, rel_tol=1e-9)


def test_the_sample_that_exposes_sixty_to_forty() -> None:
    n = smallest_sample(0.5, 0.6, alpha=ALPHA, power=0.99)
    assert n == 1302
    assert power(n - 1, 0.5, 0.6) < 0.99
    assert all(power(m, 0.5, 0.6) >= 0.99 for m in range(n, n + 60))


def test_sixty_requests_expose_a_dead_version_but_not_a_small_skew() -> None:
    """What the default sample is good for: a version that is gone, not a balance that is a little off."""
    assert power(60, 0.5, 1.0) == 1
    assert power(60, 0.5, 0.6) < 0.01


def test_equal_shares_cannot_be_told_apart() -> None:
    with pytest.raises(BadInput, match="equals the expected share, so no sample can distinguish them"):
        smallest_sample(0.5, 0.5)


@pytest.mark.parametrize(("share", "count", "n"), [(0.5, 601, 1302), (0.5, 803, 1302), (0.8, 700, 958), (0.3, 0, 40)])
def test_the_test_of_two_shares_is_the_exact_binomial_test(share: float, count: int, n: int) -> None:
    """Without scipy, whose import would take longer than the sample of requests; with the same result."""
    from scipy.stats import binomtest

    ours = test_shares({"v1": count, "v2": n - count}, {"v1": share, "v2": 1 - share}).p_value
    assert isclose(ours, binomtest(count, n, share).pvalue, rel_tol=1e-8)
