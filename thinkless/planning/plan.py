"""A run before it is run: what goes where, what it reads and writes, how long, how big, and at what price.

``thinkless plan --profile h100x4`` prints it; a chapter shows its tables. Nothing is trained, no weights and
no GPU are needed: every number is arithmetic on the profile, on `work.Assumptions` and on data sheets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from thinkless.modes import Mode
from thinkless.planning import memory as sizes
from thinkless.planning.hardware import BFLOAT16, GB, GPU, GPUS, PlanError, Shape, model_shape, shape_of
from thinkless.planning.preflight import Check, check
from thinkless.planning.time import stage_hours
from thinkless.planning.work import Assumptions, Work, assume, work_of
from thinkless.runs.runner import Stage
from thinkless.runs.settings import ModelTeacher, PretrainedModel, Profile


@dataclass(frozen=True)
class Plan:
    """The tables of a plan. Hours are wall-clock, memory is in GB (1e9 bytes) per GPU."""

    profile: Profile
    gpu: GPU | None
    shape: Shape
    assumptions: Assumptions
    price: float
    """Dollars per GPU and hour."""
    stages: pd.DataFrame
    """By stage: processes, answers or rows, their mean length and the share cut off, tokens in and out."""
    hours: pd.DataFrame
    """By stage and for all: floor, tuned, and what others measured (low, high)."""
    dollars: pd.Series
    """Of all stages at each level of `hours`; a stage pays for the GPUs that work in it."""
    memory: pd.DataFrame
    """By part: warm-up, and the phases of an RL step, every answer as long as its limit allows."""
    disk: pd.Series
    """GB by part."""
    checks: list[Check]
    notes: list[str]


def make_plan(
    profile: Profile,
    stages: Sequence[Stage],
    *,
    gpu: str | None = None,
    price: float = 3.0,
    assumptions: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan every stage of `profile` on `gpu`, a key of `hardware.GPUS` or "cpu".

    By default that is no GPU for a model made here, a card of 24 GB for one process, an H100 for several.
    `assumptions` changes `Assumptions` by name. Raises PlanError, in one line, for what cannot run.
    """
    if gpu is None:
        small = "cpu" if profile.model.kind == "scratch" else "rtx4090"
        gpu = "h100" if profile.launch.processes > 1 else small
    if gpu not in (*GPUS, "cpu"):
        raise PlanError(f"gpu={gpu!r}: expected one of {', '.join(GPUS)}, or cpu")
    if not price >= 0:
        raise PlanError(f"price={price}: expected dollars per GPU and hour, 0 or more")
    card, assumed = GPUS.get(gpu), assume(profile, assumptions)
    shape = model_shape(profile.model, context=1024)
    checks = check(profile, shape, card, assumed.longest_prompt)
    work = [work_of(stage, profile, assumed) for stage in stages]
    names = [w.stage for w in work]
    hours = pd.DataFrame([stage_hours(w, profile, shape, card, assumed.prompt) for w in work], names)
    memory = memory_table(profile, shape, assumed, card.memory if card else 0.0)
    return Plan(
        profile,
        card,
        shape,
        assumed,
        price,
        stages=_stages(work),
        hours=pd.concat([hours, hours.sum(skipna=False).to_frame("all").T]),
        dollars=hours.mul([price * w.processes for w in work], axis=0).sum(skipna=False),
        memory=memory,
        disk=_disk(profile, shape, work),
        checks=checks,
        notes=list(_notes(profile, shape, card, assumed, work, memory)),
    )


def _stages(work: Sequence[Work]) -> pd.DataFrame:
    rows = [(w.processes, w.rows, w.length.mean, w.length.capped, w.tokens_in, w.tokens_out) for w in work]
    columns = ["processes", "rows or answers", "mean tokens", "cut off", "tokens in", "tokens out"]
    return pd.DataFrame(rows, [w.stage for w in work], columns)


def memory_table(profile: Profile, shape: Shape, a: Assumptions, memory: float) -> pd.DataFrame:
    """GB per process by part, of the warm-up and of the phases of an RL step; `memory.py` has the formulas.

    `memory` is the GPU's in bytes, 0 on a CPU.
    """
    launch, sft, rl = profile.launch, profile.sft, profile.rl
    micro_batch = sft.micro_batch or sft.batch_size // launch.processes
    row = profile.longest("distill") + a.longest_prompt
    columns = {"warm-up": sizes.supervised_memory(shape, launch, micro_batch, row)}
    phases = sizes.rl_memory(shape, launch, rl, profile.longest("rl") + a.longest_prompt, memory)
    columns |= {f"RL: {phase}": parts for phase, parts in phases.items()}
    order = dict.fromkeys(part for parts in columns.values() for part in parts)
    table = pd.DataFrame(columns).div(GB).loc[[part for part in order if memory or part != "CUDA context"]]
    table.loc["sum"] = table.sum()
    return table


