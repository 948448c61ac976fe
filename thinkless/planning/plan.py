"""A run before it is run: what goes where, what it reads and writes, how long, how big, and at what price.

``thinkless plan --profile h100x4`` prints it; a chapter shows its tables. Nothing is trained, no weights and
no GPU are needed: every number is arithmetic on the profile, on `work.Assumptions` and on data sheets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from thinkless.errors import UserError
from thinkless.generation.chat_template import TurnsError, check_turns
from thinkless.models import load_tokenizer
from thinkless.planning.hardware import BFLOAT16, GB, GPU, GPUS, QWEN2, PlanError, Shape, shape_of
from thinkless.planning.memory import VLLM_EXTRA, rl_memory, training_memory
from thinkless.planning.steps import AS_IT_IS, Step, Ways, rl_step
from thinkless.planning.time import LEVELS, stage_seconds
from thinkless.planning.work import Assumptions, Work, assume, work_of
from thinkless.problems.benchmarks import PROBLEM_SETS
from thinkless.runs.questions import MathProblems
from thinkless.runs.runner import Stage
from thinkless.runs.settings import ModelTeacher, PretrainedModel, Profile
from thinkless.training import rl_config, sft_config


def make_plan(
    profile: Profile,
    stages: Sequence[Stage],
    *,
    gpu: str | None = None,
    price: float = 3.0,
    assumptions: Mapping[str, Any] | None = None,
) -> "Plan":
    """Plan every stage of `profile`, of a published model, on `gpu`, a key of `hardware.GPUS`.

    By default that is a card of 24 GB for one process and an H100 for several. `price` is in dollars per GPU
    and hour; `assumptions` changes `Assumptions` by name. Raises PlanError, in one line, for what cannot run.
    """
    gpu = gpu or ("h100" if profile.launch.processes > 1 else "rtx4090")
    model, problems = profile.model, profile.problems
    if not isinstance(model, PretrainedModel) or not isinstance(problems, MathProblems):
        takes = "minutes on any machine" if profile.base else "hours on two cores, which no data sheet tells"
        raise PlanError(f"profile {profile.name!r} takes {takes}: run it; h100x4 has a plan")
    if gpu not in GPUS:
        raise PlanError(f"gpu={gpu!r}: expected one of {', '.join(GPUS)}")
    if not price >= 0:
        raise PlanError(f"price={price}: expected dollars per GPU and hour, 0 or more")
    if profile.launch.precision != "bfloat16":
        raise PlanError(f"launch.precision={profile.launch.precision}: a plan counts bfloat16")
    for name in {problems.train, *problems.evaluate} - PROBLEM_SETS.keys():
        raise PlanError(f"unknown problem set {name!r}: expected one of {', '.join(PROBLEM_SETS)}")
    assumed, shape = assume(problems, assumptions), shape_of(model.path, model.revision)
    checks = [check_context(profile, shape, assumed.longest_prompt), check_trainers(profile)]
    checks.append(check_tokenizer(model))
    for teacher in (profile.distill.think, profile.distill.short):
        if isinstance(teacher, ModelTeacher):
            check_teacher(teacher)
    if profile.rl.engine == "vllm":
        checks.append(check_vllm(profile, shape, GPUS[gpu]))
    work = [work for stage in stages for work in work_of(stage, profile, problems, assumed)]
    return Plan(profile, GPUS[gpu], price, assumed, shape, checks, work)


# Checks: what can be known to fail before a GPU is rented. Each says what it found, or raises PlanError.


def check_context(profile: Profile, shape: Shape, prompt: int) -> str:
    """Every prompt and its answer have positions in the model."""
    for section in ("distill", "rl", "evaluation"):
        total = profile.longest(section) + prompt
        if total > shape.context:
            raise PlanError(
                f"{section}.max_tokens={profile.longest(section)}: with a prompt of {prompt} tokens that is "
                f"{total}, but {shape.name} was made for {shape.context} (max_position_embeddings)"
            )
    return f"prompt + answer within the model's context: {shape.context:,} tokens"


def check_tokenizer(model: PretrainedModel) -> str:
    """Its chat template, if it has one, marks turns in a way that ours knows."""
    if model.path in QWEN2:
        return f"turns of {model.path}: known"
    try:
        check_turns(load_tokenizer(model.path, model.revision))
    except TurnsError as error:
        raise PlanError(f"model {model.path}: {error}") from None
    except UserError as error:
        return f"turns not checked: {error}"
    return f"turns of {model.path}: known"


def check_teacher(teacher: ModelTeacher):
    """It has a chat template; one whose tokenizer is not at hand is not checked."""
    try:
        template = load_tokenizer(teacher.path, teacher.revision).chat_template
    except UserError:
        return
    if template is None:
        raise PlanError(
            f"teacher {teacher.path}: has no chat template, expected a model that was trained to answer"
        )


def check_trainers(profile: Profile) -> str:
    """TRL accepts its configurations, as one process that takes all micro-batches: here there is no other."""
    launch = profile.launch.model_copy(update={"processes": 1, "machines": 1})
    with TemporaryDirectory() as folder:
        try:
            if profile.sft is not None:
                sft_config(profile.sft, launch, Path(folder), seed=0)
            for arm in profile.rl.arms:
                rl_config(arm, profile.rl, launch, Path(folder), max_tokens=profile.rollout, seed=0)
        except (ValueError, TypeError, ImportError) as error:
            raise PlanError(f"TRL refuses the settings: {' '.join(str(error).split())}") from None
    return f"TRL builds SFTConfig, and DeGRPOConfig for {', '.join(profile.rl.arms)}, as one process"


def check_vllm(profile: Profile, shape: Shape, gpu: GPU) -> str:
    """vLLM has room for its weights and for one sequence of all the model's positions."""
    given, weights = profile.rl.vllm_memory * gpu.memory, BFLOAT16 * shape.parameters
    room, sequence = given - weights - VLLM_EXTRA, shape.kv_bytes * shape.context
    if room < sequence:
        raise PlanError(
            f"rl.vllm_memory={profile.rl.vllm_memory}: {given / GB:.1f} GB of a {gpu.name}; vLLM needs "
            f"{weights / GB:.1f} GB of weights, {VLLM_EXTRA / GB:.1f} GB of its own, and starts only if one "
            f"sequence of vllm_max_model_length={shape.context} tokens fits, {sequence / GB:.2f} GB"
        )
    return f"vLLM holds its weights and one sequence: {shape.context:,} tokens in {room / GB:.1f} GB"


