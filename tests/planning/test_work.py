"""Proves that lengths have the moments they claim, and that stages do the work that their settings name.

Run: python -m pytest tests/planning/test_work.py
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.evaluation import published
from thinkless.modes import Mode
from thinkless.planning.hardware import PlanError
from thinkless.planning.work import assume, cut, lognormal
from thinkless.runs.profiles import load_profile


def test_lengths_have_the_moments_of_a_sample():
    mean, spread, limit = 6000.0, 0.9, 16_384.0
    variance = math.log1p(spread**2)
    draws = np.random.default_rng(0).lognormal(math.log(mean) - variance / 2, math.sqrt(variance), 400_000)
    length, capped = cut([(1.0, lognormal(mean, spread))], limit), np.minimum(draws, limit)
    assert length.mean == pytest.approx(capped.mean(), rel=0.01)
    assert length.rms == pytest.approx(np.sqrt((capped**2).mean()), rel=0.01)
    assert length.capped == pytest.approx((draws > limit).mean(), abs=0.002)
    longest = cut([(1.0, lognormal(mean, spread))], 1e9, answers=1000).longest
    assert longest == pytest.approx(np.quantile(draws, 0.999), rel=0.05)


def test_no_limit_changes_nothing_and_equal_lengths_have_no_spread():
    free = cut([(1.0, lognormal(500, 1.0))], 1e12)
    assert (free.mean, free.capped) == pytest.approx((500, 0))
    assert free.rms == pytest.approx(500 * math.sqrt(2), rel=0.02)  # quantiles hold less of the tail
    assert cut([(1.0, lognormal(500, 0.0))], 300) == pytest.approx((300, 300, 300, 1.0))


@given(mean=st.floats(10, 1e4), spread=st.floats(0.05, 2), low=st.floats(20, 1e5), factor=st.floats(1, 10))
def test_a_higher_limit_never_shortens_answers(mean, spread, low, factor):
    short, long = (cut([(1.0, lognormal(mean, spread))], limit) for limit in (low, low * factor))
    assert short.mean <= long.mean * (1 + 1e-9)
    assert short.rms <= long.rms * (1 + 1e-9)
    assert short.capped >= long.capped
    assert short.mean <= short.rms * (1 + 1e-9)
    assert short.longest <= low


def test_a_mixture_weighs_means_and_squares():
    mixed = cut([(0.75, np.array([2.0, 6.0])), (0.25, np.array([8.0, 14.0]))], 10)
    assert mixed.mean == 0.75 * 4 + 0.25 * 9  # 14 is cut off at 10
    assert mixed.rms == pytest.approx(math.sqrt(0.75 * 20 + 0.25 * 82))
    assert (mixed.longest, mixed.capped) == (10, 0.125)


# Assumptions


def test_lengths_come_from_the_benchmark_most_alike():
    table = published.table("table_2").loc[["OpenThoughts-1M, think", "OpenThoughts-1M, short"]]
    paper, gpu = assume(load_profile("h100x4")).told(), assume(load_profile("gpu")).told()
    assert paper["think_mean"] == pytest.approx(table["MATH-500", "tokens"].iloc[0])
    assert gpu["short_mean"] == pytest.approx(table["GSM8K", "tokens"].iloc[1])


def test_a_changed_mean_keeps_its_spread():
    profile = load_profile("h100x4")
    usual, longer = assume(profile), assume(profile, {"think_mean": 9000})
    assert longer.think.std() / 9000 == pytest.approx(usual.think.std() / usual.think.mean())
    assert (longer.short == usual.short).all()
    assert assume(profile, {"prompt": 200}).prompt == 200


def test_the_think_rate_moves_between_the_two_lengths():
    profile = load_profile("h100x4")
    always = assume(profile, {"think_rate": 1.0})
    assert cut(always.parts(), 1e9) == cut(always.parts(Mode.THINK), 1e9)
    half = assume(profile, {"think_rate": 0.5})
    assert cut(half.parts(), 1e9).mean == pytest.approx((6209 + 989) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"think_men": 1}, "no assumption 'think_men': there are think_mean, short_mean"),
        ({"think_mean": -1}, "think_mean=-1: expected a positive number"),
        ({"think_mean": float("nan")}, "think_mean=nan: expected a positive number"),
        ({"think_mean": "long"}, "think_mean='long'"),
        ({"think_rate": 1.5}, "think_rate=1.5: expected a share"),
    ],
)
def test_an_impossible_assumption(changes, message):
    with pytest.raises(PlanError, match=message):
        assume(load_profile("h100x4"), changes)
