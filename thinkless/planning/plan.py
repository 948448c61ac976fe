"""A run before it is run: what goes where, what it reads and writes, how long, how big, and at what price.

``python -m thinkless plan --profile h100x4`` prints it (`text.py`); a chapter calls `make_plan`
and shows its tables. Nothing is trained, no weights and no GPU are needed. Every number is arithmetic on the
profile, on `workload.Assumptions` and on data sheets; where this project has measured a stage, the record
stands beside.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from thinkless.modes import Mode
from thinkless.planning import memory as sizes
from thinkless.planning.hardware import GB, GPU, GPUS, PlanError, Shape, model_shape, shape_of
from thinkless.planning.preflight import Check, check
from thinkless.planning.timing import measured, stage_hours
from thinkless.planning.workload import Assumptions, Work, assume, limit, works
from thinkless.runs.profiles import available_profiles, load_profile
from thinkless.runs.runner import Stage
from thinkless.runs.settings import ModelTeacher, PretrainedModel, Profile

PRICE = 3.0
"""Dollars per GPU and hour: an assumption, not an offer."""
CARDS = (24, 40, 80)
"""Gigabytes of the GPUs that a plan is held against."""
RESULTS = Path(__file__).parents[2] / "results"


@dataclass(frozen=True)
class Plan:
    """The tables of a plan. Hours are wall-clock, memory is in GB (1e9 bytes) per GPU."""

    profile: Profile
    gpu: GPU | None
    shape: Shape
    assumptions: Assumptions
    price: float
    stages: pd.DataFrame
    """By stage: chapter, processes, machines, answers or rows, tokens in and out."""
    commands: pd.Series
    hours: pd.DataFrame
    """By stage and for all: floor, tuned, others (low, high), and ours where it was measured."""
    dollars: pd.DataFrame
    memory: pd.DataFrame
    """By part: warm-up, and the phases of an RL step."""
    fits: pd.DataFrame
    """By sharding: the peak, and whether it fits on each of `CARDS`."""
    disk: pd.Series
    """GB by part."""
    checks: list[Check]


def default_gpu(profile: Profile) -> str:
    """The GPU that a profile is planned for: none for a model made here, else a 24 GB card for one process
    and an H100 for several."""
    if profile.model.kind == "scratch":
        return "cpu"
    return "rtx4090" if profile.launch.processes == 1 else "h100"


def make_plan(
    profile: Profile,
    stages: Sequence[Stage],
    *,
    gpu: str | None = None,
    price: float = PRICE,
    assumptions: Mapping[str, Any] | None = None,
    options: str = "",
    results: Path = RESULTS,
) -> Plan:
    """Plan every stage of `profile` on `gpu`, a key of `hardware.GPUS` or "cpu".

    `assumptions` changes `workload.Assumptions` by name; `options` goes behind every command; `results` holds
    records, which count for a profile without overrides. Raises PlanError, in one line, for what cannot run.
    """
    gpu = gpu or default_gpu(profile)
    if gpu not in (*GPUS, "cpu"):
        raise PlanError(f"gpu={gpu!r}: expected one of {', '.join(GPUS)}, or cpu")
    if not price >= 0:
        raise PlanError(f"price={price}: expected dollars per GPU and hour, 0 or more")
    card, assumed = GPUS.get(gpu), assume(profile, assumptions)
    shape = model_shape(profile.model, context=1024)
    checks = check(profile, shape, card, assumed)
    work = works(profile, stages, assumed)
    hours = pd.DataFrame(
        [asdict(stage_hours(w, profile, shape, card, assumed)) for w in work], [w.stage for w in work]
    )
    shipped = profile.name in available_profiles() and profile == load_profile(profile.name)
    ours = measured(profile.name, results) if shipped else {}
    hours["ours"] = [ours.get(w.stage, math.nan) for w in work]
    memory = memory_table(profile, shape, assumed, card.memory if card else 0.0)
    return Plan(
        profile,
        card,
        shape,
        assumed,
        price,
        stages=_stages(work),
        commands=commands(profile, work, options),
        hours=_with_total(hours),
        dollars=_with_total(hours.mul([price * w.processes for w in work], axis=0)),
        memory=memory,
        fits=fit_table(profile, shape, assumed),
        disk=_disk(profile, shape, work),
        checks=checks,
    )


def commands(profile: Profile, work: Sequence[Work], options: str = "") -> pd.Series:
    """What to type: for a stage, for all, for a chapter. On several machines it is the same on each, with the
    machine's own NODE_RANK."""
    each = "NODE_RANK=<k> MASTER_ADDR=<machine 0> " if profile.launch.machines > 1 else ""
    tail = f"--profile {profile.name} {options}".rstrip()
    lines = {w.stage: f"{each}python -m thinkless stage {w.stage} {tail}" for w in work}
    lines["all stages"] = f"{each}python -m thinkless train {tail}"
    lines["one chapter"] = f"papermill notebooks/{work[-1].chapter}.ipynb out.ipynb -p profile {profile.name}"
    return pd.Series(lines, name="command")


