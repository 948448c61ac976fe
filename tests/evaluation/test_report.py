"""Proves the tables of a report against numbers worked out by hand, and the evaluation that fills one.

Run: python -m pytest tests/evaluation/test_report.py
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import learn
from datasets import Dataset

from thinkless.evaluation import Report, evaluate, load_report
from thinkless.evaluation.report import bootstrap_interval, t_interval

# Five questions on two levels at gamma 0.5: (level, short, think, free), each (mode, correct, tokens).
# Question 3 is one where thinking is wrong; its free answer breaks the format.
QUESTIONS = [
    (1, ("short", True, 3), ("think", True, 10), ("short", True, 3)),
    (1, ("short", True, 3), ("think", True, 10), ("think", True, 10)),
    (2, ("short", False, 4), ("think", True, 20), ("think", True, 20)),
    (2, ("short", True, 4), ("think", False, 20), (None, False, 2)),
    (2, ("short", False, 4), ("think", True, 20), ("short", False, 4)),
]


def row(number, level, setting, answer):
    mode, correct, tokens = answer
    reward = -1.0 if not correct else {"short": 1.0, "think": 0.5}[mode]
    return {
        "number": number,
        "question": "3+5=",
        "level": level,
        "setting": setting,
        "mode": mode,
        "correct": correct,
        "tokens": tokens,
        "reward": reward,
        "think_probability": 0.25,
        "fault": None if mode else "no_control_token",
        "text": "8",
    }


@pytest.fixture
def report():
    rows = [
        row(number, question[0], setting, question[place])
        for place, setting in ((3, "free"), (1, "short"), (2, "think"))
        for number, question in enumerate(QUESTIONS)
    ]
    return Report(pd.DataFrame(rows), gamma=0.5)


def test_routers_by_hand(report):
    """Rewards of short: 1 1 -1 1 -1; of think: .5 .5 .5 -1 .5; think - short: -.5 -.5 1.5 -2 1.5.

    By level: -.5 and +1/3, so short at level 1 and think at level 2. By question: think on 2 and 4.
    """
    expected = pd.DataFrame(
        {
            "think rate": {"model": 2 / 5, "always short": 0, "always think": 1},
            "accuracy": {"model": 3 / 5, "always short": 3 / 5, "always think": 4 / 5},
            "tokens": {"model": 39 / 5, "always short": 18 / 5, "always think": 80 / 5},
            "reward": {"model": 0 / 5, "always short": 1 / 5, "always think": 1 / 5},
        }
    )
    expected.loc["oracle by level"] = [
        3 / 5,
        4 / 5,
        66 / 5,
        2 / 5,
    ]  # tokens 3 3 20 20 20, reward 1 1 .5 -1 .5
    expected.loc["oracle by question"] = [2 / 5, 1, 50 / 5, 4 / 5]  # tokens 3 3 20 4 20, reward 1 1 .5 1 .5
    pd.testing.assert_frame_equal(report.routers(), expected)
    assert report.regret == pytest.approx(2 / 5 - 0)


def test_by_level_by_hand(report):
    table = report.by_level()
    assert table["think rate"].to_dict() == {1: 1 / 2, 2: pytest.approx(1 / 3)}
    assert table["correct (short)"].to_dict() == {1: 1, 2: pytest.approx(1 / 3)}
    assert table["correct (think)"].to_dict() == {1: 1, 2: pytest.approx(2 / 3)}
    assert table["tokens (free)"].to_dict() == {1: 6.5, 2: pytest.approx(26 / 3)}
    assert table["reward (free)"].to_dict() == {1: 0.75, 2: pytest.approx(-1.5 / 3)}


def test_by_mode_by_hand(report):
    table = report.by_mode()
    assert table.loc["short"].to_dict() == {"share": 0.4, "answers": 2, "accuracy": 0.5, "tokens": 3.5}
    assert table.loc["think"].to_dict() == {"share": 0.4, "answers": 2, "accuracy": 1.0, "tokens": 15.0}
    assert table[table.index.isna()].iloc[0].to_dict() == {
        "share": 0.2,
        "answers": 1,
        "accuracy": 0,
        "tokens": 2,
    }


def test_summary_by_hand(report):
    summary = report.summary()
    by_level = {name: summary.pop(name) for name in list(summary) if name.endswith("_by_level")}
    assert summary == pytest.approx(
        {
            "questions": 5,
            "think_rate": 0.4,
            "accuracy": 0.6,
            "accuracy_always_think": 0.8,
            "accuracy_always_short": 0.6,
            "tokens": 7.8,
            "tokens_always_think": 16.0,
            "reward": 0.0,
            "regret": 0.4,
            "regret_by_question": 0.8,
            "faults": 0.2,
        }
    )
    modes = [f"{figure}_{mode}_by_level" for figure in ("accuracy", "tokens") for mode in ("short", "think")]
    assert set(by_level) == {"think_rate_by_level", *modes}
    assert by_level["think_rate_by_level"] == pytest.approx({"1": 1 / 2, "2": 1 / 3})
    assert by_level["accuracy_short_by_level"] == pytest.approx({"1": 1, "2": 1 / 3})
    assert by_level["accuracy_think_by_level"] == pytest.approx({"1": 1, "2": 2 / 3})
    assert by_level["tokens_short_by_level"] == {"1": 3, "2": 4}
    assert by_level["tokens_think_by_level"] == {"1": 10, "2": 20}
    json.dumps(report.summary())  # plain numbers only: it goes into a manifest


def test_the_oracle_by_question_averages_over_samples():
    """Two samples of one question: short 1 and -1, think .5 and .5; means 0 and .5, so it thinks."""
    rows = [row(0, 1, "short", ("short", right, 3)) for right in (True, False)]
    rows += [row(0, 1, "think", ("think", True, 9))] * 2 + [row(0, 1, "free", ("short", True, 3))] * 2
    routers = Report(pd.DataFrame(rows), gamma=0.5).routers()
    assert routers.loc["oracle by question"].to_dict() == {
        "think rate": 1,
        "accuracy": 1,
        "tokens": 9,
        "reward": 0.5,
    }


def test_a_report_survives_disk(report, tmp_path):
    (tmp_path / "answers.jsonl").write_text(report.lines())
    again = load_report(tmp_path / "answers.jsonl", gamma=0.5)
    assert again.summary() == report.summary()
    assert list(again.answers.columns) == list(report.answers.columns)
    assert again.answers["question"].tolist() == report.answers["question"].tolist()
    assert again.answers["text"].tolist() == ["8"] * 15  # text stays text
    pd.testing.assert_frame_equal(again.routers(), report.routers())
    pd.testing.assert_frame_equal(again.by_level(), report.by_level())


def test_a_report_of_an_earlier_version_is_read(report, tmp_path):
    """It had `question` for the number and `prompt` for the question."""
    earlier = report.answers.rename(columns={"question": "prompt", "number": "question"})
    (tmp_path / "answers.jsonl").write_text(Report(earlier, 0.5).lines())
    again = load_report(tmp_path / "answers.jsonl", gamma=0.5)
    pd.testing.assert_frame_equal(again.answers, report.answers, check_dtype=False)
    assert again.summary() == report.summary()


def test_rewards_come_back_to_the_last_digit(report, tmp_path):
    """1 - 0.7 is 0.30000000000000004, and the file has ten digits."""
    answers = report.answers.assign(reward=report.answers["reward"].replace(0.5, 1 - 0.7))
    (tmp_path / "answers.jsonl").write_text(Report(answers, 0.7).lines())
    again = load_report(tmp_path / "answers.jsonl", gamma=0.7)
    assert 1 - 0.7 in answers["reward"].tolist()
    assert again.answers["reward"].tolist() == answers["reward"].tolist()


# The evaluation itself, on a real model that has learned these answers; the repeated one is the free one.

PROBLEMS = Dataset.from_list(
    [
        {"question": "3+5", "prompt": "3+5=", "answer": "8", "level": 1},
        {"question": "3+6", "prompt": "3+6=", "answer": "9", "level": 1},
        {"question": "9-4", "prompt": "9-4=", "answer": "5", "level": 2},
    ]
)
LINES = [
    *[("3+5=", "<short>8<eos>")] * 3,
    ("3+5=", "<think>3+5=8;</think>8<eos>"),
    *[("3+6=", "<think>3+6=9;</think>9<eos>")] * 3,
    ("3+6=", "<short>8<eos>"),
    *[("9-4=", "<short></think>5<eos>")] * 3,  # thinks in short
    ("9-4=", "<think>9-4=5;9-4=5;9"),  # never ends
]
SETTINGS = {"max_tokens": 12, "gamma": 0.25, "temperature": 0.0, "top_p": 1.0}


@pytest.fixture(scope="module")
def generator(tokenizer):
    return learn(tokenizer, LINES)


def test_evaluation_by_hand(generator):
    report = evaluate(generator, PROBLEMS, **SETTINGS)
    columns = ["setting", "number", "level", "mode", "correct", "tokens", "reward", "fault"]
    answers = report.answers[columns].astype(object)
    assert answers.where(answers.notna(), None).values.tolist() == [
        ["free", 0, 1, "short", True, 3, 1.0, None],
        ["free", 1, 1, "think", True, 10, 0.75, None],
        ["free", 2, 2, "short", False, 4, -1.0, "thinks_in_short"],
        ["short", 0, 1, "short", True, 3, 1.0, None],
        ["short", 1, 1, "short", False, 3, -1.0, None],
        ["short", 2, 2, "short", False, 4, -1.0, "thinks_in_short"],
        ["think", 0, 1, "think", True, 10, 0.75, None],
        ["think", 1, 1, "think", True, 10, 0.75, None],
        ["think", 2, 2, "think", False, 12, -1.0, "never_ends"],
    ]
    assert report.answers["question"].tolist() == list(PROBLEMS["question"]) * 3
    assert report.answers["text"][1] == "<think>3+6=9;</think>9"
    # three short lines against one think line, and the reverse
    assert report.setting("free")["think_probability"].tolist() == pytest.approx(
        [1 / 4, 3 / 4, 1 / 4], abs=0.02
    )


def test_a_bias_moves_the_free_answers_only(generator):
    report = evaluate(generator, PROBLEMS, **SETTINGS, mode_bias=20.0)
    plain = evaluate(generator, PROBLEMS, **SETTINGS)
    assert report.setting("free")["mode"].tolist() == ["think"] * 3
    assert report.answers["think_probability"].tolist() == plain.answers["think_probability"].tolist()
    for setting in ("short", "think"):
        pd.testing.assert_frame_equal(report.setting(setting), plain.setting(setting))


def test_a_data_set_without_questions_is_refused_before_any_is_asked():
    with pytest.raises(ValueError, match=r"no column question; found prompt, answer, level"):
        evaluate(None, PROBLEMS.remove_columns("question"), **SETTINGS)


def test_settings_samples_and_seed(generator):
    settings = {**SETTINGS, "temperature": 2.0, "samples": 4, "settings": ["free"]}
    first, again, other = (evaluate(generator, PROBLEMS, **settings, seed=seed).answers for seed in (1, 1, 2))
    assert first["setting"].tolist() == ["free"] * 12
    assert first["number"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    pd.testing.assert_frame_equal(first, again)
    assert first["text"].tolist() != other["text"].tolist()


# Intervals


def test_t_interval_by_hand():
    # mean 2, deviation 1, t(.975, 2 degrees) = 4.302653: half-width 4.302653 / sqrt(3)
    mean, half = t_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, half) == (2.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6))


def test_one_value_has_no_interval():
    mean, half = t_interval(np.array([5.0]))
    assert mean == 5.0
    assert math.isnan(half)


def test_bootstrap_interval_of_a_mean_is_the_normal_one():
    """Mean of 400 coin flips, half of them 1: 0.5 +- 1.96 * 0.5 / 20."""
    low, high = bootstrap_interval(np.array([0.0, 1.0] * 200))
    assert (low, high) == (pytest.approx(0.451, abs=0.005), pytest.approx(0.549, abs=0.005))
    narrow = bootstrap_interval(np.array([0.0, 1.0] * 200), level=0.5)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.6745 * 0.025, abs=0.005)


def test_bootstrap_resamples_rows_together():
    """A statistic of two columns: their correlation is exactly 1 in every resample."""
    values = np.arange(10.0)
    low, high = bootstrap_interval(
        np.stack([values, 3 * values], axis=1), lambda v: np.corrcoef(v.T)[0, 1], draws=50
    )
    assert (low, high) == (pytest.approx(1), pytest.approx(1))


def test_bootstrap_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
