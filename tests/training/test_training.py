"""Trainings: metrics and logs that survive a kill, and resuming to the same numbers.

Run: ``python -m pytest tests/training/test_training.py``
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from trainers import QUESTIONS
from transformers import TrainingArguments, set_seed

from thinkless.errors import StageError
from thinkless.objectives import group_advantages
from thinkless.pipeline import pipeline
from thinkless.runs.metrics import GROUPS, METRICS, read_metrics
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import Launch
from thinkless.training import rl_config, sft_config, train_rl, train_supervised
from thinkless.training.callbacks import GroupsFile, MetricsFile
from thinkless.training.checkpoints import last_checkpoint

TINY = {
    "problems": {"held_out_per_level": 4},
    "base": {"rows": 1920, "batch_size": 16},
    "distill": {"questions": 64},
    "sft": {"batch_size": 8, "save_steps": 3},
    "rl": {"arms": ["degrpo"], "repetitions": 1, "steps": 6, "save_steps": 2},
}


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_ends_the_training_in_one_line(tmp_path, name, value):
    state = SimpleNamespace(is_world_process_zero=True, global_step=7)
    callback = MetricsFile(tmp_path)
    callback.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": 1.0})
    with pytest.raises(StageError, match=f"{name} is {value} at update 7, expected a finite number: lower"):
        callback.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": 1.0, name: value})
    assert read_metrics(tmp_path)[-1]["step"] == 7


@pytest.mark.slow
def test_a_training_that_explodes_stops_where_it_does(tmp_path):
    """Transformers would log a mean in place of such a loss, and go on."""
    with pytest.raises(StageError, match=r"base: (loss|grad_norm) is (nan|inf) at update"):
        pipeline("smoke", 0, {**TINY, "base": {**TINY["base"], "learning_rate": 1e30}}, tmp_path).run("base")
    assert not (tmp_path / "smoke/seed0/base/manifest.json").exists()


@pytest.mark.parametrize(("step", "kl", "stops"), [(1, 0.02, True), (1, 1e-3, False), (2, 4.5, False)])
def test_a_reference_that_is_not_the_start_ends_the_training(tmp_path, step, kl, stops):
    state = SimpleNamespace(is_world_process_zero=True, global_step=step)
    with pytest.raises(StageError, match=r"kl is 0\.02 in the first update") if stops else nullcontext():
        MetricsFile(tmp_path).on_log(None, state, None, logs={"loss": 1.0, "kl": kl})


def test_the_logs_of_a_tracker_outlive_the_training(untrained, tmp_path):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 4)
    settings = load_profile("smoke").sft.model_copy(update={"batch_size": 2, "save_steps": 1})
    logs = tmp_path / "checkpoints" / "runs"  # where Transformers puts TensorBoard's
    logs.mkdir(parents=True)
    (logs / "events").touch()
    train_supervised(untrained / "model", rows, settings, tmp_path, launch=Launch(), seed=0)
    assert [path.name for path in (tmp_path / "checkpoints").rglob("*")] == ["runs", "events"]


def test_a_clock_that_is_set_back_costs_no_checkpoint(untrained, tmp_path, monkeypatch):
    """Each checkpoint gets an earlier time than the one before it."""
    found = []

    def set_back(_, args, state, control, **__):
        saved = sorted(tmp_path.glob("checkpoints/checkpoint-*"))
        found.append([path.name for path in saved])
        os.utime(saved[-1], times=(2e9 - 60 * state.global_step,) * 2)

    monkeypatch.setattr(MetricsFile, "on_save", set_back)
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 8)
    settings = load_profile("smoke").sft.model_copy(update={"batch_size": 2, "save_steps": 1})
    train_supervised(untrained / "model", rows, settings, tmp_path, launch=Launch(), seed=0)
    assert [names[-1] for names in found] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    assert len(found[-1]) == 3  # the oldest of them goes next


def test_a_training_says_how_far_it_is(untrained, tmp_path, caplog):
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 4)
    settings = load_profile("smoke").sft.model_copy(update={"batch_size": 2, "save_steps": 1})
    with caplog.at_level("INFO", "thinkless"):
        train_supervised(untrained / "model", rows, settings, tmp_path / "sft", launch=Launch(), seed=0)
    assert caplog.messages == [f"sft: update {done} of 2, 0 min left" for done in (1, 2)]


def test_no_rank_gives_the_others_up_before_a_long_answer_ends(tmp_path):
    settings = load_profile("smoke").sft
    assert sft_config(settings, Launch(), tmp_path, seed=0).ddp_timeout >= 3600


def test_one_process_takes_one_of_several_gpus(tmp_path, monkeypatch):
    """On a machine with four Transformers finds four, and TRL refuses to train on them in one process."""
    set_up = vars(TrainingArguments)["_setup_devices"].func

    def four(arguments):
        device = set_up(arguments)
        arguments._n_gpu = 4
        return device

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(four))
    profile = load_profile("smoke")
    assert sft_config(profile.sft, Launch(), tmp_path, seed=0).n_gpu == 1
    assert rl_config("degrpo", profile.rl, Launch(), tmp_path, max_tokens=16, seed=0).n_gpu == 1


def test_a_gpu_without_bfloat16_is_not_asked_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (7, 5))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Tesla T4")
    with pytest.raises(StageError, match="a Tesla T4 has no such numbers"):
        sft_config(load_profile("smoke").sft, Launch(precision="bfloat16"), tmp_path, seed=0)


def test_an_apple_gpu_is_not_asked_for_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    settings = load_profile("smoke").sft
    with pytest.raises(StageError, match=r"an Apple GPU \(MPS\) is not used here.*float32"):
        sft_config(settings, Launch(precision="bfloat16"), tmp_path, seed=0)
    assert sft_config(settings, Launch(), tmp_path, seed=0).use_cpu


def test_seeds_differ_in_sampling_too_behind_an_engine_that_seeds(untrained, tmp_path, monkeypatch):
    """vLLM in the trainer's process seeds torch and numpy with its rank, which is 0 for every run."""
    monkeypatch.setattr(
        "thinkless.training.train.DeGRPOTrainer", lambda **_: Accelerator(cpu=True) and set_seed(0)
    )
    monkeypatch.setattr("thinkless.training.train._finish", lambda *_: [{"drawn": torch.rand(1).item()}])
    settings = load_profile("smoke", {"rl.engine": "vllm"}).rl

    def drawn(seed):
        limits = {"launch": Launch(), "max_tokens": 16, "seed": seed}
        return train_rl(untrained / "model", QUESTIONS, "degrpo", settings, tmp_path, **limits)["drawn"]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_group_is_kept_as_it_was_rewarded(untrained, tmp_path):
    settings = load_profile("smoke").rl.model_copy(update={"steps": 2})
    limits = {"launch": Launch(), "max_tokens": 8, "seed": 0}
    train_rl(untrained / "model", QUESTIONS, "degrpo", settings, tmp_path, **limits)
    [group] = read_metrics(tmp_path, GROUPS)
    assert group["step"] == 1
    assert group["prompt"] in QUESTIONS["prompt"]
    assert len(group["completions"]) == settings.group_size == len(group["rewards"])
    advantages = group_advantages(torch.tensor(group["rewards"]), settings.group_size)
    assert group["advantages"] == pytest.approx(advantages.tolist())


