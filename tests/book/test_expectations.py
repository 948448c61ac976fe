"""Proves what a run is compared with: bounds by hand and by simulation, figures by hand, boxes, and refusals.

Run: python -m pytest tests/book/test_expectations.py
"""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from thinkless.book import expectations, notebook
from thinkless.book.checks import MISSED
from thinkless.book.expectations import (
    ARITHMETIC,
    EXPECTATIONS,
    STATISTICS,
    Expectation,
    bound,
    compare,
    known_bounds,
    left_out,
    means_of_draws,
    miss_chance,
    read_expectations,
    spread,
)
from thinkless.book.statistics import (
    base_statistics,
    choice_statistics,
    pair_statistics,
    training_statistics,
    warm_up_statistics,
)
from thinkless.errors import StageError
from thinkless.evaluation import Report
from thinkless.runs.profiles import available_profiles, load_profile

COUNTS = {"level": 100, "all": 500, "pairs": 1000}


def pipelines(**values):
    """Records of as many pipelines as each statistic has values."""
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    common = {"profile": "made up", "counts": COUNTS, "pipeline_seed": 0}
    return [{**common, "variant": f"v{k}", "values": row} for k, row in enumerate(rows)]


def write(folder, rows):
    (folder / EXPECTATIONS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_spread_by_hand():
    """Deviation of .90 .92 .94 is .02; one answer of a hundred adds .01: hypot(.02, .01) = .022361."""
    values = np.array([0.90, 0.92, 0.94])
    assert spread("think_accuracy", values, COUNTS) == pytest.approx(0.0223607)
    assert spread("mode_spread", values, COUNTS) == pytest.approx(0.02)  # no share of anything
    assert spread("short_level_1", np.ones(3), COUNTS) == pytest.approx(0.01)


def test_a_bound_by_hand():
    """Five values, mean .9, deviation .01, no share: with chance 1/(200 x 17) Student's t with four degrees
    of freedom is 8.9177 (from its distribution function, below), so .1 + 8.9177 x .01 x sqrt(1.2)."""

    def tail(x):  # of t with four degrees of freedom, in closed form
        u = x / math.sqrt(4 + x * x)
        return 0.5 - 0.75 * (u - u**3 / 3)

    low, high = 1.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > 1 / 200 / len(STATISTICS) else (low, middle)
    values = 0.1 + 0.01 * np.array([-1.5, -0.5, 0.0, 0.5, 1.5]) / math.sqrt(1.25)
    margin = low * 0.01 * math.sqrt(1.2)
    assert bound("mode_spread", values, COUNTS) == math.ceil((0.1 + margin) * 1000) / 1000
    assert bound("degrpo_lead", values, COUNTS) == math.floor((0.1 - margin) * 1000) / 1000


def test_a_bound_covers_single_runs_that_went_another_way():
    """Four pipelines of three runs, one run of the twelve at .9 and the rest at 0. Draws of three with all
    at .9 come once in 1,728, which is more often than one in 3,400, so the bound has to hold them; among 24
    runs once in 13,824, and .6 is enough."""
    values, calm = np.array([0.0, 0.0, 0.0, 0.3]), [[0.0] * 3] * 3
    assert bound("mode_spread", values / 100, COUNTS, [*calm, [0.9, 0.0, 0.0]]) == 0.9
    assert bound("mode_spread", values / 100, COUNTS, [*calm, *calm, [0.0] * 3, [0.9, 0.0, 0.0]]) == 0.6
    assert bound("degrpo_lead", -values / 100, COUNTS, [*calm, [-0.9, 0.0, 0.0]]) == -0.9
    assert bound("mode_spread", values, COUNTS, calm) == bound("mode_spread", values, COUNTS)


def test_means_of_draws_are_all_there_are():
    assert sorted(means_of_draws(np.array([0.0, 1.0]), 2)) == [0, 0.5, 0.5, 1]
    assert means_of_draws(np.array([1.0, 2.0, 6.0]), 1).tolist() == [1, 2, 6]
    assert len(means_of_draws(np.arange(5.0), 3)) == 125


def test_new_values_miss_as_often_as_said(monkeypatch):
    """At a chance of one in twenty, 4,000 sixth values beside five of the same bell, on either side."""
    monkeypatch.setattr(expectations, "MISSED_ONCE_IN", 20 / len(STATISTICS))
    rng = np.random.default_rng(0)
    for name, side in (("mode_spread", 1), ("degrpo_lead", -1)):
        draws = 0.5 + 0.1 * rng.standard_normal((4000, 6))
        limits = np.array([bound(name, row[:5], COUNTS) for row in draws])
        missed = (side * (draws[:, 5] - limits) > 0).mean()
        assert missed == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


def test_a_bound_widens_with_the_spread_and_narrows_with_the_runs():
    few, many = np.array([0.8, 0.9, 1.0]), np.tile([0.8, 0.9, 1.0], 4)
    calm = np.array([0.89, 0.9, 0.91])
    assert bound("degrpo_lead", few, COUNTS) < bound("degrpo_lead", many, COUNTS)
    assert bound("degrpo_lead", few, COUNTS) < bound("degrpo_lead", calm, COUNTS) < 0.9


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("regret", 0.1, True),
        ("regret", 0.1001, False),
        ("router_lift", 0.1, True),
        ("router_lift", 0.0999, False),
        ("regret", math.nan, False),
        ("router_lift", math.nan, False),
    ],
)
def test_a_value_is_met_or_missed(name, value, met):
    assert Expectation(name, value, 0.1, "").met is met


