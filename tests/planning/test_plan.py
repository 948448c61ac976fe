"""Proves that every profile of a published model has a plan whose parts agree, and refusals in one line.

Run: python -m pytest tests/planning/test_plan.py
"""

import json
import math
from itertools import pairwise

import pytest
from real_layout import make_other_turns_layout, make_r1_layout

from thinkless.__main__ import main
from thinkless.pipeline import stages
from thinkless.planning.hardware import GPUS, PlanError
from thinkless.planning.plan import as_text, check_trainers, make_plan
from thinkless.runs.profiles import load_profile

LEVELS = ["floor", "configured", "others_low", "others_high"]
PUBLISHED = ["gpu", "h100x4", "cluster"]


def plan_of(name, overrides=None, **options):
    profile = load_profile(name, overrides)
    return make_plan(profile, list(stages(profile).values()), **options)


@pytest.fixture(scope="module")
def plans():
    return {name: plan_of(name) for name in PUBLISHED}


# Every shipped profile


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_profile_has_a_plan(name, plans):
    plan = plans[name]
    names = list(plan.stages.index)
    assert [n for n in names if not n.startswith("distill-")] == [
        n for n in stages(plan.profile) if n != "distill"
    ]
    assert list(plan.hours.index) == [*names, "all"]
    assert (plan.stages[["tokens in, M", "tokens out, M"]] >= 0).all(axis=None)
    assert plan.stages.loc[[n for n in names if n.startswith("rl-")], "tokens out, M"].min() > 0
    text = as_text(plan)
    assert all(stage in text for stage in names)
    assert "nan" not in text.lower()


@pytest.mark.parametrize("name", PUBLISHED)
def test_levels_come_in_order_and_sum_up(name, plans):
    hours = plans[name].hours
    assert hours.loc["all", LEVELS].gt(0).all()
    for low, high in [*pairwise(LEVELS[:2]), *pairwise(LEVELS[2:]), ("floor", "others_low")]:
        assert (hours[low] <= hours[high]).all()
    assert hours.loc["all", LEVELS].to_numpy() == pytest.approx(hours.drop("all")[LEVELS].sum().to_numpy())


def test_published_profiles_fit_where_they_say():
    """`gpu` on 24 GB; the paper's run on 80 GB, and on less only if the states are sharded."""

    def too_big(name, gpu, sharding=None):
        overrides = {"launch.sharding": sharding} if sharding else {}
        return [note for note in plan_of(name, overrides, gpu=gpu).notes() if "lower micro_batch" in note]

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
    tokens = 600 * 1024 * (0.72 * 6209 + 0.28 * 989)  # less the cut
    assert rl["tokens out, M"] == pytest.approx(tokens / 1e6, rel=0.03)
    assert plan.stages.loc["sft", "rows or answers"] == 2_000_000
    assert plan.hours.loc["rl-degrpo-0", "floor"] == pytest.approx(13, abs=0.2)
    questions = 30 + 1187 + 500 + 1319
    assert plan.stages.loc["eval-sft", "rows or answers"] == questions * 3 * 5
    short = plan.stages.loc["distill-short"]  # the long answers are data
    assert short["tokens out, M"] == pytest.approx(989, rel=0.01)
    assert short["mean tokens"] == pytest.approx(989, rel=0.01)
    assert plan.memory.loc["Adam", "RL: update"] == pytest.approx(8 * 1.777, abs=0.01)
    assert plan.memory.loc["sum", "RL: update"] == plan.memory["RL: update"].drop("sum").sum()


def test_a_run_that_begins_with_rl_pays_for_nothing_before_it(plans):
    plan, whole = plan_of("h100x4", {"sft": None}), plans["h100x4"]
    assert [work.stage for work in plan.work[:3]] == ["base", "sft", "rl-degrpo-0"]
    assert plan.hours.loc["sft"].sum() == 0
    assert plan.hours.loc["rl-degrpo-0"].equals(whole.hours.loc["rl-degrpo-0"])
    assert list(plan.memory) == [phase for phase in whole.memory if phase != "warm-up"]