@pytest.mark.parametrize("name", [METRICS, GROUPS])
def test_metrics_past_the_checkpoint_are_dropped_on_resume(tmp_path, name):
    rows = [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    state = SimpleNamespace(is_world_process_zero=True, global_step=2)
    callback = MetricsFile(tmp_path) if name == METRICS else GroupsFile(tmp_path, None)
    callback.on_train_begin(None, state, None)
    assert [row["step"] for row in read_metrics(tmp_path, name)] == [1, 2]


def checkpoint(folder, step, *, complete=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    torch.save({"state": torch.zeros(8)}, path / "optimizer.pt")
    if complete:
        (path / "trainer_state.json").write_text("{}")
    return path


def test_the_newest_complete_checkpoint_is_found_and_half_written_ones_go(tmp_path):
    checkpoint(tmp_path, 5)
    newest = checkpoint(tmp_path, 10)
    half = checkpoint(tmp_path, 15, complete=False)
    assert last_checkpoint(tmp_path) == newest
    assert not half.exists()
    assert last_checkpoint(tmp_path / "nothing") is None


def test_a_damaged_checkpoint_is_named(tmp_path):
    damaged = checkpoint(tmp_path, 5)
    content = (damaged / "optimizer.pt").read_bytes()
    (damaged / "optimizer.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(StageError, match=r"checkpoint-5 is damaged.*delete it") as error:
        last_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def start(stage, runs, overrides=TINY):
    command = [
        sys.executable,
        "-m",
        "thinkless",
        "stage",
        stage,
        "--profile",
        "smoke",
        "--runs-dir",
        str(runs),
    ]
    command += ["--overrides", json.dumps(overrides)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def weights_and_metrics(runner, stage):
    """The manifest's file digests, and the metrics that do not measure time."""
    manifest = runner.manifest(stage)
    rows = [row for name in (METRICS, GROUPS) for row in read_metrics(runner.folder(stage), name)]
    return manifest["files"], [{k: v for k, v in row.items() if "time" not in k} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A runner whose warm-up and RL ran through without interruption, each in a process of its own."""
    runs = tmp_path_factory.mktemp("runs")
    assert start("rl-degrpo-0", runs).wait() == 0
    return pipeline("smoke", overrides=TINY, runs_dir=runs)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rl-degrpo-0"])
def test_a_killed_training_goes_on_to_the_same_weights_and_metrics(stage, uninterrupted, tmp_path):
    killed = pipeline("smoke", overrides=TINY, runs_dir=tmp_path)
    killed.root.mkdir(parents=True)
    for upstream in ("base", "distill", "sft")[: 2 if stage == "sft" else 3]:
        subprocess.run(["cp", "-r", uninterrupted.folder(upstream), killed.folder(upstream)], check=True)
    process = start(stage, tmp_path)
    while last_checkpoint_is_missing(killed.folder(stage)):
        assert process.poll() is None, f"it ended before it could be killed: {process.stderr.read()}"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.is_done(stage), "a killed stage must not count as done"
    steps_before = len(read_metrics(killed.folder(stage)))
    assert start(stage, tmp_path).wait() == 0
    assert weights_and_metrics(killed, stage) == weights_and_metrics(uninterrupted, stage)
    assert steps_before <= len(read_metrics(killed.folder(stage)))


@pytest.mark.slow
def test_a_kill_after_the_model_was_saved_costs_nothing(uninterrupted, tmp_path):
    killed = pipeline("smoke", overrides=TINY, runs_dir=tmp_path)
    killed.root.mkdir(parents=True)
    for stage in ("base", "distill", "sft"):
        subprocess.run(["cp", "-r", uninterrupted.folder(stage), killed.folder(stage)], check=True)
    folder = killed.folder("sft")
    (folder / "result.json").unlink()
    (folder / "manifest.json").rename(folder / "begun.json")  # both hold the stage's key
    (folder / "checkpoints" / "checkpoint-3").mkdir(parents=True)  # half removed
    (folder / "checkpoints" / "checkpoint-3" / "trainer_state.json").write_text("{}")
    untouched = (folder / METRICS).stat().st_mtime_ns, (folder / "model").stat().st_mtime_ns
    killed.run("sft")
    assert untouched == ((folder / METRICS).stat().st_mtime_ns, (folder / "model").stat().st_mtime_ns)
    assert weights_and_metrics(killed, "sft") == weights_and_metrics(uninterrupted, "sft")
    assert killed.manifest("sft")["metrics"] == uninterrupted.manifest("sft")["metrics"]
    assert not (folder / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_that_lost_a_rank_says_so_and_goes_on_to_the_same_weights(uninterrupted, tmp_path):
    """Two ranks under accelerate; the second gets SIGKILL, and the first must not wait for it for ever."""
    two = {**TINY, "launch": {"processes": 2}, "rl": {**TINY["rl"], "micro_batch": 8}}
    runners = [pipeline("smoke", overrides=two, runs_dir=tmp_path / name) for name in ("whole", "broken")]
    for runner in runners:
        runner.root.mkdir(parents=True)
        for upstream in ("base", "distill", "sft"):
            subprocess.run(["cp", "-r", uninterrupted.folder(upstream), runner.folder(upstream)], check=True)
    whole, broken = runners
    assert start("rl-degrpo-0", tmp_path / "whole", two).wait() == 0

    run = start("rl-degrpo-0", tmp_path / "broken", two)
    while last_checkpoint_is_missing(broken.folder("rl-degrpo-0")):
        assert run.poll() is None, f"it ended before it could be killed: {run.stderr.read()}"
        time.sleep(0.02)
    [second] = [
        process
        for process in psutil.Process(run.pid).children(recursive=True)
        if process.environ().get("RANK") == "1" and "--rank" in process.cmdline()
    ]
    second.kill()
    assert run.wait() == 1
    last = run.stderr.read().strip().splitlines()[-1]
    assert last.startswith("error: stage rl-degrpo-0 ended with exit code")
    assert not broken.is_done("rl-degrpo-0")

    assert start("rl-degrpo-0", tmp_path / "broken", two).wait() == 0
    assert weights_and_metrics(broken, "rl-degrpo-0") == weights_and_metrics(whole, "rl-degrpo-0")


def last_checkpoint_is_missing(folder):
    return not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json"))
