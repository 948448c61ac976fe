"""Proves that routers are judged as their answers say, and that the oracles are the best of their kind.

Run: python -m pytest tests/evaluation/test_routers.py
"""

import numpy as np
import pandas as pd
import pytest
from conftest import both_ways, learn
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from thinkless.evaluation import Report, evaluate
from thinkless.evaluation.routers import (
    area,
    choose,
    compare,
    dial,
    frontier,
    gain,
    lead,
    oracle_order,
    outcomes,
    outside_router,
    tilted,
)
from thinkless.modes import Mode
from thinkless.rewards import reward

GAMMA = 0.5


def report(*questions):
    """Questions as (question, level, P(think), free modes, short answers right or wrong, worked ones)."""
    rows = []
    for number, (question, level, probability, free, short, think) in enumerate(questions):
        right = {"short": short, "think": think}
        settings = [("free", mode, right[mode][0]) for mode in free]
        settings += [(mode, mode, correct) for mode in right for correct in right[mode]]
        for setting, mode, correct in settings:
            rows.append(
                {
                    "number": number,
                    "question": question,
                    "level": level,
                    "setting": setting,
                    "mode": mode,
                    "correct": bool(correct),
                    "tokens": 10 if mode == "think" else 2,
                    "reward": reward(Mode.THINK if mode == "think" else Mode.SHORT, bool(correct), GAMMA),
                    "think_probability": probability,
                    "fault": "thinks_in_short" if mode == "short" and question == "1+2+4=" else None,
                }
            )
    return Report(pd.DataFrame(rows), GAMMA)


TABLE = report(
    ("1+1=", 1, 0.2, ["short", "think"], [1, 1], [1, 1]),
    ("1+2=", 1, 0.1, ["short", "short"], [1, 0], [1, 1]),
    ("1+2+3=", 2, 0.9, ["think", "think"], [0, 0], [1, 1]),
    ("1+2+4=", 2, 0.6, ["think", "short"], [0, 1], [1, 0]),
).by_question()


def test_a_table_by_hand():
    assert list(TABLE["chosen"]) == [0.5, 0.0, 1.0, 0.5]
    assert list(TABLE["accuracy_short"]) == [1, 0.5, 0, 0.5]
    assert list(TABLE["reward_think"]) == [0.5, 0.5, 0.5, -0.25]
    assert list(TABLE["tokens_think"]) == [10] * 4
    assert list(TABLE["hacked"]) == [0, 0, 0, 0.5]
    assert list(TABLE["fault_short"]) == [0, 0, 0, 1]
    assert list(TABLE["fault_think"]) == [0] * 4


def test_outcomes_by_hand():
    found = outcomes(TABLE, np.array([1.0, 0.0, 0.5, 0.0]))
    assert list(found["accuracy"]) == [1, 0.5, 0.5, 0.5]
    assert list(found["tokens"]) == [10, 2, 6, 2]
    # by level: short is worth 1/2 at level 1, and so is think; think 1/8 at level 2, and short -1/2
    assert list(found["regret"]) == [0.5, 0, 0.75, -0.25]


def test_routers_by_hand():
    found = choose(TABLE, np.array([0.1, 0.6, 0.7, 0.2]))
    assert list(found["random, same rate"]) == [0.5] * 4
    assert list(found["outside the model"]) == [0, 1, 1, 0]
    assert list(found["oracle by level"]) == [0, 0, 1, 1]
    assert list(found["oracle by question"]) == [0, 1, 1, 0]


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_no_router_beats_the_oracle_by_question(thinks):
    oracle = outcomes(TABLE, choose(TABLE)["oracle by question"])["reward"]
    assert (oracle >= outcomes(TABLE, np.array(thinks))["reward"] - 1e-12).all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_no_router_that_sees_levels_only_has_negative_regret(by_level):
    thinks = TABLE["level"].map({1: by_level[0], 2: by_level[1]}).to_numpy()
    assert outcomes(TABLE, thinks)["regret"].mean() >= -1e-12


def test_intervals_hold_the_mean_and_shrink_with_more_questions():
    few = compare(TABLE, choose(TABLE))
    assert (few.xs("low", axis=1, level=1) <= few.xs("mean", axis=1, level=1) + 1e-12).all(axis=None)
    assert (few.xs("high", axis=1, level=1) >= few.xs("mean", axis=1, level=1) - 1e-12).all(axis=None)
    many = pd.concat([TABLE] * 25, ignore_index=True)
    width = [t["accuracy", "high"] - t["accuracy", "low"] for t in (few, compare(many, choose(many)))]
    assert width[1]["always short"] < width[0]["always short"] / 3


def world(needs_thought=lambda level: level > 1):
    """Sixty questions of two levels, short answers right where no thought is needed."""
    table = pd.DataFrame({"question": [f"{a}+{b}=" for a in range(5) for b in range(6)]})
    long = pd.DataFrame({"question": [f"{a}+{b}*2-1=" for a in range(5) for b in range(6)]})
    table = pd.concat([table.assign(level=1), long.assign(level=2)], ignore_index=True)
    table["accuracy_think"] = 1.0
    table["accuracy_short"] = [0.0 if needs_thought(level) else 1.0 for level in table["level"]]
    table["reward_think"], table["reward_short"] = 0.5, 2 * table["accuracy_short"] - 1
    table["tokens_short"], table["tokens_think"] = 2.0, 10.0
    return table


