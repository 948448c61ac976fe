"""Published sets as a profile's `problems`: what each stage is given, and what a bad file says.

Run: python -m pytest tests/runs/test_questions.py
"""

import json
from collections import Counter

import pytest

from thinkless.problems.benchmarks import INSTRUCTION
from thinkless.errors import StageError
from thinkless.runs.questions import MathProblems

ROWS = [{"problem": f"Find {n}+{n}.", "answer": str(2 * n)} for n in range(5)]


@pytest.fixture
def problems(tmp_path):
    """Five questions to train on, of seven rows; three to evaluate on."""
    rows = [*ROWS, ROWS[0], {"problem": "", "answer": "1"}]
    (tmp_path / "deepscaler.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "aime_2024.jsonl").write_text("\n".join(map(json.dumps, ROWS[:3])))
    return MathProblems(kind="math", train="deepscaler", evaluate=["aime_2024"], folder=str(tmp_path))


def test_every_stage_gets_its_questions(problems):
    teaching = problems.teaching(4, seed=1)
    assert len(set(teaching["question"])) == 4
    assert set(teaching["instruction"]) == {INSTRUCTION}
    training = problems.training(12, seed=1)
    assert sorted(Counter(training["question"]).values()) == [2, 2, 2, 3, 3]
    assert "instruction" not in training.column_names
    assert list(problems.training(12, seed=2)["question"]) != list(training["question"])
    assert list(problems.held_out(1)["source"]) == ["aime_2024"] * 3


def test_the_rows_of_the_source_are_counted(problems):
    counts = {"read": 7, "empty": 1, "duplicates": 1, "kept": 5}
    assert problems.source_counts() == {"deepscaler": counts}


def test_benchmark_questions_that_are_trained_on_are_counted(problems, tmp_path):
    """Two of three are in the training set, one of them in other spelling."""
    rows = [{"problem": text, "answer": "1"} for text in ("find 0 + 0", "Find 4+4.", "Find 5+5.")]
    (tmp_path / "aime_2024.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert problems.contamination() == {"aime_2024": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"problem": "Find 1"', "deepscaler.jsonl, line 1 cannot be read"),
        ("{}", "line 1: no column problem"),
    ],
)
def test_a_bad_row_is_one_line(problems, tmp_path, line, message):
    (tmp_path / "deepscaler.jsonl").write_text(line)
    with pytest.raises(StageError, match=message) as caught:
        problems.teaching(4, seed=1)
    assert "\n" not in str(caught.value)
