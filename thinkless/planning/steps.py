"""Where the seconds of an RL step go: the floor of its hardware, and every loss above it by name.

One typical step is dealt to the GPUs answer by answer, and its phases are timed one after the other:
generation until the longest answer ends, the passes that score, the updates. What is taken for granted stands
at the constants, and none of it was measured by us: an hour on the GPUs should replace it. Left out is what
is small beside them: gradients, exchanged once per update; prompts, read once per group; the weights that a
sharded run gathers for every row. Groups whose rewards are equal teach nothing, but with `rl.beta` above 0
their KL does, so they count as work.
"""

import math
from typing import NamedTuple

import numpy as np

from thinkless.planning.hardware import BFLOAT16, GPU, Shape
from thinkless.planning.work import Length
from thinkless.runs.settings import Profile

BANDWIDTH, UPDATE, SCORING = 0.65, 0.42, 0.45
"""Shares of the data sheet that are reached: of the bandwidth in generation, of the arithmetic in updates and
in passes that score. Our estimates for a model of 1.5 B on an H100; what others measured is in `time.py`."""
MASKED = 0.2
"""The same in attention with a mask, for which sdpa leaves its flash kernel and computes both halves: between
100 and 300 of an H100's 989 Tflop/s."""
TOKEN, TRAINED, SCORED = 3.5e-3, 0.130, 0.040
"""Seconds that a token, a part of a micro-batch that is trained on, and one that is scored take however short
they are: 28 layers are launched kernel by kernel."""
REST = 18.0
"""Seconds for grading, weights to vLLM, its sleep, and checkpoints: between 11 and 26."""


class Ways(NamedTuple):
    """How a step deals with padding and waiting: by default as this code does."""

    trimmed: bool = True
    """Scored rows are padded to the longest of their part, not to that of the rollout."""
    aligned: bool = True
    """The rows of an update come by length, so that all GPUs have their long ones at the same time."""
    carried: bool = False
    """Answers that have not ended go on in the next step (partial rollouts)."""


AS_IT_IS = Ways()


class Step(NamedTuple):
    """Seconds of one RL step."""

    floor: float
    losses: dict[str, float]
    """What is lost above the floor, by name; none is negative, but for rounding."""

    @property
    def seconds(self) -> float:
        """Floor and losses."""
        return self.floor + sum(self.losses.values())


def generation_seconds(
    shape: Shape, gpu: GPU, length: Length, answers: float, *, prompt: float, batch: float
) -> float:
    """Least seconds in which one GPU generates `answers` answers, `batch` of them at a time.

    Token t of an answer reads the keys and values of the prompt and of the t tokens before it, so an answer
    of L tokens reads kv_bytes x (prompt x L + L^2 / 2) bytes, and every token its part of the weights, 2
    bytes x matmul parameters / batch. The longest answer needs all of the weights for each of its tokens,
    however many GPUs there are. Prompts are read once per group and not counted.
    """
    weights = BFLOAT16 * shape.matmul
    cache = shape.kv_bytes * (prompt * length.mean + length.rms**2 / 2)
    bytes_read = answers * (cache + length.mean * weights / batch)
    return max(
        bytes_read / gpu.bandwidth,
        shape.forward_flops(answers * length.mean, answers * length.rms**2) / gpu.flops,
        length.longest * weights / gpu.bandwidth,
    )


def forward_seconds(shape: Shape, gpu: GPU, length: Length, rows: float, prompt: float) -> float:
    """Least seconds of a forward pass of one GPU over `rows` prompts with their answers.

    Forward and backward are three such passes, the recomputation of gradient checkpointing is one, and so
    are the log-probabilities of the old policy and those of the reference model.
    """
    squares = prompt**2 + 2 * prompt * length.mean + length.rms**2
    return rows * shape.forward_flops(prompt + length.mean, squares) / gpu.flops


