"""How long a stage takes: the floor that its hardware sets, and how far above it real runs stay.

Generation has to read bytes and training has to multiply; divided by a GPU's data sheet, both give seconds
that no program can beat. The factors above them were measured elsewhere or are our estimate, as each says.
"""

from thinkless.planning.hardware import BFLOAT16, GPU, Shape, shape_of
from thinkless.planning.work import Length, Work
from thinkless.runs.settings import ModelTeacher, Profile

LEVELS = ("floor", "tuned", "others_low", "others_high")
"""Full bandwidth and arithmetic, one phase after the other, nothing lost; our estimate of a well tuned run;
what others measured, the faster and the slower of the runs."""
GENERATION = (0.65, 0.47, 0.35)
"""Shares of the floor's speed in batched generation. Tuned: our estimate. Others: 16,000 and 12,000 tokens/s
and GPU of a 1.5 B model on H800 (AReaL v0.1, figure 2), against 34,000 at a mean context of 3,000."""
SUPERVISED, RL_UPDATES = (0.40, 0.25, 0.15), 0.35
"""Shares of the data sheet's arithmetic in supervised training, and in the updates of a tuned RL run. Tuned:
our estimate. Others: interpolated from prime-rl's table of 2026-02-01, 11 to 27 % in RL, 24 % in SFT."""
OTHERS_RL = (4.0, 7.0)
"""Whole RL steps of a 1.5 B model, in multiples of their floor: AdaptThink's re-run (verl, 16k, packed, 2,900
completion tokens per second and H100) and NeMo-RL's DeepScaleR recipe (8k, not packed, 2,300); their mean
lengths are assumed."""
IN_FLIGHT = 256
"""Answers that one vLLM engine works on at a time."""


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


def rl_seconds(work: Work, profile: Profile, shape: Shape, gpu: GPU) -> list[float]:
    """`LEVELS` of an RL run. Every step waits for its longest answer.

    Passes: forward and backward, the old policy's where the engine or a second update makes TRL compute it,
    the reference's. What checkpointing recomputes is a choice: the floor does not pay for it.
    """
    rl, rows = profile.rl, work.rows / work.processes
    passes = 3 + (rl.engine != "transformers" or rl.updates_per_step > 1) + (rl.beta > 0)
    answers = rows / rl.steps
    step = generation_seconds(shape, gpu, work.length, answers, prompt=work.prompt, batch=answers)
    generation = rl.steps * step
    unit = forward_seconds(shape, gpu, work.length, rows, work.prompt)
    trained = (passes + profile.launch.gradient_checkpointing) * unit
    tuned = generation / GENERATION[0] + trained / RL_UPDATES
    return [generation + passes * unit, tuned, *(times * (generation + trained) for times in OTHERS_RL)]


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
