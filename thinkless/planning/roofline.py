"""The physics of a run: how long answers are, and the least time that they take.

Generation has to read bytes and training has to multiply; divided by a GPU's data sheet, both give a floor
that no program can beat. `timing.py` says how far above it real runs stay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm

from thinkless.planning.hardware import BFLOAT16, GPU, Shape


@dataclass(frozen=True)
class Length:
    """Tokens per answer: mean, root mean square, and the longest to expect among those counted."""

    mean: float
    rms: float
    longest: float
    capped: float = 0.0
    """Share of the answers that the length limit cuts off."""


def capped_lognormal(mean: float, rms: float, limit: float, answers: float = 1024) -> Length:
    """Lengths that would be lognormal with this mean and rms, cut off at `limit` tokens.

    With s^2 = ln(rms^2 / mean^2) and m = ln(mean) - s^2 / 2, the k-th moment below the limit is
    exp(k m + k^2 s^2 / 2) Phi((ln limit - m - k s^2) / s). `longest` is the quantile 1 - 1/answers.
    """
    if rms <= mean:  # all alike
        return Length(min(mean, limit), min(mean, limit), min(mean, limit), float(mean > limit))
    variance = 2 * math.log(rms / mean)
    deviation, center = math.sqrt(variance), math.log(mean) - variance / 2
    capped = float(norm.sf((math.log(limit) - center) / deviation))

    def moment(k: int) -> float:
        below = norm.cdf((math.log(limit) - center - k * variance) / deviation)
        return math.exp(k * center + k * k * variance / 2) * float(below) + limit**k * capped

    longest = math.exp(center + deviation * float(norm.isf(1 / max(answers, 2))))
    return Length(moment(1), math.sqrt(moment(2)), min(limit, longest), capped)


def mixture(parts: Sequence[tuple[float, Length]]) -> Length:
    """Lengths of a mix of answers, from (share, length) of each kind; the shares sum to 1."""
    return Length(
        mean=sum(share * length.mean for share, length in parts),
        rms=math.sqrt(sum(share * length.rms**2 for share, length in parts)),
        longest=max(length.longest for share, length in parts if share),
        capped=sum(share * length.capped for share, length in parts),
    )


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
