"""A plan as a page of text for the terminal, and the remarks that its tables alone would hide."""

import math
from collections.abc import Iterable
from dataclasses import asdict

import pandas as pd

from thinkless.planning.hardware import BFLOAT16, GB, shape_of
from thinkless.planning.plan import Plan
from thinkless.planning.workload import limit
from thinkless.runs.settings import ModelTeacher


def notes(plan: Plan) -> list[str]:
    """What to know before the run, one sentence or two each."""
    return [*_teachers(plan), *_server(plan), *_idle(plan), *_slowest_answer(plan), *_too_big(plan)]


def _teachers(plan: Plan) -> Iterable[str]:
    for mode in ("think", "short"):
        teacher, cap = getattr(plan.profile.distill, mode), limit(plan.profile, "distill")
        if not isinstance(teacher, ModelTeacher):
            continue
        context = shape_of(teacher.path, teacher.revision).context
        if context < cap + plan.assumptions.longest_prompt:
            yield (
                f"distill.{mode}: {teacher.path} was made for {context:,} positions, so its answers end "
                f"there and not at distill.max_tokens={cap}."
            )


def _server(plan: Plan) -> Iterable[str]:
    if plan.profile.rl.engine == "server":
        yield f"The GPUs of rl.server={plan.profile.rl.server} come on top, in price and in number."


def _idle(plan: Plan) -> Iterable[str]:
    processes = plan.profile.launch.processes
    idle = plan.stages[(plan.stages["processes"] < processes) & (plan.stages["tokens out"] > 0)]
    if not idle.empty:
        yield (
            f"{', '.join(idle.index)}: one process. The price counts its GPU only; whoever rents "
            f"{processes} together pays for all."
        )


def _slowest_answer(plan: Plan) -> Iterable[str]:
    """The share of a step's floor that no further GPU shortens."""
    runs = plan.stages[plan.stages["chapter"] == "05_rl"]
    if plan.gpu is None or runs.empty:
        return
    cap = limit(plan.profile, "rl")
    seconds, steps = cap * BFLOAT16 * plan.shape.matmul / plan.gpu.bandwidth, plan.profile.rl.steps
    yield (
        f"Every RL step waits for its longest answer: {cap:,} tokens take at least {seconds:.0f} s, "
        f"{seconds * steps / 3600:.1f} h over {steps} steps, on any number of GPUs."
    )


def _too_big(plan: Plan) -> Iterable[str]:
    if plan.gpu is None:
        return
    for phase, size in plan.memory.loc["sum"].items():
        if size > plan.gpu.memory / GB:
            yield (
                f"{phase} needs {size:.0f} GB and a {plan.gpu.name} has {plan.gpu.memory / GB:.0f}: lower "
                "micro_batch or max_tokens, or set launch.sharding or launch.gradient_checkpointing."
            )


def _count(value: float) -> str:
    """A count in three digits: 950, 12.3k, 4.6M, 2.8B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.0f}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3f}"


def _levels(table: pd.DataFrame) -> str:
    """Hours or dollars by stage; the two ends of what others measured as one column."""
    shown = pd.DataFrame(index=table.index)
    for name in ("floor", "tuned"):
        shown[name] = table[name].map(_number)
    both = zip(table["others_low"], table["others_high"], strict=True)
    shown["measured by others"] = [
        _number(low) if low == high or math.isnan(low) else f"{_number(low)} - {_number(high)}"
        for low, high in both
    ]
    shown["ours"] = ["not yet measured" if math.isnan(value) else _number(value) for value in table["ours"]]
    return shown.to_string()


def _pairs(rows: Iterable[tuple[str, object]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _stages(plan: Plan) -> str:
    table = plan.stages.copy()
    for name in ("rows or answers", "mean tokens", "tokens in", "tokens out"):
        table[name] = table[name].map(_count)
    table["cut off"] = table["cut off"].map("{:.1%}".format)
    return table.to_string()


def _fits(plan: Plan) -> str:
    table = plan.fits.copy()
    for name in ("warm-up", "RL", "full answers in vLLM"):
        table[name] = table[name].map(_number)
    table["fits"] = table["fits"].map({True: "yes", False: "no"})
    return table.to_string()


def as_text(plan: Plan) -> str:
    """The whole plan, section by section."""
    launch, shape = plan.profile.launch, plan.shape
    gpu = "CPU" if plan.gpu is None else f"{launch.processes} x {plan.gpu.name}"
    model = (
        f"{shape.name}: {shape.parameters / 1e6:,.1f} M parameters, {shape.matmul / 1e6:,.1f} M in matrix "
        f"products, {shape.kv_bytes():,} bytes of keys and values per token (bfloat16)"
    )
    assumed = _pairs(
        [(name, f"{value:,.6g}") for name, value in asdict(plan.assumptions).items() if name != "exact"]
        + ([("dollars per GPU and hour", f"{plan.price:g}")] if plan.gpu else [])
    )
    memory = plan.memory.map(lambda value: "" if math.isnan(value) else _number(value))
    rented = [
        (f"Dollars, if a GPU costs {plan.price:g} an hour", _levels(plan.dollars)),
        ("Peak in GB by sharding and size of the GPU", _fits(plan)),
    ]
    sections = (
        (f"Plan of {plan.profile.name} on {gpu}, {launch.machines} machine(s)", model),
        ("Assumed (tokens before any limit; change with --assume)", assumed),
        ("What runs where", _stages(plan)),
        ("Commands", _pairs(plan.commands.items())),
        ("Hours", _levels(plan.hours)),
        *(rented if plan.gpu else []),
        (
            f"Memory per process in GB, sharding {launch.sharding}, answers at full length",
            memory.to_string(),
        ),
        ("Disk in GB", _pairs((name, _number(size)) for name, size in plan.disk.items())),
        ("Built and checked on this machine", _pairs(plan.checks)),
        ("Notes", "\n".join(f"- {note}" for note in notes(plan)) or "none"),
    )
    return "\n\n".join(f"{title}\n{'-' * len(title)}\n{body}" for title, body in sections)
