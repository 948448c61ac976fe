"""The pipeline: which setting belongs to which stage, and that one command runs a stage with its inputs.

Run: ``python -m pytest tests/test_pipeline.py``
"""

import json
import shutil

import pytest
import torch
from conftest import SMALLEST
from real_layout import make_r1_layout

from thinkless import stages as module
from thinkless.__main__ import main
from thinkless.errors import StageError
from thinkless.files import json_lines
from thinkless.generation.chat import open_chat
from thinkless.generation.chat_template import chat_prompt
from thinkless.models import load, save
from thinkless.modes import Mode, add_control_tokens
from thinkless.pipeline import pipeline, stages
from thinkless.runs.metrics import read_metrics
from thinkless.runs.profiles import ProfileError, load_profile


def settings(name, overrides=None, profile="smoke"):
    profile = load_profile(profile, overrides)
    return stages(profile)[name].settings(profile)


def test_rl_may_ask_what_the_warm_up_model_solves_sometimes(tmp_path):
    select = {"rl.select": {"candidates": 12, "solved": [0.0, 1.0]}, "rl.arms": ["degrpo"], "rl.steps": 2}
    overrides = {**SMALLEST, **select, "rl.repetitions": 1, "rl.prompts_per_step": 8, "rl.group_size": 2}
    runner = pipeline("smoke", overrides=overrides, runs_dir=tmp_path)
    names = list(runner.stages)
    assert names.index("sft") < names.index("select") < names.index("rl-degrpo-0")
    runner.run("rl-degrpo-0")  # 16 questions: all 12, and four of them again
    rows = [
        json.loads(line) for line in (runner.folder("select") / "questions.jsonl").read_text().splitlines()
    ]
    assert len(rows) == runner.manifest("select")["metrics"]["kept"] == 12
    assert {row["solved"] for row in rows} <= {0.0, 0.5, 1.0}
    assert "select" in runner.manifest("rl-degrpo-0")["inputs"]

    few = overrides | {"rl.select": {"candidates": 12, "solved": [0.3, 0.4]}}  # no share of two tries
    with pytest.raises(StageError, match="select: 0 of 12 questions are solved in 30% to 40% of 2 tries"):
        pipeline("smoke", overrides=few, runs_dir=tmp_path).run("select")


def test_the_choice_alone_is_trained_on_answers_that_were_stored(tmp_path):
    """Completions are a control token, and the chat still allows long answers."""
    choice = {"rl.choice_only": {"questions": 8, "samples": 2}, "rl.arms": ["degrpo"], "rl.steps": 2}
    overrides = {**SMALLEST, **choice, "rl.repetitions": 1, "rl.prompts_per_step": 8, "rl.group_size": 2}
    runner = pipeline("smoke", overrides=overrides, runs_dir=tmp_path)
    trained = runner.run("rl-degrpo-0")
    rows = [row.value for row in json_lines(runner.folder("answers") / "questions.jsonl")]
    assert len(rows) == 8
    assert {row[f"right_{mode.label}"] for row in rows for mode in Mode} <= {0.0, 0.5, 1.0}
    of_level = [row["right_think"] for row in rows if row["level"] == 1]
    stored = runner.manifest("answers")["metrics"]
    assert stored["accuracy_think"]["1"] == pytest.approx(sum(of_level) / len(of_level))
    steps = read_metrics(trained)
    assert [row["completions/mean_length"] for row in steps] == [1, 1]
    assert all("rewards/choice_reward/mean" in row for row in steps)
    assert runner.manifest("rl-degrpo-0")["metrics"]["longest_answer"] == runner.profile.longest("rl") > 1

    both = overrides | {"rl.select": {"candidates": 12, "solved": [0.0, 1.0]}}
    with pytest.raises(ProfileError, match="at most one of select and choice_only"):
        pipeline("smoke", overrides=both, runs_dir=tmp_path)


def test_stages_come_in_the_order_of_the_method():
    names = list(stages(load_profile("laptop")))
    assert names[:3] == ["base", "distill", "sft"]
    assert names[3:5] == ["rl-grpo-0", "rl-degrpo-0"]
    assert names.index("eval-sft") > names.index("rl-degrpo-2")
    assert "eval-rl-degrpo-2" in names


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ({"rl.alpha": 0.5}, {"rl-grpo-0", "rl-degrpo-0"}),
        ({"rl.gamma": 0.4}, {"rl-grpo-0", "rl-degrpo-0", "eval-sft", "eval-rl-degrpo-0"}),
        ({"problems.mix": [0.8, 0.1, 0.1]}, {"rl-grpo-0", "rl-degrpo-0"}),
        ({"sft.learning_rate": 0.1}, {"sft"}),
        ({"base.rows": 64}, {"base"}),
        ({"problems.held_out_per_level": 9}, {"eval-sft", "eval-rl-degrpo-0"}),
        ({"rl.repetitions": 3}, set()),
        ({"rl.save_steps": 7}, set()),
        ({"rl.vllm_memory": 0.2}, set()),
        ({"launch.workers": 2}, set()),
        ({"model.rounding_seed": 1}, {"base"}),
    ],
)
def test_a_setting_changes_the_stages_that_depend_on_it_and_no_other(override, changed):
    watched = ["base", "distill", "sft", "rl-grpo-0", "rl-degrpo-0", "eval-sft", "eval-rl-degrpo-0"]
    assert {name for name in watched if settings(name) != settings(name, override)} == changed


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ({"problems.train": "deepscaler"}, {"distill", "rl-degrpo-0", "eval-sft", "eval-rl-degrpo-0"}),
        ({"problems.evaluate": ["aime_2024"]}, {"eval-sft", "eval-rl-degrpo-0"}),
        ({"problems.limit": 5}, {"eval-sft", "eval-rl-degrpo-0"}),
        ({"problems.instruct_rl": False}, {"rl-degrpo-0"}),
        ({"problems.instruct_evaluation": False}, {"distill", "eval-sft", "eval-rl-degrpo-0"}),
        ({"launch.precision": "float32"}, {"sft", "rl-degrpo-0"}),
    ],
)
def test_a_setting_of_published_problems_changes_what_depends_on_it(override, changed):
    watched = ["base", "distill", "sft", "rl-degrpo-0", "eval-sft", "eval-rl-degrpo-0"]
    ours = {name for name in watched if settings(name, {}, "gpu") != settings(name, override, "gpu")}
    assert ours == changed


