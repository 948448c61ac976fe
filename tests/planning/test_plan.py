"""Proves that every shipped profile has a plan whose parts agree, and that an impossible one is one line.

Run: python -m pytest tests/planning/test_plan.py
"""

import math
from itertools import pairwise

import pytest

from thinkless.__main__ import main
from thinkless.pipeline import stages
from thinkless.planning.hardware import GPUS, PlanError
from thinkless.planning.plan import as_text, make_plan
from thinkless.planning.preflight import _built
from thinkless.runs.profiles import available_profiles, load_profile
from thinkless.trainer import DeGRPOConfig

LEVELS = ["floor", "tuned", "others_low", "others_high"]


def plan_of(name, overrides=None, **options):
    profile = load_profile(name, overrides)
    return make_plan(profile, list(stages(profile).values()), **options)


@pytest.fixture(scope="module")
def plans():
    return {name: plan_of(name) for name in available_profiles()}


# Every shipped profile


@pytest.mark.parametrize("name", available_profiles())
def test_every_profile_has_a_plan(name, plans):
    plan = plans[name]
    names = list(stages(plan.profile))
    assert list(plan.stages.index) == names
    assert list(plan.hours.index) == [*names, "all"]
    assert (plan.stages[["tokens in", "tokens out"]] >= 0).all(axis=None)
    assert plan.stages.loc[[n for n in names if n.startswith("rl-")], "tokens out"].min() > 0
    text = as_text(plan)
    assert all(stage in text for stage in names)
    assert "nan" not in text.lower()


@pytest.mark.parametrize("name", ["gpu", "h100x4", "cluster"])
def test_levels_come_in_order_and_sum_up(name, plans):
    hours = plans[name].hours
    assert hours.loc["all", LEVELS].gt(0).all()
    for low, high in pairwise(LEVELS):
        assert (hours[low] <= hours[high]).all()
    assert hours.loc["all", LEVELS].to_numpy() == pytest.approx(hours.drop("all")[LEVELS].sum().to_numpy())


def test_published_profiles_fit_where_they_say():
    """`gpu` on 24 GB; the paper's run on 80 GB, and on less only if the states are sharded."""

    def too_big(name, gpu, sharding=None):
        overrides = {"launch.sharding": sharding} if sharding else {}
        return [note for note in plan_of(name, overrides, gpu=gpu).notes if "lower micro_batch" in note]

    assert not too_big("gpu", "rtx4090")
    assert not too_big("h100x4", "h100")
    assert not too_big("cluster", "h100")
    assert not too_big("h100x4", "a100-40", "fsdp2")
    assert too_big("h100x4", "a100-40", "none")
    assert not too_big("h100x4", "h100", "none")


def test_the_paper_run(plans):
    plan = plans["h100x4"]
    rl = plan.stages.loc["rl-degrpo-0"]
    assert (rl["processes"], rl["rows or answers"]) == (4, 600 * 1024)
    assert rl["tokens out"] == pytest.approx(
        600 * 1024 * (0.72 * 6209 + 0.28 * 989), rel=0.03
    )  # less the cut
    assert plan.stages.loc["sft", "rows or answers"] == 2_000_000
    assert plan.hours.loc["rl-degrpo-0", "floor"] == pytest.approx(13, abs=0.2)
    questions = 30 + 1187 + 500 + 1319
    assert plan.stages.loc["eval-sft", "rows or answers"] == questions * 3 * 5
    assert plan.stages.loc["distill", "tokens out"] == pytest.approx(
        1e6 * 989, rel=0.01
    )  # short answers only
    assert plan.memory.loc["Adam", "RL: update"] == pytest.approx(14.2 / 4, abs=0.01)
    assert plan.memory.loc["sum", "RL: update"] == plan.memory["RL: update"].drop("sum").sum()


def test_tokens_of_the_laptop_world_are_those_of_its_questions(plans):
    plan, profile = plans["laptop"], load_profile("laptop")
    world, shares = profile.problems.world(), profile.problems.mix
    think, short = (
        sum(share * tokens(level) for level, share in enumerate(shares, start=1))
        for tokens in (world.think_length, world.short_length)
    )
    expected = 50 * 256 * (0.72 * think + 0.28 * short)
    assert plan.stages.loc["rl-degrpo-0", "tokens out"] == pytest.approx(expected)
    assert plan.gpu is None
    assert math.isnan(plan.hours.loc["all", "floor"])
    assert "no GPU" in as_text(plan)


def test_dollars_are_hours_times_gpus_times_the_price():
    plan = plan_of("h100x4", price=2.0)
    gpus = plan.stages["processes"]
    for level in LEVELS:
        assert plan.dollars[level] == pytest.approx(2 * (plan.hours[level].drop("all") * gpus).sum())
    assert sorted(set(gpus)) == [1, 4]


# What cannot run

SHORT_CONTEXT = "Qwen/Qwen2.5-Math-1.5B"


