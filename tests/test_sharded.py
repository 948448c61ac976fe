"""Proves that a model sharded over two processes in bfloat16 is trained as a whole one is.

Run: python -m pytest tests/test_sharded.py

Two gloo processes run this very file as a script, under the launcher's own arguments. accelerate ignores FSDP
on CPUs; `fsdp_on_cpu` puts that right.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import both_ways
from datasets import Dataset
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule
from trainers import QUESTIONS
from transformers import TrainerCallback

from thinkless.models import load_tokenizer
from thinkless.runs.launch import accelerate_launch
from thinkless.runs.metrics import read_metrics
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import Launch
from thinkless.trainer import DeGRPOTrainer
from thinkless.training import train as training
from thinkless.training.rows import load_tokens, save_tokens

TESTS = Path(__file__).parent
PROFILE = {
    "launch": {"processes": 2, "precision": "bfloat16", "sharding": "fsdp2"},
    "rl": {
        "steps": 2,
        "updates_per_step": 2,
        "micro_batch": 2,
        "beta": 0.1,
        "learning_rate": 1e-3,
        "save_steps": 1,
        "length_buckets": 1,
    },
}
"""Overrides of `smoke`: of 16 completions a step either rank has two micro-batches of two in each update."""

pytestmark = pytest.mark.slow


class Watched(DeGRPOTrainer):
    """The trainer, noting what its reference model is and which numbers come back."""

    folder: Path
    kill_at: int

    def __init__(self, **arguments):
        super().__init__(**arguments)
        file = load_file(self.folder / "model" / "model.safetensors")
        weights = {name: p.full_tensor() for name, p in self.ref_model.named_parameters()}
        self.notes = {
            "different": [name for name in weights if not torch.equal(weights[name], file[name])],
            "parameters": len(weights),
            "logps": set(),
            "sums": set(),
        }
        self.add_callback(Kill(self.kill_at))

    def _get_per_token_logps_and_entropies(self, *arguments, **named):
        result = super()._get_per_token_logps_and_entropies(*arguments, **named)
        self.notes["logps"].add(str(result[0].dtype))
        return result

    def training_step(self, model, *arguments):
        loss = super().training_step(model, *arguments)
        sums = (p.unsharded_accumulated_grad for p in sharded_parameters(model))  # None at an update's end
        self.notes["sums"].update(str(held.dtype) for held in sums if held is not None)
        path = self.folder / f"{self.args.process_index}.json"
        path.write_text(json.dumps(self.notes, default=list))
        return loss


def sharded_parameters(model):
    """What torch keeps of each parameter, with the sum of the micro-batches' gradients so far."""
    for module in model.modules():
        if isinstance(module, FSDPModule) and (group := module._get_fsdp_state()._fsdp_param_group):
            yield from group.fsdp_params


class Kill(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            os._exit(7)


def teach(folder: Path, run: str, launch: Launch):
    """A warm-up of three updates, from the rows in `folder`."""
    (folder / run).mkdir(exist_ok=True)
    settings = load_profile("smoke").sft.model_copy(update={"batch_size": 8, "micro_batch": 1})
    rows = load_tokens(folder / "rows")
    training.train_supervised(folder / "model", rows, settings, folder / run, launch=launch, seed=0)


def one_rank(folder: Path, run: str, kill_at: int):
    """What the launcher runs."""
    Watched.folder, Watched.kill_at, training.DeGRPOTrainer = folder, kill_at, Watched
    profile = load_profile("smoke", PROFILE)
    (folder / run).mkdir(exist_ok=True)
    if run == "whole":
        teach(folder, "taught", profile.launch)
    start, settings = folder / "model", profile.rl
    limits = {"launch": profile.launch, "max_tokens": 16, "seed": 0}
    training.train_rl(start, QUESTIONS, "degrpo", settings, folder / run, **limits)


def launch(folder, run="whole", kill_at=0):
    """The exit code and errors of two ranks."""
    shutil.copy(TESTS / "fsdp_on_cpu.py", folder / "sitecustomize.py")
    path = os.pathsep.join([str(folder), str(TESTS), str(TESTS.parent)])
    arguments = accelerate_launch(load_profile("smoke", PROFILE).launch)
    command = [sys.executable, *arguments, __file__, str(folder), run, str(kill_at)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(learner, tmp_path_factory):
    """A folder in which a warm-up and a run of RL have gone through: models, rows, what the ranks noted."""
    folder = tmp_path_factory.mktemp("sharded")
    shutil.copytree(learner / "model", folder / "model")
    rows = [{"prompt": p, "completion": c.removesuffix("<eos>")} for p, c in both_ways() * 2]
    save_tokens(Dataset.from_list(rows), load_tokenizer(folder / "model"), folder / "rows")
    ended = launch(folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def notes(folder):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_reference_model_is_the_file_on_every_rank(whole):
    for rank in notes(whole):
        assert rank["parameters"] > 20
        assert rank["different"] == []


def test_the_first_update_has_no_kl_and_later_ones_do(whole):
    first, *others = [row["kl"] for row in read_metrics(whole / "whole") if "kl" in row]
    assert first == pytest.approx(0, abs=1e-3)
    assert others[-1] > 1e-3


def test_log_probabilities_and_gradients_are_float32(whole):
    for rank in notes(whole):
        assert rank["logps"] == ["torch.float32"]
        assert rank["sums"] == ["torch.float32"]


def test_a_killed_run_goes_on_to_the_same_weights(whole):
    """Killed behind update 3 of 4, in the middle of a rollout; the last checkpoint is of update 2."""
    assert launch(whole, "killed", kill_at=3).returncode != 0
    assert not (whole / "killed" / "model").exists()
    again = launch(whole, "killed")
    assert again.returncode == 0, again.stderr[-3000:]
    one, other = (load_file(whole / run / "model" / "model.safetensors") for run in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_warm_up_has_the_loss_of_one_process_and_leaves_a_whole_model(whole):
    teach(whole, "alone", Launch())
    (ours,), (expected,) = (read_metrics(whole / run) for run in ("taught", "alone"))
    assert ours["loss"] == pytest.approx(expected["loss"], rel=0.01)
    start, taught = (
        load_file(folder / "model" / "model.safetensors") for folder in (whole, whole / "taught")
    )
    assert {name: (w.shape, w.dtype) for name, w in taught.items()} == {
        name: (w.shape, torch.float32) for name, w in start.items()
    }
    assert any(not torch.equal(taught[name], start[name]) for name in start)


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
