"""Proves that pairs and training rows are what two real generators said, no more and no less.

Run: python -m pytest tests/test_distill.py

The teachers are tiny models trained here to repeat fixed answers: right or wrong, ended or not, their
answers are then known by hand.
"""

import pytest
from conftest import learn
from datasets import Dataset

from thinkless.distill import Teacher, distill, keep_finished, sft_rows
from thinkless.modes import Mode

PROBLEMS = Dataset.from_list(
    [
        {"prompt": "3+5=", "answer": "8", "level": 1},
        {"prompt": "3+6=", "answer": "9", "level": 1},
        {"prompt": "4+4=", "answer": "8", "level": 1},
    ]
)
SETTINGS = {"max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "seed": 0}


@pytest.fixture(scope="module")
def teachers(tokenizer):
    """The long teacher is asked with "?" and right twice, once without an end in time; the short one
    is asked with "!", writes its own control token once, and is right once."""
    long = learn(
        tokenizer, [("3+5=?", "3+5=8;</think>8<eos>"), ("3+6=?", "3+6=9;3+6=9;"), ("4+4=?", "</think>8<eos>")]
    )
    short = learn(tokenizer, [("3+5=!", "8<eos>"), ("3+6=!", "<short>3+6=8<eos>"), ("4+4=!", "7<eos>")])
    return (
        Teacher(long, Mode.THINK, ask=lambda prompt: prompt + "?"),
        Teacher(short, Mode.SHORT, ask=lambda prompt: prompt + "!"),
    )


@pytest.fixture(scope="module")
def pairs(teachers):
    return distill(PROBLEMS, teachers, **SETTINGS)


def test_one_row_per_problem_with_its_columns(pairs):
    assert len(pairs) == 3
    assert [pairs[name] for name in PROBLEMS.column_names] == [
        PROBLEMS[name] for name in PROBLEMS.column_names
    ]
    answers = {
        f"{mode.label}_{what}" for mode in Mode for what in ("response", "correct", "tokens", "finished")
    }
    assert set(pairs.column_names) == {*PROBLEMS.column_names, *answers}


def test_answers_by_hand(pairs):
    assert pairs["think_response"][0] == "3+5=8;</think>8"
    assert pairs["think_response"][1] == "3+6=9;3+6"  # nine tokens and no end
    assert pairs["think_response"][2] == "</think>8"
    assert list(pairs["short_response"]) == ["8", "3+6=8", "7"]  # the control token is not part of it


def test_correctness_is_recorded_not_required(pairs):
    assert list(pairs["short_correct"]) == [True, False, False]
    assert list(pairs["think_correct"])[::2] == [True, True]


def test_tokens_count_everything_generated(pairs):
    assert list(pairs["think_tokens"]) == [9, 9, 3]  # 6 + </think> + 8 + end; cut off; </think> + 8 + end
    assert list(pairs["short_tokens"]) == [2, 7, 2]
    assert list(pairs["think_finished"]) == [True, False, True]
    assert list(pairs["short_finished"]) == [True, True, True]


def test_pairs_are_kept_only_if_both_ended(pairs):
    assert list(keep_finished(pairs)["prompt"]) == ["3+5=", "4+4="]
    only_short_unfinished = pairs.remove_columns("short_finished").add_column(
        "short_finished", [False, True, True]
    )
    assert list(keep_finished(only_short_unfinished)["prompt"]) == ["4+4="]


def test_rows_open_with_the_control_token_and_modes_of_a_question_are_adjacent(pairs):
    assert list(sft_rows(keep_finished(pairs))) == [
        {"prompt": "3+5=", "completion": "<think>3+5=8;</think>8"},
        {"prompt": "3+5=", "completion": "<short>8"},
        {"prompt": "4+4=", "completion": "<think></think>8"},
        {"prompt": "4+4=", "completion": "<short>7"},
    ]


def test_the_seed_decides_the_answers(teachers):
    hot = {**SETTINGS, "temperature": 4.0}
    first, again, other = (distill(PROBLEMS, teachers, **{**hot, "seed": seed}) for seed in (1, 1, 2))
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_a_teacher_is_asked_the_prompt_itself_by_default(teachers):
    assert Teacher(teachers[0].generator, Mode.THINK).ask("3+5=") == "3+5="