@pytest.mark.parametrize(
    ("name", "overrides", "options", "messages"),
    [
        ("h100x4", {"rl.max_tokens": 131_072}, {}, ["rl.max_tokens=131072", "max_position_embeddings"]),
        ("h100x4", {"evaluation.max_tokens": 131_000}, {}, ["evaluation.max_tokens=131000"]),
        ("h100x4", {"model.path": SHORT_CONTEXT}, {}, ["distill.max_tokens=16384", "4096", SHORT_CONTEXT]),
        ("h100x4", {"rl.vllm_memory": 0.05}, {}, ["rl.vllm_memory=0.05: 4.0 GB", "3.6 GB of weights"]),
        ("h100x4", {"rl.vllm_memory": 0.065}, {}, ["rl.vllm_memory=0.065", "vllm_max_model_length="]),
        ("h100x4", {"model.path": "no/such"}, {}, ["no shape for the model 'no/such'"]),
        ("h100x4", {}, {"gpu": "h1000"}, ["gpu='h1000'", "h100"]),
        ("h100x4", {}, {"price": -1.0}, ["price=-1.0"]),
        ("h100x4", {}, {"price": math.nan}, ["price=nan"]),
        ("gpu", {"rl.vllm_memory": 0.1}, {"gpu": "l4"}, ["rl.vllm_memory=0.1: 2.4 GB of a NVIDIA L4"]),
    ],
)
def test_what_cannot_run_names_the_setting_in_one_line(name, overrides, options, messages):
    with pytest.raises(PlanError) as error:
        plan_of(name, overrides, **options)
    assert all(message in str(error.value) for message in messages), error.value
    assert "\n" not in str(error.value)


def test_what_a_library_refuses_is_passed_on_in_one_line(tmp_path):
    """TRL's own check: a rollout of 4 completions has no groups of 3."""
    with pytest.raises(PlanError, match=r"section rl: generation_batch_size .* num_generations") as error:
        _built(
            *("rl", DeGRPOConfig),
            output_dir=str(tmp_path),
            num_generations=3,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=1,
            use_cpu=True,
            bf16=False,
        )
    assert "\n" not in str(error.value)


def test_what_was_built_is_listed_with_what_was_changed_for_it(plans):
    checks = [f"{name}: {outcome}" for name, outcome in plans["h100x4"].checks]
    assert any("trl.SFTConfig for sft: 128 rows" in line and "one process" in line for line in checks)
    assert any("1024 completions a rollout, groups of 8" in line for line in checks)
    assert any(line.startswith("vllm.EngineArgs: ") for line in checks)


def test_the_group_is_shared_by_processes_that_alone_hold_no_whole_one():
    """Two groups of two over four processes of one completion each: fine for TRL, which counts all."""
    overrides = {"rl.prompts_per_step": 2, "rl.group_size": 2, "rl.updates_per_step": 1}
    checks = dict(plan_of("h100x4", overrides).checks)
    assert checks["DeGRPOConfig for degrpo"].startswith("4 completions a rollout, groups of 2")


# Notes, fit, text


def test_notes_say_what_the_tables_hide(plans):
    text = " ".join(plans["h100x4"].notes)
    assert "distill.short: Qwen/Qwen2.5-Math-1.5B-Instruct was made for 4,096 positions" in text
    assert "distill, eval-sft, eval-rl-degrpo-0: one process" in text
    assert "24,576 tokens take at least 23 s, 3.8 h over 600 steps" in text
    assert plans["laptop"].notes == []
    server = plan_of("h100x4", {"rl.engine": "server", "rl.server": "http://node9:8000"})
    assert any("http://node9:8000 come on top" in note for note in server.notes)


def test_a_run_that_does_not_fit_says_so_and_what_to_change():
    plan = plan_of("h100x4", {"rl.micro_batch": 64, "launch.gradient_checkpointing": False})
    assert any(note.startswith("RL: update needs") and "lower micro_batch" in note for note in plan.notes)


def test_a_bigger_gpu_is_never_slower(plans):
    hours = [plan_of("gpu", gpu=name).hours.loc["all", "floor"] for name in ("l4", "rtx4090", "a100", "h100")]
    assert hours == sorted(hours, reverse=True)
    assert plans["gpu"].gpu == GPUS["rtx4090"]


def test_the_command_prints_the_plan(capsys):
    arguments = ["plan", "--profile", "h100x4", "--overrides", '{"launch.machines": 2}']
    assert main([*arguments, "--gpu", "h200", "--price", "2.5", "--assume", '{"prompt": 200}']) == 0
    text = capsys.readouterr().out
    assert "Plan of h100x4 on 4 x NVIDIA H200 SXM, 2 machine(s)" in text
    assert "dollars if a GPU costs 2.5 an hour" in text
    assert "200" in next(line for line in text.splitlines() if line.startswith("prompt "))


def test_the_disk_by_hand(plans):
    """1.777 B parameters: 4 bytes each as a model, 12 with Adam's moments, 2 as published."""
    disk, billions = plans["h100x4"].disk, 1.777088
    assert disk["checkpoints of one training"] == pytest.approx(3 * 12 * billions)
    assert disk["models of RL"] == pytest.approx(4 * billions)
    assert disk["base model"] == pytest.approx(2 * billions)
    assert disk["distilled pairs"] == pytest.approx(4 * 2e6 * 3417 / 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h1000"], "gpu='h1000'"),
        (["--assume", '{"think": 3}'], "there is no assumption 'think'"),
        (["--overrides", '{"rl.max_tokens": 200000}'], "rl.max_tokens=200000"),
        (["--overrides", '{"rl.max_tokns": 2}'], "did you mean 'rl.max_tokens'?"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, message, capfd):
    assert main(["plan", "--profile", "h100x4", *arguments]) == 1
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
