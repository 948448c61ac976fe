"""Proves that routers are judged as their answers say, and that the oracles are the best of their kind.

Run: python -m pytest tests/test_routers.py
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.evaluation import Report
from thinkless.rewards import reward
from thinkless.modes import Mode
from thinkless.routers import by_question, compare, fit_router, outcomes, routers

GAMMA = 0.5


def report(*questions):
    """Questions as (prompt, level, P(think), free modes, short right or wrong ..., think right or wrong ...)."""
    rows = []
    for number, (prompt, level, probability, free, short, think) in enumerate(questions):
        right = {"short": short, "think": think}
        settings = [("free", mode, right[mode][0]) for mode in free]
        settings += [(mode, mode, correct) for mode in right for correct in right[mode]]
        for setting, mode, correct in settings:
            rows.append(
                {
                    "question": number,
                    "prompt": prompt,
                    "level": level,
                    "setting": setting,
                    "mode": mode,
                    "correct": bool(correct),
                    "tokens": 10 if mode == "think" else 2,
                    "reward": reward(Mode.THINK if mode == "think" else Mode.SHORT, bool(correct), GAMMA),
                    "think_probability": probability,
                }
            )
    return Report(pd.DataFrame(rows), GAMMA)


TABLE = by_question(
    report(
        ("1+1=", 1, 0.2, ["short", "think"], [1, 1], [1, 1]),
        ("1+2=", 1, 0.1, ["short", "short"], [1, 0], [1, 1]),
        ("1+2+3=", 2, 0.9, ["think", "think"], [0, 0], [1, 1]),
        ("1+2+4=", 2, 0.6, ["think", "short"], [0, 1], [1, 0]),
    )
)


def test_a_table_by_hand():
    assert list(TABLE["chosen"]) == [0.5, 0.0, 1.0, 0.5]
    assert list(TABLE["accuracy_short"]) == [1, 0.5, 0, 0.5]
    assert list(TABLE["reward_think"]) == [0.5, 0.5, 0.5, -0.25]
    assert list(TABLE["tokens_think"]) == [10] * 4


def test_outcomes_by_hand():
    found = outcomes(TABLE, np.array([1.0, 0.0, 0.5, 0.0]))
    assert list(found["accuracy"]) == [1, 0.5, 0.5, 0.5]
    assert list(found["tokens"]) == [10, 2, 6, 2]
    # by level, short is worth 1/2 at level 1 (think 1/2: a tie goes to short), think 1/8 at level 2 (short -1/2)
    assert list(found["regret"]) == [0.5, 0, 0.75, -0.25]


def test_routers_by_hand():
    found = routers(TABLE, learned=pd.Series([0.1, 0.6, 0.7, 0.2]), temperature=1.0)
    assert list(found["random, same rate"]) == [0.5] * 4
    assert list(found["learned, outside"]) == [0, 1, 1, 0]
    assert found["model, expected"] == pytest.approx(TABLE["probability"].to_numpy())
    assert list(found["oracle by level"]) == [0, 0, 1, 1]
    assert list(found["oracle by question"]) == [0, 1, 1, 0]


def test_temperature_sharpens():
    sharp = routers(TABLE, temperature=0.5)["model, expected"]
    assert sharp[0] == pytest.approx(0.2**2 / (0.2**2 + 0.8**2))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_no_router_beats_the_oracle_by_question(thinks):
    oracle = outcomes(TABLE, routers(TABLE)["oracle by question"])["reward"]
    assert (oracle >= outcomes(TABLE, np.array(thinks))["reward"] - 1e-12).all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_no_router_that_sees_levels_only_has_negative_regret(by_level):
    thinks = TABLE["level"].map({1: by_level[0], 2: by_level[1]}).to_numpy()
    assert outcomes(TABLE, thinks)["regret"].mean() >= -1e-12


def test_intervals_hold_the_mean_and_shrink_with_more_questions():
    few = compare(TABLE, routers(TABLE))
    assert (few.xs("low", axis=1, level=1) <= few.xs("mean", axis=1, level=1) + 1e-12).all(axis=None)
    assert (few.xs("high", axis=1, level=1) >= few.xs("mean", axis=1, level=1) - 1e-12).all(axis=None)
    many = pd.concat([TABLE] * 25, ignore_index=True)
    width = [t["accuracy", "high"] - t["accuracy", "low"] for t in (few, compare(many, routers(many)))]
    assert width[1]["always short"] < width[0]["always short"] / 3


def test_a_router_outside_learns_what_questions_show_and_nothing_else():
    short = ["1+2=", "3+4=", "5+1=", "2*2="] * 5
    long = ["1+2*3-4=", "5+1-2*2=", "3*3+1+1="] * 5
    table = pd.DataFrame({"prompt": [*short, *long]})
    table["accuracy_think"] = 1.0
    table["accuracy_short"] = [1.0] * len(short) + [0.2] * len(long)
    thinks = fit_router(table, GAMMA)(pd.Series(["7+7=", "6-5+4*3="], index=[4, 9]))
    assert thinks[4] < 0.5 < thinks[9]
    with pytest.raises(ValueError, match="thinking pays on 0% of 20 questions"):
        fit_router(table[:20], GAMMA)
