"""How long a stage takes: the floor that its hardware sets, and how far above it real runs stay.

Generation has to read bytes and training has to multiply; divided by a GPU's data sheet, both give seconds
that no program can beat. The factors above them were measured elsewhere or are our estimate, as each says.
"""

import math
from typing import NamedTuple

from thinkless.planning.hardware import BFLOAT16, GPU, Shape, shape_of
from thinkless.planning.work import Length, Work
from thinkless.runs.settings import ModelTeacher, Profile

TUNED_BANDWIDTH, TUNED_FLOPS, TUNED_SFT_FLOPS = 0.65, 0.35, 0.40
"""Shares of the data sheet that a well tuned run may reach: of the memory's bandwidth while it generates,
of the arithmetic while it trains, in RL and in supervised training. Our estimate."""
OTHERS_BANDWIDTH = (0.47, 0.35)
"""Share of the floor's speed in batched generation: 16,000 and 12,000 tokens/s and GPU of a 1.5 B model on
H800 (AReaL v0.1, figure 2), against 34,000 by the floor at a mean context of 3,000."""
OTHERS_SFT_FLOPS = (0.25, 0.15)
"""Interpolated from prime-rl's table of 2026-02-01: 11 to 27 % in RL, 24 % in SFT, at 16k to 65k tokens."""
OTHERS_RL_RATE = (2900.0, 2300.0)
"""Completion tokens per second and H100 of whole RL steps with a 1.5 B model: AdaptThink's re-run (verl,
16k, packed) and NeMo-RL's DeepScaleR recipe (8k, not packed); their mean lengths are assumed."""
OTHERS_RL_FACTOR = (4.0, 7.0)
"""The same runs as multiples of their floor, for other models and GPUs."""
IN_FLIGHT = 256
"""Answers that one vLLM engine works on at a time."""


class Hours(NamedTuple):
    """One stage's wall-clock hours; NaN where a level does not apply."""

    floor: float = math.nan
    """Full bandwidth and full arithmetic, one phase after the other, nothing lost."""
    tuned: float = math.nan
    others_low: float = math.nan
    """What others measured: the faster and the slower of the runs."""
    others_high: float = math.nan

    @classmethod
    def of_seconds(cls, *seconds: float) -> "Hours":
        return cls(*(value / 3600 for value in seconds))


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
    cache = shape.kv_bytes() * (prompt * length.mean + length.rms**2 / 2)
    bytes_read = answers * (cache + length.mean * weights / batch)
    return max(
        bytes_read / gpu.bandwidth,
        shape.forward_flops(answers * length.mean, answers * length.rms**2) / gpu.flops,
        length.longest * weights / gpu.bandwidth,
    )


def training_seconds(
    shape: Shape, gpu: GPU, length: Length, rows: float, *, prompt: float, units: float
) -> float:
    """Least seconds in which one GPU trains on `rows` prompts with their answers.

    `units` counts forward passes: forward and backward are 3, the recomputation of gradient checkpointing
    1, the log-probabilities of the old policy 1, those of the reference model 1.
    """
    squares = prompt**2 + 2 * prompt * length.mean + length.rms**2
    return units * rows * shape.forward_flops(prompt + length.mean, squares) / gpu.flops


def rl_hours(work: Work, profile: Profile, shape: Shape, gpu: GPU, prompt: float) -> Hours:
    """Levels of an RL run. Every step waits for its longest answer.

    Passes: forward and backward, the old policy's where the engine or a second update makes TRL compute it,
    the reference's. What checkpointing recomputes is a choice: the floor does not pay for it.
    """
    rl, gpus = profile.rl, work.processes
    passes = 3 + (rl.engine != "transformers" or rl.updates_per_step > 1) + (rl.beta > 0)
    answers = work.rows / rl.steps / gpus
    step = generation_seconds(shape, gpu, work.length, answers, prompt=prompt, batch=answers)
    generation = rl.steps * step
    unit = training_seconds(shape, gpu, work.length, work.rows / gpus, prompt=prompt, units=1)
    trained = (passes + profile.launch.gradient_checkpointing) * unit
    if gpu.name.startswith("NVIDIA H") and 1.2e9 < shape.matmul < 2e9:
        low, high = (work.rows * work.length.mean / gpus / rate for rate in OTHERS_RL_RATE)
    else:
        low, high = (factor * (generation + trained) for factor in OTHERS_RL_FACTOR)
    tuned = generation / TUNED_BANDWIDTH + trained / TUNED_FLOPS
    return Hours.of_seconds(generation + passes * unit, tuned, low, high)


def stage_hours(work: Work, profile: Profile, shape: Shape, gpu: GPU | None, prompt: float) -> Hours:
    """The levels of one stage; NaN without a GPU, where a data sheet would say nothing."""
    if not work.rows:
        return Hours(0, 0, 0, 0)
    if gpu is None:
        return Hours()
    if work.kind == "rl":
        return rl_hours(work, profile, shape, gpu, prompt)
    if work.kind in ("base", "sft"):
        rows = work.rows / work.processes
        floor = training_seconds(shape, gpu, work.length, rows, prompt=prompt, units=3)
        again = floor * (3 + profile.launch.gradient_checkpointing) / 3
        return Hours.of_seconds(floor, *(again / share for share in (TUNED_SFT_FLOPS, *OTHERS_SFT_FLOPS)))
    models = [(shape, work.length, work.rows)]
    if work.kind == "distill":  # a server is somebody else's clock
        models = [
            (shape_of(teacher.path, teacher.revision), length, answers)
            for teacher, length, answers in work.teachers
            if isinstance(teacher, ModelTeacher)
        ]
    floor = sum(
        generation_seconds(model, gpu, length, n, prompt=prompt, batch=min(IN_FLIGHT, n))
        for model, length, n in models
    )
    return Hours.of_seconds(floor, *(floor / share for share in (TUNED_BANDWIDTH, *OTHERS_BANDWIDTH)))