def rl_step(
    answers: np.ndarray, profile: Profile, shape: Shape, gpu: GPU, *, prompt: float, ways: Ways = AS_IT_IS
) -> Step:
    """One step whose answers have these lengths in tokens, (prompts_per_step x group_size,).

    The floor has the passes that the method needs: three of the update, the reference's if there is a KL, the
    old policy's if a rollout serves several updates. What checkpointing recomputes is a choice, and so is a
    pass of the old policy that TRL makes only to correct for vLLM's rounding.
    """
    rl, launch = profile.rl, profile.launch
    rows = len(answers) / launch.processes
    length = Length(answers.mean(), math.sqrt(np.square(answers).mean()), answers.max())
    unit = forward_seconds(shape, gpu, length, rows, prompt)
    least = generation_seconds(shape, gpu, length, rows, prompt=prompt, batch=rows)
    several = rl.updates_per_step > 1
    needed, spare = several + (rl.beta > 0), rl.engine != "transformers" and not several

    # questions come in no order of length: any deal will do, and a seed makes it the same one
    dealt = np.random.default_rng(0).permutation(answers).reshape(launch.processes, rl.updates_per_step, -1)
    ends = max(_generated(shape, gpu, own.ravel(), prompt) for own in dealt)
    scoring = (needed + spare) * _scored(dealt, profile, shape, gpu, prompt, ways)
    padded, launched, waited = _updated(dealt, profile, shape, gpu, prompt, ways) + scoring
    trained = (3 + launch.gradient_checkpointing) * unit / UPDATE
    losses: dict[str, float] = {
        "long tail of generation": 0.0 if ways.carried else ends - least / BANDWIDTH,
        "generation below full bandwidth": least / BANDWIDTH - least,
        "training below full arithmetic": unit * (3 / UPDATE - 3 + needed / SCORING - needed),
        "layers computed twice (checkpointing)": launch.gradient_checkpointing * unit / UPDATE,
        "separate pass of the old policy": spare * unit / SCORING,
        "padding": padded - trained - (needed + spare) * unit / SCORING,
        "kernel launches of short rows": launched - padded,
        "GPUs waiting for each other": waited - launched,
        "grading, weights to vLLM, checkpoints": REST,
    }
    return Step(least + (3 + needed) * unit, {name: float(lost) for name, lost in losses.items()})


def _generated(shape: Shape, gpu: GPU, answers: np.ndarray, prompt: float) -> float:
    """Seconds in which one GPU generates all these answers at once, token by token until the longest ends."""
    token = np.arange(int(answers.max()))
    alive = len(answers) - np.searchsorted(np.sort(answers), token, side="right")  # (T,)
    read = BFLOAT16 * shape.matmul + alive * shape.kv_bytes * (prompt + token)
    return float(np.maximum(read / (BANDWIDTH * gpu.bandwidth), TOKEN).sum())


def _updated(
    dealt: np.ndarray, profile: Profile, shape: Shape, gpu: GPU, prompt: float, ways: Ways
) -> np.ndarray:
    """Seconds of the updates on `dealt`, (processes, updates, rows): with their padding, then with the least
    time of a part as well, then with the waiting.

    TRL gathers its metrics in every micro-batch, so that all GPUs take as long as the slowest.
    """
    ordered, rows = np.sort(dealt) if ways.aligned else dealt, profile.rl.micro_batch
    micro_batches = np.sort(ordered.reshape(*dealt.shape[:2], -1, rows))
    passes = 3 + profile.launch.gradient_checkpointing
    parts = np.array_split(micro_batches, min(profile.rl.length_buckets, rows), axis=-1)
    seconds = [passes * _pass(part, part.max(-1), profile, shape, gpu, prompt, UPDATE) for part in parts]
    launched = np.sum([np.maximum(part, TRAINED) for part in seconds], axis=0)  # (processes, updates, micro)
    processes = len(dealt)
    return np.array([np.sum(seconds) / processes, launched.sum() / processes, launched.max(axis=0).sum()])


def _scored(
    dealt: np.ndarray, profile: Profile, shape: Shape, gpu: GPU, prompt: float, ways: Ways
) -> np.ndarray:
    """The same three of one pass that scores all rows of a rollout; the GPUs meet at its end."""
    rows = np.sort(dealt.reshape(len(dealt), -1))
    count = profile.rl.length_buckets * math.ceil(rows.shape[1] / profile.rl.micro_batch)
    parts = np.array_split(rows, min(count, rows.shape[1]), axis=1)
    widths = [part.max(-1) if ways.trimmed else rows.max(-1) for part in parts]
    seconds = [
        _pass(part, width, profile, shape, gpu, prompt, SCORING)
        for part, width in zip(parts, widths, strict=True)
    ]
    launched = np.sum([np.maximum(part, SCORED) for part in seconds], axis=0)  # (processes,)
    return np.array([np.sum(seconds) / len(rows), launched.mean(), launched.max()])


def _pass(
    part: np.ndarray, width: np.ndarray, profile: Profile, shape: Shape, gpu: GPU, prompt: float, share: float
) -> np.ndarray:
    """Seconds (...) of a forward pass over each part (..., rows), padded to `width` (...) tokens."""
    rows, tokens = part.shape[-1], prompt + width
    masked = (part.min(-1) < width) & (profile.launch.attention == "sdpa")
    attention = shape.forward_flops(0, rows * tokens**2) * np.where(masked, 2 / MASKED, 1 / share)
    return (shape.forward_flops(rows * tokens, 0) / share + attention) / gpu.flops