def test_what_is_not_known_is_never_missed(tmp_path):
    [unknown] = compare("nobody's", {"regret": 1.9}, tmp_path)
    assert unknown.met
    assert unknown.range == "not known"


def test_one_pipeline_has_no_spread(tmp_path):
    write(tmp_path, pipelines(regret=[0.1]))
    assert known_bounds("made up", tmp_path) == {}
    write(tmp_path, pipelines(regret=[0.1] * 10))
    assert known_bounds("made up", tmp_path).keys() == {"regret"}
    assert known_bounds("another", tmp_path) == {}


@pytest.mark.parametrize("text", ["{", '{"profile": "laptop"}\n', "3\n"])
def test_damaged_records_are_one_line(tmp_path, text):
    (tmp_path / EXPECTATIONS).write_text(text)
    with pytest.raises(StageError, match=r"expectations.jsonl, line 1 cannot be read: .*: take the"):
        compare("laptop", {}, tmp_path)


def test_written_bounds_are_of_profiles_and_can_be_missed():
    written = yaml.safe_load((ARITHMETIC.parents[1] / "thinkless" / "book" / "expectations.yaml").read_text())
    assert set(written) <= set(available_profiles()) - {"laptop"}
    for profile, rows in written.items():
        assert all(STATISTICS[name].can_miss(row["bound"]) for name, row in rows.items()), profile
        assert all(row["source"] for row in rows.values())


def test_a_bound_that_cannot_be_missed_is_no_bound(tmp_path):
    for name, value, said in [
        ("regret", 1.9, True),
        ("regret", 2.0, False),
        ("think_accuracy", 0.01, True),
        ("think_accuracy", 0.0, False),
        ("short_drop", -0.9, True),
        ("short_drop", -1.0, False),
    ]:
        assert STATISTICS[name].can_miss(value) is said, (name, value)
    write(tmp_path, pipelines(regret=[0.1] * 10, think_accuracy=[0.1, 0.9] * 5))
    assert known_bounds("made up", tmp_path).keys() == {"regret"}


def test_the_records_hold_every_statistic_and_bounds_that_can_be_missed():
    rows = read_expectations()
    assert len(rows) >= 3
    assert all(row["profile"] == "laptop" and set(row["values"]) == set(STATISTICS) for row in rows)
    bounds = known_bounds("laptop")
    assert set(bounds) <= set(STATISTICS)
    assert all(STATISTICS[name].can_miss(bound) for name, (bound, _) in bounds.items())
    assert miss_chance(rows)[0] <= 1 / 200


def test_single_runs_are_recorded_and_mean_what_their_pipeline_has():
    """The mean of three runs is the pipeline's figure, but where it takes the least of several means."""
    for row in read_expectations():
        assert len(row["runs"]) == load_profile(row["profile"]).rl.repetitions
        assert all(set(run) == set(row["runs"][0]) < set(STATISTICS) for run in row["runs"])
        for name in {"degrpo_lead", "regret", "accuracy_gap", "think_rate_level_1", "rl_think_rate_level_1"}:
            mean = np.mean([run[name] for run in row["runs"]])
            assert mean == pytest.approx(row["values"][name], abs=2e-5), (row["variant"], name)


def test_a_chance_by_hand():
    """Two figures whose bounds leave one in 3,400 each, but for rounding outwards to three digits.

    None of twenty misses the bounds of the others: at most 1 - .025^(1/20) = .168 may (Clopper, Pearson).
    """
    rows = pipelines(mode_spread=list(np.linspace(1, 2, 20)), degrpo_lead=list(np.linspace(5, 9, 20)))
    chance, low, high = miss_chance(rows)
    assert chance == pytest.approx(2 / 200 / len(STATISTICS), rel=0.02)
    assert chance <= 2 / 200 / len(STATISTICS)
    assert (low, high) == (0, pytest.approx(0.1684, abs=1e-4))


def test_a_pipeline_that_misses_is_counted_once():
    """One of five misses two bounds of the others: between .005 and .716 (Clopper, Pearson)."""
    rows = pipelines(regret=[0.01, 0.012, 0.011, 0.009, 0.9], accuracy_gap=[0.01, 0.012, 0.011, 0.009, 0.9])
    assert miss_chance(rows)[1:] == pytest.approx((0.00505, 0.71642), abs=1e-4)


