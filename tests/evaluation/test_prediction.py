"""The closed form applied to kinds of question: margins and mixes against numbers worked out by hand.

Run: python -m pytest tests/evaluation/test_prediction.py
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from thinkless.evaluation.prediction import (
    FIGURES,
    RARE,
    choose_mix,
    least_margin,
    margin,
    measured,
    predicted_pull,
    pull,
    race,
    saved_by_choice,
)
from thinkless.runs.profiles import load_profile

PROFILE = load_profile("laptop")
RL = PROFILE.rl  # gamma 0.5


def kinds(**shares):
    """Easy questions, one with a short and one with a long thought, and hard ones."""
    columns = ("think_rate", "accuracy_think", "accuracy_short", "tokens_think", "tokens_short")
    rows = {
        "easy": (0.5, 1.0, 1.0, 10.0, 5.0),
        "long": (0.5, 1.0, 1.0, 100.0, 5.0),
        "hard": (0.5, 1.0, 0.25, 100.0, 20.0),
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.assign(share=pd.Series(shares))


def test_pulls_by_hand():
    """p(1-p) = 1/4, and thinking is worth -0.5 where short is right and +1 where it is right in a quarter."""
    table = kinds(easy=0.4, long=0.2, hard=0.4)
    assert pull(table, "degrpo", RL).to_dict() == pytest.approx(
        {"easy": -0.4 / 8, "long": -0.2 / 8, "hard": 0.4 / 4}
    )
    weights = {"easy": (0.1 + 0.2) / 2, "long": (0.01 + 0.2) / 2, "hard": (0.01 + 0.05) / 2}
    assert pull(table, "grpo", RL).to_dict() == pytest.approx(
        {"easy": -0.05 * weights["easy"], "long": -0.025 * weights["long"], "hard": 0.1 * weights["hard"]}
    )


def test_a_step_of_the_race_by_hand():
    """Pulls -.05, -.025, .1 at even rates, so .025 for all, and half of its own for each."""
    table = kinds(easy=0.4, long=0.2, hard=0.4)
    rates = race(table, "degrpo", RL, steps=1, rate=2.0, apart=0.5)
    assert rates.loc[0].to_list() == [0.5] * 3
    logits = np.log(rates.loc[1] / (1 - rates.loc[1]))
    assert logits.to_list() == pytest.approx([0.0, 0.025, 0.15])


def test_who_cannot_tell_kinds_apart_runs_away_and_who_can_sorts():
    table = kinds(easy=0.4, long=0.2, hard=0.4)
    run = partial(race, table, settings=RL, rate=5.0)
    ends = {(o, s): run(o, steps=500, apart=s).iloc[-1] for o in ("grpo", "degrpo") for s in (0.0, 3.0)}
    assert ends["grpo", 0.0].max() < 0.05
    assert ends["degrpo", 0.0].min() > 0.95
    for objective in ("grpo", "degrpo"):
        assert (ends[objective, 3.0].round() == [0, 0, 1]).all()


def test_the_margin_is_the_share_of_the_pulls_that_nothing_balances():
    assert margin(pd.Series([-0.3, 0.1])) == pytest.approx(-0.5)
    assert margin(pd.Series([0.2, 0.1])) == 1
    table = kinds(easy=0.4, long=0.2, hard=0.4)
    assert margin(pull(table, "degrpo", RL)) == pytest.approx((0.1 - 0.075) / 0.175)


def test_the_least_margin_is_that_of_the_worst_single_error():
    """For DeGRPO that is a hard question answered shortly five points better: 0.9 in place of 1."""
    table = kinds(easy=0.4, long=0.2, hard=0.4)
    assert least_margin(table, "degrpo", RL) == pytest.approx((0.09 - 0.075) / 0.165)
    # for GRPO, a fifth less of a hard question's short answer: 1/16 in place of 1/20
    easy = 0.05 * 0.15 + 0.025 * 0.105
    assert least_margin(table, "grpo", RL, accuracy=0) == pytest.approx(
        (0.1 * (0.01 + 1 / 16) / 2 - easy) / (0.1 * (0.01 + 1 / 16) / 2 + easy)
    )
    assert least_margin(table, "degrpo", RL, length=0.5, accuracy=0) == margin(pull(table, "degrpo", RL))


def test_what_the_rule_saves():
    """Easy and long are answered shortly: 0.4 x 5 and 0.2 x 95 of 4 + 20 + 40 tokens."""
    assert saved_by_choice(kinds(easy=0.4, long=0.2, hard=0.4), 0.5) == pytest.approx(21 / 64)
    assert saved_by_choice(kinds(easy=0.0, long=0.0, hard=1.0), 0.5) == 0
    free = kinds(easy=0.4, long=0.2, hard=0.4)
    assert saved_by_choice(free.assign(accuracy_short=0.74), 0.5) == 0  # the rule's line is at 3/4


@pytest.mark.parametrize(("saved", "lead"), [(0.2, 0.12), (0.4, 0.12), (0.4, 0.3)])
def test_the_chosen_mix_keeps_its_promises_and_none_on_a_lattice_is_better(saved, lead):
    table = kinds()
    mix = choose_mix(table, RL, saved=saved, lead=lead)
    assert mix.sum() == pytest.approx(1)
    assert mix.min() >= 0.02 - 1e-9

    def figures(shares):
        mixed = table.assign(share=shares)
        down = margin(pull(mixed.assign(think_rate=RARE), "grpo", RL))
        return down, margin(pull(mixed, "degrpo", RL)), saved_by_choice(mixed, RL.gamma)

    best, leads, saves = figures(mix)
    assert leads >= lead - 1e-6
    assert saves >= saved - 1e-6
    lattice = [(a / 50, b / 50, 1 - (a + b) / 50) for a in range(1, 49) for b in range(1, 50 - a)]
    others = [figures(pd.Series(shares, table.index)) for shares in lattice]
    possible = [down for down, ahead, spared in others if ahead >= lead and spared >= saved]
    assert possible
    assert best <= min(possible) + 2e-3  # the search ends at a thousandth


def test_a_mix_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"no mix saves 95% with a margin of 0\.5"):
        choose_mix(kinds(), RL, saved=0.95, lead=0.5)


def test_measured_kinds_have_the_shares_of_the_profile():
    names = ["1 of 1", "1 of 3", "1 of 4", "2 of 2", "2 of 4", "3 of 3", "4 of 4"]
    warm = {f"{figure}_by_kind": dict.fromkeys(names, 0.5) for figure in FIGURES}
    table = measured(warm, PROFILE)
    assert table["share"].to_dict() == pytest.approx(
        dict(zip(names, (0.25, 0.08, 0.28, 0.04, 0.13, 0.04, 0.18), strict=True))
    )


@pytest.mark.parametrize("right", [(1.0, 0.33, 0.19, 0.2), (1.0, 0.27, 0.25, 0.21)])
def test_the_profile_has_the_margins_that_its_world_was_chosen_for(right):
    """Before any RL: the world's own lengths, short answers as right as in two warm-up models."""
    world = PROFILE.problems.world()
    table = pd.DataFrame(
        {
            kind: {
                "share": share,
                "think_rate": 0.5,
                "accuracy_think": 1.0,
                "accuracy_short": right[kind.level - 1],
                "tokens_think": world.think_length(kind.operators),
                "tokens_short": world.short_length(kind.level),
            }
            for kind, share in PROFILE.problems.shares().items()
        }
    ).T
    assert margin(pull(table, "degrpo", RL)) >= 0.11
    assert least_margin(table, "degrpo", RL) >= 0.06
    for rate in (0.5, RARE):  # at the start, and on the way down
        assert margin(pull(table.assign(think_rate=rate), "grpo", RL)) <= -0.12
        assert least_margin(table.assign(think_rate=rate), "grpo", RL) <= -0.12
    assert saved_by_choice(table, RL.gamma) >= 0.40


