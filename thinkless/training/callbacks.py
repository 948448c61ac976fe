"""What a training writes and says as it goes, and when it stops."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from thinkless.errors import StageError
from thinkless.files import write_json_lines
from thinkless.runs.metrics import EVERY, GROUPS, METRICS, read_metrics
from thinkless.trainer import DeGRPOTrainer

LOG = logging.getLogger(__name__)
KL_AT_FIRST = 0.01
"""Above what rounding can make of a policy that is still its own reference model (about 1e-4 in bfloat16)."""


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
            write_json_lines(self.folder / self.name, kept)

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