def test_an_odd_pipeline_is_found_by_the_others():
    rows = pipelines(regret=[0.01, 0.012, 0.011, 0.009, 0.5])
    assert left_out(rows[:4]) == []
    assert [line.split(":")[0] for line in left_out(rows)] == ["v4, seed 0"]


def test_base_and_pair_figures_by_hand():
    accuracy = pd.DataFrame({"short": [1.0, 0.4, 0.3], "think": [0.9, 1.0, 0.8]}, index=[1, 2, 3])
    assert base_statistics(accuracy) == pytest.approx(
        {"base_think_accuracy": 0.8, "base_short_level_1": 1.0, "short_drop": 0.7}
    )
    counts = {"questions": 200, "kept": 190, "think_correct": 0.9, "short_correct": 0.5}
    assert pair_statistics(counts) == pytest.approx({"distill_dropped": 0.05, "think_gain": 0.4})
    assert "think_gain" not in pair_statistics({**counts, "think_correct": None})


def test_training_figures_by_hand():
    """Means over both runs and the last two of three steps. Level 2 is not drawn in one of them."""
    runs = [
        [
            {"reward": 9.0, "think_rate/level1": 9.0, "think_rate/level2": 9.0},
            {"reward": 0.2, "think_rate/level1": 0.0, "think_rate/level2": 0.8, "think_rate/level3": 1.0},
            {"reward": 0.4, "think_rate/level1": 0.2, "think_rate/level3": 0.9},
        ]
    ] * 2
    vanilla = [[{"reward": 0.1}, {"reward": 0.1}]]
    assert training_statistics({"degrpo": runs, "grpo": vanilla}, last=2) == pytest.approx(
        {"rl_think_rate_level_1": 0.1, "rl_think_rate_hard": 0.8, "degrpo_lead": 0.2}
    )
    assert "degrpo_lead" not in training_statistics({"degrpo": runs})


def report(free, short, think, probability=(0.25, 0.75)):
    """Two questions, one a level; each answer is (mode, correct, tokens)."""
    rows = []
    for setting, answers in (("free", free), ("short", short), ("think", think)):
        for level, (mode, correct, tokens) in enumerate(answers, start=1):
            reward = -1.0 if not correct else {"short": 1.0, "think": 0.5}[mode]
            rows.append(
                {
                    "number": level,
                    "level": level,
                    "setting": setting,
                    "mode": mode,
                    "correct": correct,
                    "tokens": tokens,
                    "reward": reward,
                    "think_probability": probability[level - 1],
                    "fault": None,
                }
            )
    return Report(pd.DataFrame(rows), gamma=0.5)


SHORT = [("short", True, 2), ("short", False, 2)]
THINK = [("think", True, 10), ("think", True, 10)]


def test_warm_up_figures_by_hand():
    figures = warm_up_statistics(report([THINK[0], THINK[1]], SHORT, THINK))
    assert figures == pytest.approx(
        {"mode_balance": 0.5, "mode_spread": 0.5, "think_accuracy": 1.0, "short_level_1": 1.0}
    )


def test_figures_of_the_choice_by_hand():
    """One run chooses as the oracle does, the other always thinks. Thinking is better at level 2 alone.

    Rewards: oracle (1 + .5)/2 = .75, always think .5; so regrets 0 and .25. Tokens 6 and 10, both right on
    both questions, as always thinking is; a random router of 8 tokens gets .5 + .5 x 6/8 = .875.
    """
    warm_up = report(THINK, SHORT, THINK)
    sorted_ = report([SHORT[0], THINK[1]], SHORT, THINK)
    figures = choice_statistics(warm_up, [sorted_, warm_up])
    assert figures == pytest.approx(
        {
            "think_rate_level_1": 0.5,
            "think_rate_hard": 1.0,
            "regret": 0.125,
            "accuracy_gap": 0.0,
            "router_lift": 0.125,
        }
    )


def test_a_box_says_what_was_missed_and_leaves_it_for_the_runner(monkeypatch):
    shown = {}
    monkeypatch.setattr(notebook, "display", lambda bundle, **more: shown.update(bundle=bundle, **more))
    runner = SimpleNamespace(profile=SimpleNamespace(name="h100x4"))
    notebook.show_expected(runner, {"mode_balance": 0.04, "accuracy_gap": 0.2, "regret": 0.3})
    assert shown["metadata"] == {
        MISSED: ["accuracy below always thinking, mean of the runs 0.200, expected at most 0.030"]
    }
    page = shown["bundle"]["text/html"]
    assert "1 of 2 expectations missed" in page
    assert page.count("<b>missed</b>") == 1
    assert "not known" in page
    assert "the paper&#x27;s run starts at 476 of 1024" in page
    notebook.show_expected(runner, {"mode_balance": 0.04})
    assert shown["metadata"] == {MISSED: []}
    assert "As expected" in shown["bundle"]["text/html"]
    runner.profile.name = "smoke"
    notebook.show_expected(runner, {"mode_balance": 0.04})
    assert "not yet measured" in shown["bundle"]["text/html"]