def test_a_storys_kind_is_its_level():
    """A level that is asked twice as often pulls twice as hard, before the shares are made to sum to 1."""
    by_level = {
        "think_rate": {"1": 0.5, "2": 0.4},
        "accuracy_think": {"1": 1.0, "2": 0.9},
        "accuracy_short": {"1": 0.9, "2": 0.1},
        "tokens_think": {"1": 20.0, "2": 30.0},
        "tokens_short": {"1": 8.0, "2": 8.0},
    }
    warm = {f"{name}_by_level": values for name, values in by_level.items()}
    pulls = []
    for mix in ([1, 1], [2, 1]):
        profile = load_profile("pocket", {"problems": {"levels": 2, "mix": mix, "teaching_mix": []}})
        assert measured(warm, profile)["share"].to_dict() == {"1": mix[0] / sum(mix), "2": 1 / sum(mix)}
        pulls.append(predicted_pull(warm, profile, "degrpo"))
    assert pulls[0]["1"] < 0 < pulls[0]["2"]
    assert (pulls[1] / pulls[0]).tolist() == pytest.approx([4 / 3, 2 / 3])


def test_where_the_choice_alone_is_trained_lengths_weigh_nothing():
    """Its completions are one token each, so vanilla GRPO pulls as DeGRPO does, whose weight is α."""
    kinds = pd.DataFrame(
        {
            "share": [1.0],
            "think_rate": [0.5],
            "accuracy_think": [1.0],
            "accuracy_short": [0.2],
            "tokens_think": [50.0],
            "tokens_short": [5.0],
        }
    )
    whole = load_profile("pocket").rl
    choice = load_profile("pocket", {"rl.choice_only": {"questions": 1, "samples": 1}}).rl
    degrpo, grpo = (pull(kinds, objective, choice).sum() for objective in ("degrpo", "grpo"))
    assert degrpo == pytest.approx(choice.alpha * grpo)
    assert degrpo == pytest.approx(pull(kinds, "degrpo", whole).sum())
    assert grpo > 5 * pull(kinds, "grpo", whole).sum()
