"""Proves that lengths have the moments they claim, and that stages do the work that their settings name.

Run: python -m pytest tests/planning/test_work.py
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.evaluation import published
from thinkless.planning.hardware import PlanError
from thinkless.planning.work import assume, cut, lognormal
from thinkless.runs.profiles import load_profile


def test_lengths_have_the_moments_of_a_sample():
    mean, spread, limit = 6000.0, 0.9, 16_384.0
    variance = math.log1p(spread**2)
    draws = np.random.default_rng(0).lognormal(math.log(mean) - variance / 2, math.sqrt(variance), 400_000)
    length, capped = cut(lognormal(mean, spread), limit), np.minimum(draws, limit)
    assert length.mean == pytest.approx(capped.mean(), rel=0.01)
    assert length.rms == pytest.approx(np.sqrt((capped**2).mean()), rel=0.01)
    assert length.capped == pytest.approx((draws > limit).mean(), abs=0.002)
    longest = cut(lognormal(mean, spread), 1e9, answers=1000).longest
    assert longest == pytest.approx(np.quantile(draws, 0.999), rel=0.05)


def test_no_limit_changes_nothing_and_equal_lengths_have_no_spread():
    free = cut(lognormal(500, 1.0), 1e12)
    assert (free.mean, free.capped) == pytest.approx((500, 0))
    assert free.rms == pytest.approx(500 * math.sqrt(2), rel=0.02)  # quantiles hold less of the tail
    assert cut(lognormal(500, 0.0), 300) == pytest.approx((300, 300, 300, 1.0))


@given(mean=st.floats(10, 1e4), spread=st.floats(0.05, 2), low=st.floats(20, 1e5), factor=st.floats(1, 10))
def test_a_higher_limit_never_shortens_answers(mean, spread, low, factor):
    short, long = (cut(lognormal(mean, spread), limit) for limit in (low, low * factor))
    assert short.mean <= long.mean * (1 + 1e-9)
    assert short.rms <= long.rms * (1 + 1e-9)
    assert short.capped >= long.capped
    assert short.mean <= short.rms * (1 + 1e-9)
    assert short.longest <= low


def test_a_mixture_weighs_means_and_squares():
    mixed = cut(pd.Series({2.0: 0.375, 6.0: 0.375, 8.0: 0.125, 14.0: 0.125}), 10)
    assert mixed.mean == 0.75 * 4 + 0.25 * 9  # 14 is cut off at 10
    assert mixed.rms == pytest.approx(math.sqrt(0.75 * 20 + 0.25 * 82))
    assert (mixed.longest, mixed.capped) == (10, 0.125)


# Assumptions


PAPER, GPU = (load_profile(name).problems for name in ("h100x4", "gpu"))


def test_lengths_come_from_the_benchmark_most_alike():
    table = published.table("table_2").loc[["OpenThoughts-1M, think", "OpenThoughts-1M, short"]]
    assert assume(PAPER).think_mean == pytest.approx(table["MATH-500", "tokens"].iloc[0])
    assert assume(GPU).short_mean == pytest.approx(table["GSM8K", "tokens"].iloc[1])


def test_a_changed_mean_keeps_its_spread():
    usual, longer = (cut(assume(PAPER, changes).lengths(1), 1e9) for changes in ({}, {"think_mean": 9000}))
    assert longer.mean == pytest.approx(9000)
    assert longer.rms / longer.mean == pytest.approx(usual.rms / usual.mean)
    assert assume(PAPER, {"think_mean": 9000}).short_mean == assume(PAPER).short_mean
    assert assume(PAPER, {"prompt": 200}).prompt == 200


def test_the_think_rate_moves_between_the_two_lengths():
    a = assume(PAPER)
    assert cut(a.lengths(1), 1e9).mean == pytest.approx(a.think_mean)
    assert cut(a.lengths(0), 1e9).mean == pytest.approx(a.short_mean)
    assert cut(a.lengths(0.5), 1e9).mean == pytest.approx((6209 + 989) / 2)
    assert cut(a.lengths(0), 1e9).longest < cut(a.lengths(0.5), 1e9).longest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"think_men": 1}, "think_men=1: .*; what can be assumed is think_mean, short_mean"),
        ({"think_mean": -1}, "think_mean=-1: Input should be greater than 0"),
        ({"think_mean": float("nan")}, "think_mean=nan: Input should be a finite number"),
        ({"think_mean": "long"}, "think_mean='long'"),
        ({"think_rate": 1.5}, "think_rate=1.5: Input should be less than or equal to 1"),
    ],
)
def test_an_impossible_assumption(changes, message):
    with pytest.raises(PlanError, match=message):
        assume(PAPER, changes)
