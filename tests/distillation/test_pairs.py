"""Proves that pairs and training rows are what two real generators said, no more and no less.

Run: python -m pytest tests/distillation/test_pairs.py

The teachers are tiny models trained here to repeat fixed answers: right or wrong, ended or not, their
answers are then known by hand.
"""

import json
import math
import shutil

import pytest
from conftest import learn
from datasets import Dataset, load_from_disk
from test_store import disk_full_after

from thinkless.__main__ import main
from thinkless.distillation.gate import keep_pairs, summary
from thinkless.distillation.pairs import Teacher, distill, load_pairs, sft_rows
from thinkless.distillation.teachers import open_teacher
from thinkless.errors import StageError
from thinkless.generation import Completion
from thinkless.models import save
from thinkless.modes import Mode
from thinkless.pipeline import pipeline
from thinkless.runs.settings import ModelTeacher

PROBLEMS = Dataset.from_list(
    [
        {"question": "3+5=", "answer": "8", "level": 1},
        {"question": "3+6=", "answer": "9", "level": 1},
        {"question": "4+4=", "answer": "8", "level": 1},
    ]
)
SETTINGS = {"max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "seed": 0}


@pytest.fixture(scope="module")
def teachers(tokenizer):
    """The long teacher is asked with "?" and right twice, once without an end in time; the short one
    is asked with "!", writes its own control token once, and is right once."""
    long = learn(
        tokenizer,
        [("3+5=?", "3+5=8;</think>8<eos>"), ("3+6=?", "3+6=9;3+6=9;"), ("4+4=?", "8;</think>8<eos>")],
    )
    short = learn(tokenizer, [("3+5=!", "8<eos>"), ("3+6=!", "<short>3+6=8<eos>"), ("4+4=!", "7<eos>")])
    return (
        Teacher(long, Mode.THINK, ask=lambda words: words + "?"),
        Teacher(short, Mode.SHORT, ask=lambda words: words + "!"),
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
        f"{mode.label}_{what}"
        for mode in Mode
        for what in ("response", "correct", "tokens", "finished", "fault")
    }
    assert set(pairs.column_names) == {*PROBLEMS.column_names, *answers}


def test_answers_by_hand(pairs):
    assert pairs["think_response"][0] == "3+5=8;</think>8"
    assert pairs["think_response"][1] == "3+6=9;3+6"  # nine tokens and no end
    assert pairs["think_response"][2] == "8;</think>8"
    assert list(pairs["short_response"]) == ["8", "3+6=8", "7"]  # the control token is not part of it


def test_correctness_is_recorded_not_required(pairs):
    assert list(pairs["short_correct"]) == [True, False, False]
    assert list(pairs["think_correct"])[::2] == [True, True]


def test_tokens_count_everything_generated(pairs):
    assert list(pairs["think_tokens"]) == [9, 9, 5]  # 6 + </think> + 8 + end; cut off; 2 + </think> + 8 + end
    assert list(pairs["short_tokens"]) == [2, 7, 2]
    assert list(pairs["think_finished"]) == [True, False, True]
    assert list(pairs["short_finished"]) == [True, True, True]


def test_a_thought_that_never_ended_is_wrong_whatever_stands_last_in_it(tokenizer):
    lines = [("3+5=", "3+5=8;3+5=8<eos>"), ("3+6=", "</think>9;9;9;9;9;9")]
    long = Teacher(learn(tokenizer, lines), Mode.THINK)
    cut = distill(PROBLEMS.select([0, 1]), [long], **SETTINGS)
    assert list(cut["think_response"]) == ["3+5=8;3+5=8"[:9], "</think>9;9;9;9;"]
    assert list(cut["think_correct"]) == [False, False]


def test_without_a_gold_answer_nobody_is_right_or_wrong(teachers):
    unknown = Dataset.from_list([{**row, "answer": None} for row in PROBLEMS])
    pairs = distill(unknown, teachers, **SETTINGS)
    assert [*pairs["think_correct"], *pairs["short_correct"]] == [None] * 6
    assert summary(pairs, pairs)["think_correct"] is None
    mixed = Dataset.from_list(
        [{**row, "answer": gold} for row, gold in zip(PROBLEMS, [None, "9", "8"], strict=True)]
    )
    assert list(distill(mixed, teachers, **SETTINGS)["short_correct"]) == [None, False, False]


def test_pairs_are_kept_only_if_both_ended(pairs):
    assert list(keep_pairs(pairs)["question"]) == ["3+5=", "4+4="]
    only_short_cut = pairs.remove_columns("short_fault").add_column("short_fault", ["overlong", None, None])
    assert list(keep_pairs(only_short_cut)["question"]) == ["4+4="]


def test_overlong_answers_may_stay_as_they_were_cut(pairs):
    assert list(keep_pairs(pairs, overlong="clip")) == list(pairs)


def test_a_short_answer_that_thinks_is_marked_and_its_pair_left_out(teachers, tokenizer):
    lines = [("3+5=", "<think>8</think>8<eos>"), ("3+6=", "9<eos>"), ("4+4=", "4</think>8<eos>")]
    pairs = distill(PROBLEMS, [teachers[0], Teacher(learn(tokenizer, lines), Mode.SHORT)], **SETTINGS)
    assert list(pairs["short_fault"]) == ["thinks_in_short", None, "thinks_in_short"]
    assert list(keep_pairs(pairs, overlong="clip")["question"]) == ["3+6="]
    assert summary(pairs, keep_pairs(pairs))["short_thinks_in_short"] == 2


def test_the_summary_by_hand(pairs):
    """Kept are rows 0 and 2: the long teacher is right in both, the short one in the first."""
    assert summary(pairs, keep_pairs(pairs)) == {
        "questions": 3,
        "kept": 2,
        "think_overlong": 1,
        "think_correct": 1.0,
        "short_correct": 0.5,
    }


def test_rows_open_with_the_control_token_and_modes_of_a_question_are_adjacent(pairs):
    assert list(sft_rows(keep_pairs(pairs))) == [
        {"prompt": "3+5=", "completion": "<think>3+5=8;</think>8", "ended": True},
        {"prompt": "3+5=", "completion": "<short>8", "ended": True},
        {"prompt": "4+4=", "completion": "<think>8;</think>8", "ended": True},
        {"prompt": "4+4=", "completion": "<short>7", "ended": True},
    ]


def test_a_row_says_whether_its_answer_ended(pairs):
    rows = sft_rows(keep_pairs(pairs, overlong="clip"))
    assert list(rows["ended"]) == [True, True, False, True, True, True]


def test_rows_that_are_not_paired_are_of_either_mode_in_turn(pairs):
    rows = sft_rows(Dataset.from_list([*pairs] * 3), paired=False)
    assert [c.partition(">")[0] for c in rows["completion"]] == ["<think", "<short"] * 4 + ["<think"]
    assert list(rows["prompt"]) == list(Dataset.from_list([*pairs] * 3)["question"])


@pytest.mark.parametrize("think_share", [0.2, 0.8])
def test_another_balance_leaves_out_rows_of_the_rarer_mode(think_share, pairs):
    many = Dataset.from_list([*pairs] * 400)
    rows = sft_rows(many, think_share, seed=1)
    thinks = sum(completion.startswith("<think>") for completion in rows["completion"])
    assert max(thinks, len(rows) - thinks) == len(many)  # of the other mode every row is there
    assert thinks / len(rows) == pytest.approx(think_share, abs=0.03)
    assert (
        list(sft_rows(many, think_share, seed=1)) == list(rows) != list(sft_rows(many, think_share, seed=2))
    )


def test_the_seed_decides_the_answers(teachers):
    hot = {**SETTINGS, "temperature": 4.0}
    first, again, other = (distill(PROBLEMS, teachers, **{**hot, "seed": seed}) for seed in (1, 1, 2))
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_teachers_and_student_are_asked_with_the_instruction_that_a_set_has(tmp_path):
    """The question stays bare; only the prompts have the instruction behind it."""
    prompts = []

    class Listener:
        def generate(self, asked, **_):
            prompts.extend(asked)
            return [[Completion((5,), "8", None, math.nan, "stop")] for _ in asked]

    problems = PROBLEMS.select([0]).add_column("instruction", ["Be brief."])
    teachers = [Teacher(Listener(), mode, ask=lambda words: f"[{words}]") for mode in Mode]
    pairs = distill(problems, teachers, **SETTINGS, folder=tmp_path)
    assert (
        list(pairs["question"])
        == [json.loads((tmp_path / "short.jsonl").read_text())["question"]]
        == ["3+5="]
    )
    rows = sft_rows(pairs, ask=lambda words: f"[{words}]")
    assert [*prompts, *rows["prompt"]] == ["[3+5=\nBe brief.]"] * 4


def test_pairs_of_an_earlier_version_are_read(pairs, tmp_path):
    pairs.rename_column("question", "prompt").save_to_disk(tmp_path)
    assert list(load_pairs(tmp_path)) == list(pairs)


def test_a_teacher_is_asked_the_prompt_itself_by_default(teachers):
    assert Teacher(teachers[0].generator, Mode.THINK).ask("3+5=") == "3+5="


def test_a_teacher_may_have_a_limit_of_its_own(teachers):
    long, short = teachers
    shorter = Teacher(long.generator, long.mode, long.ask, max_tokens=2)
    pairs = distill(PROBLEMS, [shorter, short], **SETTINGS)
    assert list(pairs["think_tokens"]) == [2, 2, 2]
    assert list(pairs["short_tokens"]) == [2, 7, 2]


def test_rows_are_on_disk_since_a_million_do_not_fit(teachers, tmp_path):
    pairs = distill(PROBLEMS, teachers, **SETTINGS, folder=tmp_path)
    assert [file["filename"] for file in pairs.cache_files] == [str(tmp_path / "short.arrow")]
    assert keep_pairs(pairs).cache_files == pairs.cache_files
    assert not list(tmp_path.glob("cache-*"))  # a filter's indices are numbers, and stay in memory


def test_answers_are_kept_in_the_folder_and_asked_once(teachers, pairs, tmp_path):
    class Gone:
        """A generator that may be made but not asked."""

        def generate(self, *_, **__):
            raise AssertionError("asked again")

    assert list(distill(PROBLEMS, teachers, **SETTINGS, folder=tmp_path)) == list(pairs)
    gone = [Teacher(Gone(), teacher.mode, teacher.ask) for teacher in teachers]
    assert list(distill(PROBLEMS, gone, **SETTINGS, folder=tmp_path)) == list(pairs)
    rows = [json.loads(line) for line in (tmp_path / "short.jsonl").read_text().splitlines()]
    assert [row["response"] for row in rows] == list(pairs["short_response"])
    assert [row["question"] for row in rows] == list(pairs["question"])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Arguments of the stage of a very small profile, whose base model is made."""
    runs = str(tmp_path_factory.mktemp("runs"))
    overrides = {"base.rows": 3200, "distill.questions": 40}
    pipeline("smoke", 0, overrides, runs).run("base")
    return [
        "stage",
        "distill",
        "--profile",
        "smoke",
        "--overrides",
        json.dumps(overrides),
        "--runs-dir",
        runs,
    ]


@pytest.mark.parametrize(
    ("full_at", "stored"), [("think.jsonl", []), ("distill", ["think"]), ("distill", ["think", "short"])]
)
def test_a_full_disk_is_one_line_and_a_resumed_stage_ends_as_a_whole_one(smoke, capfd, full_at, stored):
    folder = pipeline("smoke", 0, json.loads(smoke[5]), smoke[7]).folder("distill")
    assert main(smoke) == 0
    files = [folder / f"{mode.label}.jsonl" for mode in Mode]
    whole = [list(load_from_disk(folder / "pairs")), *(file.read_bytes() for file in files)]
    (folder / "manifest.json").rename(folder / "begun.json")  # as if killed: both hold the stage's key
    shutil.rmtree(folder / "pairs")
    for file in files:
        if file.stem not in stored:
            file.unlink()
    capfd.readouterr()
    with disk_full_after(1500):
        assert main(smoke) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert f"{full_at} (File too large)" in error
    assert main(smoke) == 0
    assert [list(load_from_disk(folder / "pairs")), *(file.read_bytes() for file in files)] == whole


def test_a_teacher_without_a_chat_template_is_one_line(model, tokenizer, tmp_path):
    """A bare language model, of a folder: it was never taught to answer."""
    save(model, tokenizer, tmp_path / "bare")
    settings = ModelTeacher(kind="model", path=str(tmp_path / "bare"), engine="transformers")
    with (
        pytest.raises(StageError, match="has no chat template, expected a model that was trained to answer"),
        open_teacher(settings, Mode.SHORT, tmp_path) as teacher,
    ):
        teacher.generator.generate([teacher.prompt("3+5=")], max_tokens=1)