@dataclass(frozen=True)
class Plan:
    """A planned run and its tables. Hours are wall-clock, memory is in GB (1e9 bytes) per GPU."""

    profile: Profile
    gpu: GPU
    price: float
    assumptions: Assumptions
    shape: Shape
    checks: list[str]
    work: list[Work]

    @cached_property
    def stages(self) -> pd.DataFrame:
        """By stage: processes, answers or rows, their mean length, the share cut off, tokens in millions."""
        columns = {
            "processes": [w.processes for w in self.work],
            "rows or answers": [w.rows for w in self.work],
            "mean tokens": [w.length.mean for w in self.work],
            "cut off": [w.length.capped for w in self.work],
            "tokens in, M": [(w.rows * w.prompt + w.tokens * (w.kind == "sft")) / 1e6 for w in self.work],
            "tokens out, M": [w.tokens * (w.kind != "sft") / 1e6 for w in self.work],
        }
        return pd.DataFrame(columns, [w.stage for w in self.work])

    @cached_property
    def hours(self) -> pd.DataFrame:
        """By stage and for all: floor, as configured, and what others measured (low, high)."""
        rows = [stage_seconds(w, self.profile, self.shape, self.gpu) for w in self.work]
        table = pd.DataFrame(rows, self.stages.index, LEVELS) / 3600
        table.loc["all"] = table.sum()
        return table

    def step(self, ways: Ways = AS_IT_IS) -> Step:
        """A typical step of RL, see `steps.rl_step`."""
        answers, prompt = next((w.answers, w.prompt) for w in self.work if w.answers is not None)
        return rl_step(answers, self.profile, self.shape, self.gpu, prompt=prompt, ways=ways)

    @cached_property
    def losses(self) -> pd.DataFrame:
        """What one RL run loses above its floor, by name, the largest first: seconds a step, hours in all."""
        seconds = pd.Series(self.step().losses).sort_values(ascending=False)
        seconds = seconds[seconds > 0.01]  # a zero is often rounded to less
        return pd.DataFrame({"seconds a step": seconds, "hours": seconds * self.profile.rl.steps / 3600})

    @property
    def dollars(self) -> pd.Series:
        """Of all stages at each level of `hours`; a stage pays for the GPUs that work in it."""
        return self.hours.drop("all").mul(self.price * self.stages["processes"], axis=0).sum()

    @cached_property
    def memory(self) -> pd.DataFrame:
        """By part: warm-up, and the phases of an RL step, every answer as long as its limit allows."""
        profile, launch = self.profile, self.profile.launch
        longest = profile.longest("distill"), profile.rollout
        taught, sampled = (tokens + self.assumptions.longest_prompt for tokens in longest)
        phases = rl_memory(self.shape, launch, profile.rl, sampled, self.gpu.memory)
        if profile.sft is not None:
            rows = profile.sft.micro_batch or profile.sft.batch_size // launch.processes
            phases = {"warm-up": training_memory(self.shape, launch, rows, taught), **phases}
        table = pd.DataFrame(phases).div(GB)
        table.loc["sum"] = table.sum()
        return table

    @property
    def disk(self) -> pd.Series:
        """GB by part. A model is 4 P bytes (2 P as published); a checkpoint 12 P with Adam's moments: two are
        kept and a third is being written while a training runs. Text takes about 4 bytes a token, and a token
        to train on 8, with its label. What the hub keeps of open data comes on top."""
        one = 4.0 * self.shape.parameters
        teachers = {w.teacher.path for w in self.work if isinstance(w.teacher, ModelTeacher)}
        taught = sum(w.tokens for w in self.work if w.kind == "sft")
        parts = {
            "the hub's cache": 2.0 * sum(shape_of(path).parameters for path in {self.shape.name} | teachers),
            "base model": one / 2,
            "warm-up: model and its start": 2 * one,
            "models of RL": one * sum(w.kind == "rl" for w in self.work),
            "checkpoints of one training": 9 * one,
            "answers as they came, and in pairs": 2 * 4 * taught,
            "the same while pairs and rows are made": 3 * 4 * taught,
            "tokens of the warm-up": 8 * taught,
            "completions of evaluation": 4 * sum(w.tokens for w in self.work if w.kind == "eval"),
        }
        return pd.Series(parts).div(GB)

    def notes(self) -> Iterator[str]:
        """Warnings of what the tables alone would hide, in one sentence or two each."""
        profile, gpu, limit = self.profile, self.gpu, self.profile.longest("distill")
        for work in self.work:
            if isinstance(teacher := work.teacher, ModelTeacher):
                context = shape_of(teacher.path, teacher.revision).context
                if context < limit + self.assumptions.longest_prompt:
                    yield (
                        f"{work.stage}: {teacher.path} was made for {context:,} positions, so its answers "
                        f"end there and not at distill.max_tokens={limit}."
                    )
        if profile.rl.engine == "server":
            yield f"The GPUs of rl.server={profile.rl.server} come on top, in price and in number."
        if profile.launch.processes > 1:
            yield "Before a bill like this: `thinkless train --profile sanity`, two hours on one GPU."
        if idle := [w.stage for w in self.work if w.rows and w.processes < profile.launch.processes]:
            yield f"{', '.join(idle)}: one process. Whoever rents all GPUs together pays for all."
        longest, steps = profile.rollout, profile.rl.steps
        seconds = longest * BFLOAT16 * self.shape.matmul / gpu.bandwidth
        yield (
            f"Every RL step waits for its longest answer: {longest:,} tokens take at least {seconds:.0f} s, "
            f"{seconds * steps / 3600:.1f} h over {steps} steps, on any number of GPUs."
        )
        whole, carried = self.step(), self.step(Ways(carried=True))
        yield (
            f"RL is at {whole.floor / whole.seconds:.0%} of its floor. If answers that have not ended went "
            f"on in the next step, it would be {carried.floor / carried.seconds:.0%}; TRL's GRPOTrainer has "
            "no option for that, and its experimental AsyncGRPOTrainer neither a KL nor these advantages."
        )
        for phase, size in self.memory.loc["sum"].items():
            if size > gpu.memory / GB:
                yield (
                    f"{phase} needs {size:.0f} GB and a {gpu.name} has {gpu.memory / GB:.0f}: lower "
                    "micro_batch or max_tokens, or set launch.sharding or launch.gradient_checkpointing."
                )


