"""Proves the measures of P(think) by hand, and that a perfectly calibrated one is found to be so.

Run: python -m pytest tests/evaluation/test_calibration.py
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.evaluation.calibration import (
    brier_score,
    calibration_error,
    error_by_level,
    need,
    no_worse,
    no_worse_paid,
    ranking,
    ranking_within_levels,
    reliability,
)


def table(probability, short, think, chosen=None):
    frame = pd.DataFrame({"probability": probability, "accuracy_short": short, "accuracy_think": think})
    frame["reward_short"] = 2 * frame["accuracy_short"] - 1
    frame["reward_think"] = 1.5 * frame["accuracy_think"] - 1
    frame["chosen"] = frame["probability"].round() if chosen is None else chosen
    return frame


def test_need_is_that_short_fails_and_think_succeeds():
    assert list(need(table([0.5] * 3, [0, 1, 0.5], [1, 1, 0.5]))) == [1, 0, 0.25]


def test_a_perfect_order_and_its_reverse():
    frame = table([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], [1, 1, 1, 1])
    assert ranking(frame) == {"auroc": 1.0, "average_precision": 1.0}
    assert ranking(frame.assign(probability=1 - frame["probability"]))["auroc"] == 0.0


def test_a_need_of_one_half_counts_for_both_sides():
    """Positives: weight 1 at .9, 1/2 at .5; negatives: 1/2 at .5, 1 at .7. Pairs won: 1.5, tied: .25."""
    frame = table([0.9, 0.5, 0.7], [0, 0.5, 1], [1, 1, 1])
    assert ranking(frame)["auroc"] == pytest.approx((1 * 1.5 + 0.5 * 0.5 * 0.5) / (1.5 * 1.5))


@pytest.mark.parametrize("short", [0, 1])
def test_without_two_sides_there_is_no_order(short):
    assert np.isnan(ranking(table([0.1, 0.9], [short] * 2, [1, 1]))["auroc"])


@given(st.integers(0, 100), st.sampled_from([2, 5, 10]))
def test_a_probability_that_is_the_need_has_no_error(seed, bins):
    needs = np.random.default_rng(seed).random(50)
    assert calibration_error(table(needs, 1 - needs, np.ones(50)), bins) == pytest.approx(0, abs=1e-12)


def test_reliability_and_error_by_hand():
    frame = table([0.05, 0.15, 0.95, 1.0], [1, 0.5, 0, 0], [1, 1, 1, 0.5])
    found = reliability(frame, bins=2)
    assert list(found["probability"]) == pytest.approx([0.1, 0.975])
    assert list(found["need"]) == [0.25, 0.75]
    assert list(found["questions"]) == [2, 2]
    assert calibration_error(frame, bins=2) == pytest.approx((0.15 + 0.225) / 2)


def test_no_worse_by_hand():
    """Short pays, think pays, both are right three times in four; chosen think by all, by half, by none."""
    frame = table([0.5] * 3, [1, 0, 0.75], [1, 1, 0.75], chosen=[1, 0.5, 0])
    thinks = frame["chosen"].to_numpy()
    assert no_worse(frame, thinks) == pytest.approx((1 + 0.5 + 1) / 3)
    assert no_worse_paid(frame, thinks) == pytest.approx((0 + 0.5 + 1) / 3)


def test_a_constant_is_calibrated_on_average_and_wrong_on_every_level():
    frame = table([0.5] * 4, [1, 1, 0, 0], [1, 1, 1, 1]).assign(level=[1, 1, 2, 2])
    assert calibration_error(frame) == 0
    assert error_by_level(frame) == 0.5
    assert brier_score(frame) == 0.25


def test_the_brier_score_by_hand():
    assert brier_score(table([0.8], [0.5], [1.0])) == pytest.approx(0.5 * 0.04 + 0.5 * 0.64)


def test_ranking_within_levels_sees_no_difference_between_them():
    frame = table([0.1, 0.1, 0.9, 0.9], [1, 1, 0, 0], [1] * 4).assign(level=[1, 1, 2, 2])
    assert ranking(frame)["auroc"] == 1
    mixed = table([0.1, 0.1, 0.9, 0.8], [1, 1, 0, 1], [1] * 4).assign(level=[1, 1, 2, 2])
    assert ranking_within_levels(mixed) == 1  # level 1 has no question in need
    blind = mixed.assign(probability=[0.1, 0.1, 0.9, 0.9])
    assert ranking_within_levels(blind) == 0.5
