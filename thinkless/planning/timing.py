"""Hours of every stage at four levels: the physical floor, a tuned run, what others measured, and ours.

The floor is arithmetic (`costs.py`). The factors above it were measured, or estimated, elsewhere; each is a
named constant here.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from thinkless.planning.hardware import GPU, Shape, shape_of
from thinkless.planning.roofline import Length, generation_seconds, training_seconds
from thinkless.planning.workload import Assumptions, Work
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


@dataclass(frozen=True)
class Hours:
    """One stage's wall-clock hours at three levels; NaN where a level does not apply."""

    floor: float = math.nan
    """Full bandwidth and full arithmetic, one phase after the other, nothing lost."""
    tuned: float = math.nan
    others_low: float = math.nan
    """What others measured: the faster and the slower of the runs."""
    others_high: float = math.nan


def generation_hours(seconds: float) -> Hours:
    """Levels of a stage that only generates, from its floor in seconds."""
    low, high = (seconds / share for share in OTHERS_BANDWIDTH)
    return _hours(seconds, seconds / TUNED_BANDWIDTH, low, high)


def supervised_hours(floor: float, recomputed: float) -> Hours:
    """Levels of a supervised training: its floor in seconds, and the same with recomputation."""
    low, high = (recomputed / share for share in OTHERS_SFT_FLOPS)
    return _hours(floor, recomputed / TUNED_SFT_FLOPS, low, high)


def rl_hours(
    shape: Shape,
    gpu: GPU,
    length: Length,
    *,
    answers: int,
    steps: int,
    gpus: int,
    prompt: float,
    units: int,
    recompute: bool,
) -> Hours:
    """Levels of an RL run of `answers` completions in `steps` steps on `gpus` GPUs.

    `units` as in `training_seconds`, without what checkpointing recomputes: that is a choice, so the floor
    does not pay for it and the other levels do. Every step waits for its longest answer.
    """
    per_step = answers / steps / gpus
    generation = steps * generation_seconds(shape, gpu, length, per_step, prompt=prompt, batch=per_step)
    unit = training_seconds(shape, gpu, length, answers / gpus, prompt=prompt, units=1)
    floor, trained = generation + units * unit, (units + recompute) * unit
    if gpu.name.startswith("NVIDIA H") and 1.2e9 < shape.matmul < 2e9:
        low, high = (answers * length.mean / gpus / rate for rate in OTHERS_RL_RATE)
    else:
        low, high = (factor * (generation + trained) for factor in OTHERS_RL_FACTOR)
    return _hours(floor, generation / TUNED_BANDWIDTH + trained / TUNED_FLOPS, low, high)


def _hours(*seconds: float) -> Hours:
    return Hours(*(value / 3600 for value in seconds))


def stage_hours(work: Work, profile: Profile, shape: Shape, gpu: GPU | None, a: Assumptions) -> Hours:
    """The levels of one stage; NaN without a GPU, where a data sheet would say nothing."""
    launch, rl = profile.launch, profile.rl
    if work.kind == "ready":
        return Hours(0, 0, 0, 0)
    if gpu is None:
        return Hours()
    if work.kind == "evaluation":
        batch = min(IN_FLIGHT, work.rows)
        seconds = generation_seconds(shape, gpu, work.length, work.rows, prompt=a.prompt, batch=batch)
        return generation_hours(seconds)
    if work.kind == "distill":
        seconds = 0.0
        for teacher, length, answers in work.teachers:
            if isinstance(teacher, ModelTeacher):  # a server is somebody else's clock
                its, batch = shape_of(teacher.path, teacher.revision), min(IN_FLIGHT, answers)
                seconds += generation_seconds(its, gpu, length, answers, prompt=a.prompt, batch=batch)
        return generation_hours(seconds)
    if work.kind == "supervised":
        rows, again = work.rows / work.processes, 3 + launch.gradient_checkpointing
        return supervised_hours(
            training_seconds(shape, gpu, work.length, rows, prompt=a.prompt, units=3),
            training_seconds(shape, gpu, work.length, rows, prompt=a.prompt, units=again),
        )
    old_policy = rl.engine != "transformers" or rl.updates_per_step > 1  # else TRL saves that pass
    return rl_hours(
        *(shape, gpu, work.length),
        answers=int(work.rows),
        steps=rl.steps,
        gpus=work.processes,
        prompt=a.prompt,
        units=3 + old_policy + (rl.beta > 0),
        recompute=launch.gradient_checkpointing,
    )


def measured(profile: str, results: Path) -> dict[str, float]:
    """Hours of every stage of a profile that a record in `results` has, the median over its runs.

    A record is a JSON file with `rows`; a row has the `command` that made it and either the `wall_seconds`
    of its `stage` or, if it is an evaluation, the `training_wall_seconds` of the stage that it evaluates.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(results.glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")).get("rows", []):
            if not re.search(rf"--profile {re.escape(profile)}( |$)", row.get("command", "")):
                continue
            for key, stage in (
                ("wall_seconds", row["stage"]),
                ("training_wall_seconds", row["stage"].removeprefix("eval-")),
            ):
                if row.get(key) is not None:
                    found.setdefault(stage, []).append(row[key] / 3600)
    return {stage: median(values) for stage, values in found.items()}
