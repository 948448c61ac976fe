"""How long a stage takes: the floor that its hardware sets, and how far above it this code stays.

Generation has to read bytes and training has to multiply; divided by a GPU's data sheet, both give seconds
that no program can beat. The factors above them were measured elsewhere or are our estimate, as each says.
"""

from thinkless.planning.hardware import GPU, Shape, shape_of
from thinkless.planning.steps import BANDWIDTH, forward_seconds, generation_seconds, rl_step
from thinkless.planning.work import Work
from thinkless.runs.settings import ModelTeacher, Profile

LEVELS = ("floor", "configured", "others_low", "others_high")
"""Full bandwidth and arithmetic, one phase after the other, nothing lost; our estimate for this code as it is
configured; what others measured, the faster and the slower of the runs."""
GENERATION = (BANDWIDTH, 0.47, 0.35)
"""Shares of the floor's speed in batched generation. As configured: our estimate. Others: 16,000 and 12,000
tokens/s and GPU of a 1.5 B model on H800 (AReaL v0.1, figure 2), against 34,000 at a context of 3,000."""
SUPERVISED = (0.40, 0.25, 0.15)
"""Shares of the data sheet's arithmetic in supervised training. As configured: our estimate. Others:
interpolated from prime-rl's table of 2026-02-01, 11 to 27 % in RL, 24 % in SFT."""
OTHERS_RL = (4.0, 7.0)
"""Whole RL steps of a 1.5 B model, in multiples of their floor: AdaptThink's re-run (verl, 16k, packed, 2,900
completion tokens per second and H100) and NeMo-RL's DeepScaleR recipe (8k, not packed, 2,300); their mean
lengths are assumed."""
IN_FLIGHT = 256
"""Answers that one vLLM engine works on at a time."""


def rl_seconds(work: Work, profile: Profile, shape: Shape, gpu: GPU) -> list[float]:
    """`LEVELS` of an RL run, of which `steps.py` has the first two step by step."""
    rl, rows = profile.rl, work.rows / work.processes
    assert work.answers is not None
    step = rl_step(work.answers, profile, shape, gpu, prompt=work.prompt)
    length = work.length
    passes = 3 + (rl.engine != "transformers" or rl.updates_per_step > 1) + (rl.beta > 0)
    passes += profile.launch.gradient_checkpointing
    answers = rows / rl.steps
    generation = generation_seconds(shape, gpu, length, answers, prompt=work.prompt, batch=answers)
    spent = rl.steps * generation + passes * forward_seconds(shape, gpu, length, rows, work.prompt)
    return [rl.steps * step.floor, rl.steps * step.seconds, *(times * spent for times in OTHERS_RL)]


def stage_seconds(work: Work, profile: Profile, shape: Shape, gpu: GPU) -> list[float]:
    """`LEVELS` of one stage."""
    if work.kind == "rl":
        return rl_seconds(work, profile, shape, gpu)
    if work.kind == "sft":
        unit = forward_seconds(shape, gpu, work.length, work.rows / work.processes, work.prompt)
        spent = (3 + profile.launch.gradient_checkpointing) * unit
        return [3 * unit, *(spent / share for share in SUPERVISED)]
    if isinstance(work.teacher, ModelTeacher):
        shape = shape_of(work.teacher.path, work.teacher.revision)
    elif work.kind == "distill" or not work.rows:  # a server's time is its own affair
        return [0, 0, 0, 0]
    batch = min(IN_FLIGHT, work.rows)
    floor = generation_seconds(shape, gpu, work.length, work.rows, prompt=work.prompt, batch=batch)
    return [floor, *(floor / share for share in GENERATION)]
