"""The trainings: supervised (base model and warm-up) and reinforcement learning, through TRL.

Each function trains from a model folder into a run folder: `metrics.jsonl` grows as it goes,
checkpoints let a killed run go on, and the result is an ordinary Transformers folder, `model/`.
"""

import json
import logging
import math
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, set_seed
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from thinkless.errors import StageError
from thinkless.files import json_lines, write_text
from thinkless.models import load, save
from thinkless.rewards import ModeReward
from thinkless.runs.settings import RL, SFT, Base, Launch, Optimizer
from thinkless.trainer import DeGRPOConfig, DeGRPOTrainer, SumsInFloat32

LOG = logging.getLogger(__name__)
METRICS = "metrics.jsonl"
GROUPS, EVERY = "groups.jsonl", 10
"""Where an RL run keeps one group of its first update and of each tenth."""
KEPT = 2
"""Checkpoints of a training that stay: the newest may be half written when a kill comes."""
KL_AT_FIRST = 0.01
"""Above what rounding can make of a policy that is still its own reference model (about 1e-4 in bfloat16)."""
PATIENCE = 2 * 3600
"""Seconds that a process waits for the others, for a long answer or a slow disk; otherwise half an hour."""


def read_metrics(folder: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`, oldest first; a last line cut off by a kill is left out.

    Raises StageError naming file and line if another one is damaged.
    """
    path = folder / name
    try:
        return [line.value for line in json_lines(path, may_be_cut=True)] if path.exists() else []
    except ValueError as error:
        raise StageError(f"{error}: delete the folder {folder} to run the stage again") from None


class MetricsFile(TrainerCallback):
    """Appends every logged row to `metrics.jsonl`; on resume drops what lies past the checkpoint.

    Raises StageError at the first row whose loss or gradient is not finite, and where the first update has a
    KL already: nothing after it can be trusted.
    """

    name = METRICS

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_begin(self, args, state, control, **_):
        if state.is_world_process_zero:
            kept = [row for row in read_metrics(self.folder, self.name) if row["step"] <= state.global_step]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_text(self.folder / self.name, text)

    def _append(self, row: dict[str, Any]):
        with (self.folder / self.name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def on_log(self, args, state, control, logs=None, **_):
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            logs = {
                name: value for name, value in logs.items() if name != "num_tokens"
            }  # starts anew on resume
            self._append({"step": state.global_step, **logs})
        for name in ("loss", "grad_norm"):
            if logs and not math.isfinite(logs.get(name, 0.0)):
                raise StageError(
                    f"{self.folder.name}: {name} is {logs[name]} at update {state.global_step}, expected a "
                    "finite number: lower the learning rate, or use launch.precision=float32"
                )
        if logs and state.global_step == 1 and logs.get("kl", 0.0) > KL_AT_FIRST:
            raise StageError(
                f"{self.folder.name}: kl is {logs['kl']:.3g} in the first update, expected 0: the reference "
                "model is not the model that the training starts from; use launch.sharding=none"
            )


class GroupsFile(MetricsFile):
    """Appends one group of an update's rollouts to `groups.jsonl`: the first whose rewards differ, if any.

    It takes what TRL remembers of them for its own logs.
    """

    name = GROUPS

    def __init__(self, folder: Path, trainer: DeGRPOTrainer):
        super().__init__(folder)
        self.trainer = trainer

    def on_log(self, args, state, control, logs=None, **_):
        step = state.global_step
        if not state.is_world_process_zero or (step > 1 and step % EVERY) or "train_runtime" in (logs or {}):
            return
        seen, size = self.trainer._logs, self.trainer.num_generations
        [rewards] = seen["rewards"].values()
        columns = zip(seen["prompt"], seen["completion"], rewards, seen["advantages"], strict=True)
        groups = list(zip(*[columns] * size, strict=True))
        group = next((rows for rows in groups if len({row[2] for row in rows}) > 1), groups[0])
        prompts, completions, rewards, advantages = zip(*group, strict=True)
        kept = {"completions": completions, "rewards": rewards, "advantages": advantages}
        self._append({"step": step, "prompt": prompts[0], **kept})


class KeepsNewest(TrainerCallback):
    """Removes all checkpoints but the newest, by their steps.

    Transformers would go by the clock: set back in the middle of a training, it has each new one removed.
    """

    def on_save(self, args, state, control, **_):
        if state.is_world_process_zero:
            for old in _checkpoints(Path(args.output_dir))[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


class Progress(TrainerCallback):
    """Says at every logged row, at level INFO, how far a training is and what it has left."""

    def __init__(self, name: str):
        self.name = name

    def on_train_begin(self, args, state, control, **_):
        self.begun = state.global_step, time.monotonic()

    def on_log(self, args, state, control, logs=None, **_):
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            done, seconds = state.global_step - self.begun[0], time.monotonic() - self.begun[1]
            left = seconds / done * (state.max_steps - state.global_step) / 60
            LOG.info(
                "%s: update %d of %d, %.0f min left", self.name, state.global_step, state.max_steps, left
            )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`; half-written ones, left by a kill, are removed.

    Transformers writes `trainer_state.json` last. Raises StageError for a checkpoint that is
    complete but damaged: going on from it, or silently from an older one, would hide a disk fault.
    """
    checkpoints = _checkpoints(folder)
    while checkpoints:
        newest = checkpoints.pop()
        try:
            json.loads((newest / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(newest, ignore_errors=True)  # every rank does
            continue
        try:
            for weights in newest.glob("*.safetensors"):
                with safe_open(weights, "pt"):
                    pass
            for state in newest.glob("*.p*t*"):  # optimizer.pt, scheduler.pt, rng_state*.pth
                zipfile.ZipFile(state).close()
        except (OSError, SafetensorError, zipfile.BadZipFile) as error:
            raise StageError(
                f"checkpoint {newest} is damaged ({error}): delete it to go on from the one before"
            ) from None
        return newest
    return None


def _arguments(settings: Optimizer, launch: Launch, folder: Path, seed: int) -> dict[str, Any]:
    """The arguments that all three trainings pass to Transformers' Trainer.

    Raises StageError for a GPU that has no bfloat16, or an Apple GPU, if that is asked for.
    """
    gpu = torch.cuda.is_available()
    if not gpu and launch.precision == "bfloat16" and torch.backends.mps.is_available():
        raise StageError(
            "launch.precision=bfloat16: an Apple GPU (MPS) is not used here, and its processor is slow at "
            "such numbers: take float32 to train on the processor, or a machine with an NVIDIA GPU"
        )
    if gpu and launch.precision == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
        raise StageError(
            f"launch.precision=bfloat16: a {torch.cuda.get_device_name()} has no such numbers, and imitates "
            "them slowly: take float32, or a GPU of the Ampere generation or later"
        )
    minimum = {"min_lr": settings.min_learning_rate} if settings.schedule == "cosine_with_min_lr" else {}
    return {
        "output_dir": str(folder / "checkpoints"),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "lr_scheduler_kwargs": minimum or None,
        "warmup_steps": settings.warmup_steps,
        "adam_beta2": settings.beta2,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "save_steps": settings.save_steps,
        "seed": seed,
        "logging_nan_inf_filter": False,  # it would report a mean in place of a loss that is not finite
        "use_cpu": not gpu,
        "bf16": launch.precision == "bfloat16",
        "pad_to_multiple_of": launch.padding if launch.padding > 1 else None,
        "gradient_checkpointing": launch.gradient_checkpointing,
        "report_to": list(launch.report_to) or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
        "ddp_timeout": PATIENCE,
    }


def _on_one_device(config: Any) -> Any:
    """`config` of a process that takes one GPU of those in sight; Transformers would split batches."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def sft_config(settings: Base | SFT, launch: Launch, folder: Path, *, seed: int) -> SFTConfig:
    """TRL's configuration of a supervised training, for each of `launch.processes` processes."""
    share = settings.batch_size // launch.processes  # rows of an update on one process
    micro_batch = getattr(settings, "micro_batch", None) or share
    config = SFTConfig(
        **_arguments(settings, launch, folder, seed),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=share // micro_batch,
        num_train_epochs=1,
        logging_steps=math.gcd(10, settings.save_steps),  # a mean must not straddle a checkpoint
        train_sampling_strategy="sequential",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return _on_one_device(config)


def rl_config(
    objective: str, settings: RL, launch: Launch, folder: Path, *, max_tokens: int, seed: int
) -> DeGRPOConfig:
    """TRL's configuration of an RL run, for each of `launch.processes` processes."""
    completions = settings.prompts_per_step * settings.group_size  # of one step, on all processes
    rollout = completions // settings.micro_batch // launch.processes  # micro-batches of one process
    vllm: dict[str, Any] = {"use_vllm": False}
    if settings.engine != "transformers":
        vllm = {
            "use_vllm": True,
            "vllm_mode": "colocate" if settings.engine == "vllm" else "server",
            "vllm_server_base_url": settings.server,
            "vllm_gpu_memory_utilization": settings.vllm_memory,
            "vllm_enable_sleep_mode": settings.engine == "vllm",
            # Engine and trainer round differently. Over 24k tokens the product of their ratios is noise,
            # and masking whole answers by it (TRL's default) would drop most of the long ones.
            "vllm_importance_sampling_mode": "token_truncate",
        }
    arguments = _arguments(settings, launch, folder, seed)
    # profiles count steps, which are rollouts; TRL counts updates
    arguments["save_steps"] *= settings.updates_per_step
    config = DeGRPOConfig(
        **arguments,
        **vllm,
        objective=objective,
        alpha=settings.alpha,
        epsilon=settings.epsilon,
        beta=settings.beta,
        entropy_coef=settings.entropy,
        scale_rewards=settings.scale_rewards,
        kl_on_control_token=settings.kl_on_control_token,
        reject_equal_groups=settings.reject_equal_groups,
        max_steps=settings.steps * settings.updates_per_step,
        num_generations=settings.group_size,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=rollout // settings.updates_per_step,
        steps_per_generation=rollout,
        length_buckets=settings.length_buckets,
        generation_parts=settings.generation_parts,
        max_completion_length=max_tokens,
        temperature=settings.temperature,
        logging_steps=1,
        shuffle_dataset=False,
    )
    return _on_one_device(config)


def _finish(trainer: Trainer, folder: Path) -> list[dict]:
    """Train, from the last checkpoint if there is one; save `model/`; return the metrics rows.

    If `model/` exists, training had finished before the kill. Checkpoints go; logs of trackers stay.
    """
    [saved] = broadcast_object_list([(folder / "model").exists()])  # what the first rank sees holds for all
    if not saved:
        _train(trainer, folder)
    if trainer.accelerator.is_main_process:
        _remove_checkpoints(folder / "checkpoints")
    trainer.accelerator.wait_for_everyone()
    return read_metrics(folder)


def _remove_checkpoints(folder: Path):
    (folder / "README.md").unlink(missing_ok=True)  # TRL's, of a model that is no longer there
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _train(trainer: Trainer, folder: Path):
    trainer.add_callback(MetricsFile(folder))
    if isinstance(trainer, DeGRPOTrainer):
        trainer.add_callback(GroupsFile(folder, trainer))
    trainer.add_callback(KeepsNewest)
    trainer.add_callback(Progress(folder.name))
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(folder / "checkpoints")
    if trainer.args.device.type == "cpu":
        # accelerate numbers the CPUs of several processes, and torch cannot load an optimiser to "cpu:0"
        vars(trainer.args)["_setup_devices"] = torch.device("cpu")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # every rank has a part of it
    if trainer.accelerator.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model)
        save(model, trainer.processing_class, folder / "model", weights)


class SupervisedTrainer(SumsInFloat32, SFTTrainer):
    """TRL's trainer, exact where it is sharded."""


def train_supervised(
    start: Path, rows: Dataset, settings: Base | SFT, folder: Path, *, launch: Launch, seed: int
) -> dict[str, Any]:
    """One pass over `rows` (`input_ids` and `labels`, see `rows.save_tokens`), in order.

    Returns the final metrics: the last logged loss, rows and updates.
    """
    model, tokenizer = load(start, launch.attention)
    trainer = SupervisedTrainer(
        model=model,
        args=sft_config(settings, launch, folder, seed=seed),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    history = _finish(trainer, folder)
    losses = [row["loss"] for row in history if "loss" in row]  # means over the logged updates
    updates = math.ceil(len(rows) / settings.batch_size)
    return {"loss": losses[-1] if losses else None, "rows": len(rows), "updates": updates}


def train_rl(
    start: Path,
    problems: Dataset,
    objective: str,
    settings: RL,
    folder: Path,
    *,
    launch: Launch,
    max_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """Reinforcement learning of `start` on `problems` with one of `objectives.OBJECTIVES`.

    Returns the mean of every logged metric over the last tenth of the run.
    """
    model, tokenizer = load(start, launch.attention)
    trainer = DeGRPOTrainer(
        model=model,
        args=rl_config(objective, settings, launch, folder, max_tokens=max_tokens, seed=seed),
        train_dataset=problems,
        processing_class=tokenizer,
        reward_funcs=ModeReward(tokenizer, settings.gamma),
    )
    if settings.engine == "vllm":  # started in this process, it has seeded everything with its rank
        set_seed(seed, device_specific=True)
    history = _finish(trainer, folder)
    tail = history[-max(1, len(history) // 10) :]  # one step is too noisy for a summary
    names = sorted({name for row in tail for name in row if name not in ("step", "epoch")})
    return {name: float(np.mean([row[name] for row in tail if name in row])) for name in names}