def test_distillation_has_a_row_for_each_teacher_that_is_asked(plans):
    """The recorded answers of `h100x4` are read; `gpu` asks two models, of which the long one is cut off."""
    asked = {name: [w.stage for w in plan.work if w.kind == "distill"] for name, plan in plans.items()}
    assert asked["h100x4"] == ["distill-short"]
    assert asked["gpu"] == ["distill-think", "distill-short"]
    cut_off = plans["gpu"].stages["cut off"]
    assert cut_off["distill-think"] > 0.2
    assert cut_off["distill-short"] < 1e-3
    kept = 7000 * (1 - cut_off["distill-think"]) * (1 - cut_off["distill-short"])
    assert plans["gpu"].stages.loc["sft", "rows or answers"] == pytest.approx(2 * kept)


def test_dollars_are_hours_times_gpus_times_the_price():
    plan = plan_of("h100x4", price=2.0)
    gpus = plan.stages["processes"]
    for level in LEVELS:
        assert plan.dollars[level] == pytest.approx(2 * (plan.hours[level].drop("all") * gpus).sum())
    assert sorted(set(gpus)) == [1, 4]


# What cannot run

SHORT_CONTEXT = "Qwen/Qwen2.5-Math-1.5B-Instruct"


@pytest.mark.parametrize(
    ("name", "overrides", "options", "messages"),
    [
        ("h100x4", {"rl.max_tokens": 131_072}, {}, ["rl.max_tokens=131072", "max_position_embeddings"]),
        ("h100x4", {"evaluation.max_tokens": 131_000}, {}, ["evaluation.max_tokens=131000"]),
        ("h100x4", {"model.path": SHORT_CONTEXT}, {}, ["distill.max_tokens=16384", "4096", SHORT_CONTEXT]),
        ("h100x4", {"rl.vllm_memory": 0.05}, {}, ["rl.vllm_memory=0.05: 4.0 GB", "3.6 GB of weights"]),
        ("h100x4", {"rl.vllm_memory": 0.065}, {}, ["rl.vllm_memory=0.065", "vllm_max_model_length="]),
        ("h100x4", {"launch.precision": "float32"}, {}, ["launch.precision=float32", "bfloat16"]),
        ("h100x4", {"problems.evaluate": ["aime"]}, {}, ["unknown problem set 'aime'", "aime_2024"]),
        ("laptop", {}, {}, ["profile 'laptop' takes minutes"]),
        ("pocket", {}, {}, ["profile 'pocket' takes hours on two cores", "run it"]),
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


def test_what_a_library_refuses_is_passed_on_in_one_line():
    """TRL's own check: an answer alone is no group."""
    profile = load_profile("h100x4")
    odd = profile.model_copy(update={"rl": profile.rl.model_copy(update={"group_size": 1})})
    with pytest.raises(PlanError, match=r"TRL refuses the settings: .*at least 2 generations") as error:
        check_trainers(odd)
    assert "\n" not in str(error.value)


def test_what_was_checked_is_listed(plans):
    context, trainers, turns, vllm = plans["h100x4"].checks
    assert turns == "turns of deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B: known"
    assert context == "prompt + answer within the model's context: 131,072 tokens"
    assert trainers == "TRL builds SFTConfig, and DeGRPOConfig for degrpo, as one process"
    assert vllm == "vLLM holds its weights and one sequence: 131,072 tokens in 22.9 GB"


def test_the_group_is_shared_by_processes_that_alone_hold_no_whole_one():
    """Two groups of two over four processes of one completion each: fine for TRL, which counts all."""
    overrides = {"rl.prompts_per_step": 2, "rl.group_size": 2, "rl.updates_per_step": 1}
    assert plan_of("h100x4", overrides).stages.loc["rl-degrpo-0", "rows or answers"] == 600 * 4


def test_a_teacher_that_was_not_trained_to_answer_is_refused(tmp_path):
    base = make_r1_layout(tmp_path / "base", context=131_072)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))
    with pytest.raises(
        PlanError, match=r"teacher .*base: has no chat template, expected a model that was tr"
    ):
        plan_of("h100x4", {"distill.short.path": str(base)})


