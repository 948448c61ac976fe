"""Supervised training (base model and warm-up) and reinforcement learning, through TRL."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, set_seed
from datasets import Dataset
from transformers import PrinterCallback, Trainer
from trl import SFTTrainer

from thinkless.models import load, save
from thinkless.rewards import ChoiceReward, ModeReward
from thinkless.runs.metrics import read_metrics
from thinkless.runs.settings import RL, SFT, Base, Launch
from thinkless.trainer import DeGRPOTrainer, SumsInFloat32
from thinkless.training.callbacks import GroupsFile, MetricsFile, Progress
from thinkless.training.checkpoints import KeepsNewest, last_checkpoint, remove_checkpoints
from thinkless.training.configs import rl_config, sft_config
from thinkless.training.shared_prompts import SharedPromptCollator, SharedPromptTrainer


def _finish(trainer: Trainer, folder: Path) -> list[dict]:
    """Train, from the last checkpoint if there is one; save `model/`; return the metrics rows.

    If `model/` exists, training had finished before the kill. Checkpoints go; logs of trackers stay.
    """
    [saved] = broadcast_object_list([(folder / "model").exists()])  # what the first rank sees holds for all
    if not saved:
        _train(trainer, folder)
    if trainer.accelerator.is_main_process:
        remove_checkpoints(folder / "checkpoints")
    trainer.accelerator.wait_for_everyone()
    return read_metrics(folder)


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
    shared = launch.shared_prompts and isinstance(settings, SFT)  # a textbook has no prompts
    trainer = SupervisedTrainer(
        model=model,
        args=sft_config(settings, launch, folder, seed=seed),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=SharedPromptCollator(launch.padding) if shared else None,
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

    With `choice_only` the questions need the columns of `ChoiceReward`, and completions are one token.
    Returns the mean of every logged metric over the last tenth of the run.
    """
    model, tokenizer = load(start, launch.attention)
    kind = SharedPromptTrainer if launch.shared_prompts else DeGRPOTrainer
    worth = ModeReward if settings.choice_only is None else ChoiceReward
    trainer = kind(
        model=model,
        args=rl_config(objective, settings, launch, folder, max_tokens=max_tokens, seed=seed),
        train_dataset=problems,
        processing_class=tokenizer,
        reward_funcs=worth(tokenizer, settings.gamma),
    )
    if settings.engine == "vllm":  # started in this process, it has seeded everything with its rank
        set_seed(seed, device_specific=True)
    history = _finish(trainer, folder)
    tail = history[-max(1, len(history) // 10) :]  # one step is too noisy for a summary
    names = sorted({name for row in tail for name in row if name not in ("step", "epoch")})
    return {name: float(np.mean([row[name] for row in tail if name in row])) for name in names}