def memory_table(profile: Profile, shape: Shape, a: Assumptions, memory: float) -> pd.DataFrame:
    """GB per process by part, of the warm-up and of the phases of an RL step; `memory.py` has the formulas.

    The worst case: every answer as long as its limit allows. `memory` is the GPU's in bytes, 0 on a CPU.
    """
    launch, sft, rl = profile.launch, profile.sft, profile.rl
    micro_batch = sft.micro_batch or sft.batch_size // launch.processes
    row = limit(profile, "distill") + a.longest_prompt
    columns = {"warm-up": sizes.supervised_memory(shape, launch, micro_batch, row)}
    phases = sizes.rl_memory(shape, launch, rl, limit(profile, "rl") + a.longest_prompt, memory)
    columns |= {f"RL: {phase}": parts for phase, parts in phases.items()}
    table = pd.DataFrame(columns).div(GB)
    order = dict.fromkeys(part for parts in columns.values() for part in parts)
    table = table.loc[[part for part in order if memory or part != "CUDA context"]]
    table.loc["sum"] = table.sum()
    return table


def fit_table(profile: Profile, shape: Shape, a: Assumptions) -> pd.DataFrame:
    """Peaks of warm-up and RL in GB, and whether they fit, by sharding and for each size in `CARDS`.

    vLLM takes a share of the GPU, so its peak grows with the card; it also has to hold one full answer.
    """
    answer = shape.kv_bytes() * (limit(profile, "rl") + a.longest_prompt)
    rows = {}
    for sharding in ("none", "fsdp2") if profile.launch.processes > 1 else ("none",):
        launch = profile.launch.model_copy(update={"sharding": sharding})
        sharded = profile.model_copy(update={"launch": launch})
        for card in CARDS:
            peaks = memory_table(sharded, shape, a, card * GB).loc["sum"]
            room = sizes.vllm_room(shape, card * GB, profile.rl.vllm_memory)
            answers = max(room, 0) / answer if profile.rl.engine == "vllm" else math.nan
            rows[sharding, f"{card} GB"] = {
                "warm-up": peaks["warm-up"],
                "RL": peaks.drop("warm-up").max(),
                "full answers in vLLM": answers,
                "fits": peaks.max() <= card and not answers < 1,
            }
    return pd.DataFrame(rows).T.rename_axis(["sharding", "GPU"])


def _disk(profile: Profile, shape: Shape, work: Sequence[Work]) -> pd.Series:
    teachers = [getattr(profile.distill, mode.label) for mode in Mode]
    models = [one for one in (profile.model, *teachers) if isinstance(one, PretrainedModel | ModelTeacher)]
    fetched = [shape_of(path) for path in sorted({model.path for model in models})]
    text = {
        "distilled pairs": sum(w.rows * w.length.mean for w in work if w.stage == "sft"),
        "completions of evaluation": sum(w.tokens_out for w in work if w.kind == "evaluation"),
    }
    runs = sum(w.kind == "rl" for w in work)
    return pd.Series(sizes.disk(shape, runs, fetched, text)).div(GB)


def _stages(work: Sequence[Work]) -> pd.DataFrame:
    rows = {
        w.stage: {
            "chapter": w.chapter,
            "processes": w.processes,
            "machines": w.machines,
            "rows or answers": w.rows,
            "mean tokens": w.length.mean,
            "cut off": w.length.capped,
            "tokens in": w.tokens_in,
            "tokens out": w.tokens_out,
        }
        for w in work
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _with_total(table: pd.DataFrame) -> pd.DataFrame:
    """With a last row `all`, which is NaN where a stage's number is."""
    return pd.concat([table, table.sum(skipna=False).to_frame("all").T])