def test_turns_that_are_not_known_are_refused_before_anything_is_computed(tmp_path, capsys):
    path = str(make_other_turns_layout(tmp_path / "other", context=131_072))
    with pytest.raises(PlanError, match=r"model .*other: .* neither <｜User｜> nor <\|im_start\|>") as error:
        plan_of("h100x4", {"model.path": path})
    assert "\n" not in str(error.value)
    runs = tmp_path / "runs"
    capsys.readouterr()
    command = ["stage", "base", "--profile", "h100x4", "--runs-dir", str(runs), "--overrides"]
    assert main([*command, json.dumps({"model.path": path})]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "no other way to mark turns is known" in told
    assert told.count("\n") == 1
    known = str(make_r1_layout(tmp_path / "r1", context=131_072))
    assert f"turns of {known}: known" in plan_of("h100x4", {"model.path": known}).checks
    for file in (tmp_path / "r1").glob("tokenizer*"):
        file.unlink()
    [told] = [c for c in plan_of("h100x4", {"model.path": known}).checks if c.startswith("turns")]
    assert told.startswith("turns not checked: cannot load the model")


# Notes, fit, text


def test_notes_say_what_the_tables_hide(plans):
    text = " ".join(plans["h100x4"].notes())
    assert "distill-short: Qwen/Qwen2.5-Math-1.5B-Instruct was made for 4,096 positions" in text
    assert "distill-short, eval-sft, eval-rl-degrpo-0: one process" in text
    assert "24,576 tokens take at least 23 s, 3.8 h over 600 steps" in text
    server = plan_of("h100x4", {"rl.engine": "server", "rl.server": "http://node9:8000"})
    assert any("http://node9:8000 come on top" in note for note in server.notes())


def test_a_run_that_does_not_fit_says_so_and_what_to_change():
    plan = plan_of("h100x4", {"rl.micro_batch": 64, "launch.gradient_checkpointing": False})
    assert any(note.startswith("RL: update needs") and "lower micro_batch" in note for note in plan.notes())


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


def test_hours_floor_share_and_three_losses_by_name_are_printed(plans):
    plan = plans["h100x4"]
    text = as_text(plan)
    [told] = [line for line in text.splitlines() if line.startswith("As configured")]
    hours = plan.hours.loc["rl-degrpo-0"]
    share = hours["floor"] / hours["configured"]
    numbers = f"{hours['configured']:.1f} h, hardware floor {hours['floor']:.1f} h: {share:.0%} of the floor"
    assert told.startswith(f"As configured {numbers}. Largest losses: ")
    names = [one.rsplit(" ", 2)[0] for one in told.partition("losses: ")[2].split("; ")]
    assert names == list(plan.losses.index[:3])
    assert plan.losses["hours"].is_monotonic_decreasing
    assert plan.losses["hours"].sum() == pytest.approx(hours["configured"] - hours["floor"])


def test_the_test_before_a_big_bill_is_small(plans):
    """Within the two hours that its page allows, on the smallest card that it names."""
    plan = plan_of("sanity", gpu="rtx4090")
    assert any("--profile sanity" in note for note in plans["h100x4"].notes())
    assert not any("--profile sanity" in note for note in plan.notes())
    assert "select" in plan.stages.index
    assert plan.hours.loc["all", "configured"] < 2
    assert plan.memory.loc["sum"].max() < 24


def test_the_disk_by_hand(plans):
    """1.777 B parameters: 4 bytes each as a model, 12 with Adam's moments, 2 as published."""
    disk, billions = plans["h100x4"].disk, 1.777088
    assert disk["checkpoints of one training"] == pytest.approx(3 * 12 * billions)
    assert disk["models of RL"] == pytest.approx(4 * billions)
    assert disk["base model"] == pytest.approx(2 * billions)
    taught = 2e6 * 3417 / 1e9
    assert disk["answers as they came, and in pairs"] == pytest.approx(2 * 4 * taught, rel=0.01)
    assert disk["tokens of the warm-up"] == pytest.approx((4 + 4) * taught, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h1000"], "gpu='h1000'"),
        (["--assume", '{"think": 3}'], "assumed think=3: "),
        (["--overrides", '{"rl.max_tokens": 200000}'], "rl.max_tokens=200000"),
        (["--overrides", '{"rl.max_tokns": 2}'], "did you mean 'rl.max_tokens'?"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, message, capfd):
    assert main(["plan", "--profile", "h100x4", *arguments]) == 1
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
