"""Published sets and stories as a profile's `problems`: what each stage is given, and what a bad file says.

Run: python -m pytest tests/runs/test_questions.py
"""

import json
import re
from collections import Counter

import pytest
from pydantic import ValidationError

from thinkless.errors import StageError
from thinkless.problems.benchmarks import INSTRUCTION
from thinkless.runs.profiles import ProfileError, load_profile
from thinkless.runs.questions import MathProblems, StoryProblems

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


def test_a_set_can_be_pinned_to_another_commit():
    """It reaches the hub's library, the stages' keys and the manifest."""
    other, profile = "0" * 40, load_profile("h100x4")
    pinned = load_profile("h100x4", {"problems.revisions": {"deepscaler": other}})
    for kind in ("distill", "rl", "eval"):
        assert profile.settings_for(kind)["problems"] != pinned.settings_for(kind)["problems"]
    assert pinned.problems.commits() == profile.problems.commits() | {"deepscaler": other}
    with pytest.raises(StageError, match=f"cannot load deepscaler from .* at {other[:8]}"):
        pinned.problems.teaching(1, seed=0)  # the tests are offline
    for revisions in ({"deepscaler": "main"}, {"gsm8k_train": other}):
        with pytest.raises(ProfileError, match="revisions"):
            load_profile("h100x4", {"problems.revisions": revisions})


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


GSM8K = json.dumps({"question": "2+3?", "answer": "#### 5"})


def in_folder(folder):
    return MathProblems(kind="math", train="deepscaler", evaluate=["gsm8k"], folder=str(folder))


@pytest.mark.parametrize(
    "files",
    [
        ["gsm8k/test.jsonl", "gsm8k/train.jsonl"],
        ["gsm8k/part1.jsonl"],
        ["gsm8k.jsonl", "gsm8k.README.md", "gsm8k_train.jsonl"],
        ["gsm8k_test.jsonl", "gsm8k_train.jsonl"],
        ["gsm8k-00000-of-00001.jsonl"],
        ["gsm8k.JSONL"],
    ],
)
def test_a_set_is_read_from_the_folder_or_files_of_its_name(files, tmp_path):
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GSM8K.replace("2+3?", f"file {number}?"))
    assert list(in_folder(tmp_path).held_out(0)["question"]) == ["file 0?"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "expected gsm8k.jsonl or a folder gsm8k, once; found nothing"),
        (["math_500.jsonl"], "once; found math_500.jsonl"),
        (["gsm8k_train.jsonl"], "once; found gsm8k_train.jsonl"),
        (["gsm8k.txt"], "once; found gsm8k.txt"),
        (["gsm8k.jsonl", "gsm8k.csv"], "once; found gsm8k as .csv and gsm8k as .jsonl"),
        (["gsm8k.jsonl", "gsm8k/test.jsonl"], "once; found folder gsm8k and gsm8k as .jsonl"),
        (["gsm8k/train.jsonl"], "that name no other split than test"),
        (["gsm8k/main/test.jsonl"], "expected .jsonl"),
    ],
)
def test_a_named_folder_is_used_or_refused_and_never_the_hub(files, message, tmp_path, monkeypatch):
    monkeypatch.setattr("thinkless.problems.benchmarks.load_dataset", None)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(GSM8K)
    with pytest.raises(StageError, match=re.escape(message)) as caught:
        in_folder(tmp_path).held_out(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["nowhere", "gsm8k.jsonl"])
def test_a_folder_that_is_none_is_refused(folder, tmp_path):
    (tmp_path / "gsm8k.jsonl").write_text(GSM8K)
    with pytest.raises(StageError, match=f"no folder {tmp_path / folder}"):
        in_folder(tmp_path / folder).held_out(0)


def test_no_name_is_no_folder():
    with pytest.raises(ValidationError, match="at least 1 character"):
        in_folder("")


def stories(**shares):
    return StoryProblems(kind="stories", levels=3, held_out_per_level=2, **shares)


def test_stories_are_taught_and_trained_on_in_shares_of_their_own():
    problems = stories(teaching_mix=[2, 0, 2], mix=[0, 1, 3])
    taught, trained = (
        Counter(asked(400, seed=0)["level"]) for asked in (problems.teaching, problems.training)
    )
    assert set(taught) == {1, 3}
    assert abs(taught[1] - 200) < 50  # five standard deviations
    assert set(trained) == {2, 3}
    assert abs(trained[2] - 100) < 45
    assert problems.shares() == {1: 0, 2: 0.25, 3: 0.75}
    assert set(stories(mix=[0, 1, 3]).teaching(100, seed=0)["level"]) == {1, 2, 3}


@pytest.mark.parametrize("shares", [{"mix": [1]}, {"mix": [1] * 3, "teaching_mix": [0] * 3}])
def test_impossible_shares_of_stories_are_refused(shares):
    with pytest.raises(ValidationError, match="expected 3 shares, none negative, not all zero"):
        stories(**shares)