def published(folder, tokens=()):
    """Overrides of `smoke` that begin with a published model which is warmed up, or which lacks `tokens`."""
    model, tokenizer = load(make_r1_layout(folder / "r1"))
    if not tokens:
        add_control_tokens(tokenizer, model)
    save(model, tokenizer, folder / "warm")
    return {
        "problems": {"kind": "math", "train": "deepscaler", "evaluate": ["math_500"]},
        "model": {"kind": "pretrained", "path": str(folder / "warm")},
        "distill": {"think": {"kind": "data", "path": "nobody/reads"}, "max_tokens": 64},
        "distill.short": {"kind": "server", "base_url": "http://nobody", "model": "asked"},
        "rl.max_tokens": 64,
        "evaluation.max_tokens": 64,
        "base": None,
        "sft": None,
    }


def test_a_model_that_was_published_warmed_up_goes_to_rl_as_it_is(tmp_path):
    runner = pipeline("smoke", 0, published(tmp_path), tmp_path / "runs")
    assert list(runner.stages)[:3] == ["base", "sft", "rl-grpo-0"]
    model, tokenizer = load(runner.run("sft") / "model")
    before, _ = load(tmp_path / "warm")
    assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))
    assert chat_prompt(tokenizer, "What is 3+5?", Mode.SHORT).endswith("<｜Assistant｜><short>")
    assert runner.manifest("sft")["metrics"] == {"longest_answer": 64}


def test_a_model_that_nobody_warmed_up_is_told_by_its_tokens(tmp_path):
    runner = pipeline("smoke", 0, published(tmp_path, tokens=["<short>"]), tmp_path / "runs")
    with pytest.raises(StageError, match="the model has no <short>, expected one that was warmed up"):
        runner.run("sft")


def test_the_length_limit_leaves_room_for_the_longest_right_answer():
    profile = load_profile("laptop")
    assert profile.longest("rl") > profile.problems.world().think_length(profile.problems.levels)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a warmed-up model of the smallest kind and its evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    pipeline("smoke", overrides=SMALLEST, runs_dir=folder).run("eval-sft")
    return folder


@pytest.fixture
def runner(runs, tmp_path):
    """The pipeline on a copy of `runs`."""
    shutil.copytree(runs, tmp_path / "runs")
    return pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path / "runs")


def test_a_chat_asks_for_no_more_than_the_model_was_taught(runner):
    assert open_chat(str(runner.folder("sft") / "model")).sampling.max_tokens == runner.profile.longest(
        "distill"
    )


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"setting": "free", "question": 0, "prompt": "3+5="}'])
def test_damaged_answers_are_named(line, runner):
    path = runner.folder("eval-sft") / "answers.jsonl"
    (path.parent / "manifest.json").rename(path.parent / "begun.json")  # both hold the stage's key
    path.write_text(line)
    with pytest.raises(StageError, match=r"is damaged.*delete it"):
        runner.run("eval-sft")


def test_a_killed_evaluation_keeps_what_it_has_and_ends_with_the_same_answers(runner, monkeypatch):
    path = runner.folder("eval-sft") / "answers.jsonl"
    whole, metrics = path.read_bytes(), runner.manifest("eval-sft")["metrics"]
    shutil.rmtree(path.parent)

    asked, evaluate = [], module.evaluate

    def stopped_at_think(*arguments, settings, **others):
        asked.extend(settings)
        if asked == ["free", "short", "think"]:
            raise KeyboardInterrupt
        return evaluate(*arguments, settings=settings, **others)

    monkeypatch.setattr(module, "evaluate", stopped_at_think)
    with pytest.raises(KeyboardInterrupt):
        runner.run("eval-sft")
    assert {json.loads(line)["setting"] for line in path.read_text().splitlines()} == {"free", "short"}
    assert not runner.is_done("eval-sft")
    runner.run("eval-sft")
    assert asked == ["free", "short", "think", "think"]
    assert path.read_bytes() == whole
    assert runner.manifest("eval-sft")["metrics"] == metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "bace"], "there is no stage 'bace'"),
        (["stage", "base", "--profile", "labtop"], "unknown profile 'labtop'; did you mean 'laptop'?"),
        (["stage", "base", "--overrides", '{"rl.alhpa": 1}'], "did you mean 'rl.alpha'?"),
        (["stage", "base", "--overrides", '{"rl.alpha": "big"}'], "rl.alpha"),
        (["stage", "base", "--runs-dir", "/proc/nowhere"], "choose another runs_dir"),
        (["stage", "base", "--seed", "-1"], "seed=-1: expected a whole number from 0"),
        (["plan", "--assume", "5"], "assumptions are a mapping such as {'think_mean': 9000}, got 5"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, message, capfd):
    assert main(arguments) != 0
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