def _text(table: pd.DataFrame) -> str:
    """A table in three digits, and without decimals from 100 on."""
    return table.to_string(na_rep="", float_format=lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.3g}")


def _spent(plan: Plan) -> str:
    """The hours of one RL run and the three largest losses in a sentence each, and all losses."""
    step, largest = plan.step(), plan.losses["hours"].head(3)
    hours = plan.profile.rl.steps / 3600
    told = "; ".join(f"{name} {lost:.1f} h" for name, lost in largest.items())
    return (
        f"As configured {hours * step.seconds:.1f} h, hardware floor {hours * step.floor:.1f} h: "
        f"{step.floor / step.seconds:.0%} of the floor. Largest losses: {told}.\n{_text(plan.losses)}"
    )


def as_text(plan: Plan) -> str:
    """The whole plan, section by section."""
    launch, shape, profile = plan.profile.launch, plan.shape, plan.profile.name
    assumed = pd.Series(plan.assumptions.model_dump(), dtype=float)
    cost = pd.concat([plan.hours, plan.dollars.to_frame("dollars").T])
    sections = {
        f"Plan of {profile} on {launch.processes} x {plan.gpu.name}, {launch.machines} machine(s)": (
            f"{shape.name}, {shape.parameters:,} parameters, {shape.kv_bytes:,} bytes of cache per token"
        ),
        "Assumed (tokens before any limit; change with --assume)": _text(assumed.to_frame("")),
        "What runs where": _text(plan.stages),
        f"Hours, and dollars if a GPU costs {plan.price:g} an hour": _text(cost),
        f"Where {plan.profile.rl.steps} steps of RL go (a model, not measured)": _spent(plan),
        f"Memory per process in GB, sharding {launch.sharding}": _text(plan.memory),
        "Disk in GB": _text(plan.disk.to_frame("")),
        "Checked on this machine": "\n".join(plan.checks),
        "Notes": "\n".join(f"- {note}" for note in plan.notes()),
    }
    return "\n\n".join(f"{title}\n{'-' * len(title)}\n{body}" for title, body in sections.items())