def test_a_router_outside_learns_what_questions_show_and_nothing_else():
    table = world()
    thinks = outside_router(table)
    assert (thinks[table["level"] == 1] < 0.5).all()
    assert (thinks[table["level"] == 2] > 0.5).all()
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True).assign(question=table["question"])
    guesses = (outside_router(shuffled) > 0.5) == (gain(shuffled) > 0)
    assert guesses.mean() < 0.75
    with pytest.raises(ValueError, match="thinking pays on 0 of 60 questions"):
        outside_router(world(lambda level: False))


def test_a_router_outside_minds_what_a_mistake_costs():
    """One question in three needs a thought, and none shows it: thinking is the safe side."""
    table = world()
    lucky = [number % 3 > 0 for number in range(len(table))]
    table["accuracy_short"] = [1.0 if luck else 0.0 for luck in lucky]
    table["reward_short"] = 2 * table["accuracy_short"] - 1
    assert (outside_router(table) > 0.5).mean() > 0.3  # 1.5 at stake against 0.5: a third is worth a thought


def test_tilting_by_hand():
    half = np.array([0.5])
    assert tilted(half, 1.0, temperature=0.5) == pytest.approx(1 / (1 + np.exp(-2)))
    assert tilted(np.array([0.2]), 0.0, temperature=0.5) == pytest.approx(0.2**2 / (0.2**2 + 0.8**2))
    assert list(tilted(np.array([0.0, 0.04, 0.06, 0.96, 1.0]), 0.0, 1.0, top_p=0.95)) == [
        0,
        0,
        pytest.approx(0.06),
        1,
        1,
    ]


def test_the_dial_is_what_sampling_with_a_bias_does(tokenizer):
    """The expected think rate under a bias against that of a real generator."""
    generator = learn(tokenizer, both_ways())
    problems = Dataset.from_list(
        [{"question": q, "prompt": f"{q}=", "answer": a, "level": 1} for q, a in (("3+5", "8"), ("9-4", "5"))]
    )
    settings = {"max_tokens": 40, "gamma": GAMMA, "temperature": 0.6, "top_p": 0.95, "samples": 400}
    table = evaluate(generator, problems, **settings).by_question()
    for bias in (-0.5, 0.0, 0.4):
        expected = dial(table, [bias], temperature=0.6, top_p=0.95)["think rate"][bias]
        free = evaluate(generator, problems, **settings, mode_bias=bias, settings=["free"]).answers
        assert (free["mode"] == "think").mean() == pytest.approx(expected, abs=0.06)
        assert 0.05 < expected < 0.95


def test_the_dial_goes_from_always_short_to_always_think():
    ends = dial(TABLE, [-100, 100], temperature=1.0)
    assert list(ends["think rate"]) == pytest.approx([0, 1])
    both = compare(TABLE, choose(TABLE))["accuracy", "mean"]
    assert list(ends["accuracy"]) == pytest.approx([both["always short"], both["always think"]])


def test_a_frontier_by_hand():
    table = world()[25:35]  # five short questions, five long ones
    perfect = frontier(table, np.where(table["level"] == 2, 0.9, 0.1))
    assert list(perfect["tokens"]) == [2, 6, 10]
    assert list(perfect["accuracy"]) == [0.5, 1, 1]
    assert area(perfect) == pytest.approx((0.75 + 1) / 2)
    blind = frontier(table, np.full(10, 0.3))
    assert list(blind["accuracy"]) == [0.5, 1]
    assert area(blind) == pytest.approx(0.75)


def test_a_curve_that_turns_back_counts_between_its_ends_only():
    """A worked answer may be shorter than a short one that rambles."""
    curve = pd.DataFrame({"tokens": [4.0, 3.0, 6.0], "accuracy": [0.0, 0.5, 1.0]})
    assert area(curve) == pytest.approx((0 + 1) / 2)  # straight from 4 tokens to 6


def test_the_oracle_thinks_first_where_a_token_buys_most():
    table = pd.DataFrame({"level": [1, 1, 2, 2, 3, 3]})
    table["accuracy_short"], table["accuracy_think"] = [1, 1, 0, 0, 0, 1], [1.0] * 6
    table["tokens_short"], table["tokens_think"] = 2, [4, 4, 12, 12, 4, 4]
    assert list(oracle_order(table)) == [0, 0, 0.1, 0.1, 0.25, 0.25]


def test_the_lead_of_one_router_over_another():
    choices = choose(TABLE)
    mean, low, high = lead(TABLE, choices["always think"], choices["always short"])
    assert mean == pytest.approx((-0.5 + 0.5 + 1.5 - 0.25) / 4)
    assert low <= mean <= high
    assert lead(TABLE, choices["model"], choices["model"]) == (0, 0, 0)