def _disk(profile: Profile, shape: Shape, work: Sequence[Work]) -> pd.Series:
    """GB by part. A model is 4 P bytes (2 P as published); a checkpoint 12 P with Adam's moments, of which
    two are kept and a third is being written while a training runs; text takes about 4 bytes a token."""
    one = 4.0 * shape.parameters
    teachers = [getattr(profile.distill, mode.label) for mode in Mode]
    named = [part for part in (profile.model, *teachers) if isinstance(part, PretrainedModel | ModelTeacher)]
    fetched = [shape_of(path) for path in sorted({part.path for part in named})]
    parts = {
        "the hub's cache": sum(float(BFLOAT16 * model.parameters) for model in fetched),
        "base model": one / 2 if fetched else 2 * one,
        "warm-up: model and its start": 2 * one,
        "models of RL": one * sum(w.kind == "rl" for w in work),
        "checkpoints of one training": 9 * one,
        "distilled pairs": 4 * sum(w.rows * w.length.mean for w in work if w.kind == "sft"),
        "completions of evaluation": 4 * sum(w.tokens_out for w in work if w.kind == "eval"),
    }
    return pd.Series(parts).div(GB)


def _notes(
    profile: Profile,
    shape: Shape,
    gpu: GPU | None,
    a: Assumptions,
    work: Sequence[Work],
    memory: pd.DataFrame,
) -> Iterator[str]:
    """Warn of what the tables alone would hide, in one sentence or two each."""
    limit, processes = profile.longest("distill"), profile.launch.processes
    for mode in Mode:
        teacher = getattr(profile.distill, mode.label)
        if isinstance(teacher, ModelTeacher):
            context = shape_of(teacher.path, teacher.revision).context
            if context < limit + a.longest_prompt:
                yield (
                    f"distill.{mode.label}: {teacher.path} was made for {context:,} positions, so its "
                    f"answers end there and not at distill.max_tokens={limit}."
                )
    if profile.rl.engine == "server":
        yield f"The GPUs of rl.server={profile.rl.server} come on top, in price and in number."
    if idle := [w.stage for w in work if w.processes < processes and w.tokens_out]:
        yield (
            f"{', '.join(idle)}: one process. The price counts its GPU only; whoever rents "
            f"{processes} together pays for all."
        )
    if gpu is None:
        return
    longest, steps = profile.longest("rl"), profile.rl.steps
    seconds = longest * BFLOAT16 * shape.matmul / gpu.bandwidth
    yield (
        f"Every RL step waits for its longest answer: {longest:,} tokens take at least {seconds:.0f} s, "
        f"{seconds * steps / 3600:.1f} h over {steps} steps, on any number of GPUs."
    )
    for phase, size in memory.loc["sum"].items():
        if size > gpu.memory / GB:
            yield (
                f"{phase} needs {size:.0f} GB and a {gpu.name} has {gpu.memory / GB:.0f}: lower "
                "micro_batch or max_tokens, or set launch.sharding or launch.gradient_checkpointing."
            )


def _figures(table: pd.DataFrame) -> str:
    """A table in three digits; thousands of millions as B, millions as M."""

    def shown(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        for size, letter in ((1e9, "B"), (1e6, "M")):
            if value >= size:
                return f"{value / size:.3g}{letter}"
        return "" if value != value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return table.map(shown).to_string()


def as_text(plan: Plan) -> str:
    """The whole plan, section by section."""
    launch, shape, profile = plan.profile.launch, plan.shape, plan.profile.name
    where = f"{launch.processes} x {plan.gpu.name}" if plan.gpu else "CPU"
    assumed = pd.Series(plan.assumptions.told(), dtype=float).to_frame("")
    cost = pd.concat([plan.hours, plan.dollars.to_frame("dollars").T])
    sections = {
        f"Plan of {profile} on {where}, {launch.machines} machine(s)": (
            f"{shape.name}, {shape.parameters:,} parameters, {shape.kv_bytes():,} bytes of cache per token"
        ),
        "Assumed (tokens before any limit; change with --assume)": _figures(assumed),
        "What runs where": _figures(plan.stages),
        f"Hours, and dollars if a GPU costs {plan.price:g} an hour": _figures(cost) if plan.gpu else "no GPU",
        f"Memory per process in GB, sharding {launch.sharding}": _figures(plan.memory),
        "Disk in GB": _figures(plan.disk.to_frame("")),
        "Built and checked on this machine": "\n".join(f"{what}: {how}" for what, how in plan.checks),
        "Notes": "\n".join(f"- {note}" for note in plan.notes) or "none",
    }
    return "\n\n".join(f"{title}\n{'-' * len(title)}\n{body}" for title, body in sections.items())
