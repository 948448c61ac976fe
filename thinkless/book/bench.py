"""What the stages of a finished pipeline took, against the least that their arithmetic takes.

``thinkless bench`` prints a table, and appends one line to `results/bench.jsonl`: after how many seconds of
the processor, base model included, DeGRPO had sorted the questions. Compare lines of one type of processor.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from thinkless.distillation.pairs import load_pairs
from thinkless.errors import StageError
from thinkless.files import json_lines
from thinkless.models import load
from thinkless.runs.metrics import read_metrics
from thinkless.runs.runner import Runner
from thinkless.training.rows import ROWS, load_tokens

BENCH = "bench.jsonl"
SORTED = (0.1, 0.9)
"""Think rates that no level may lie between, with one below and one above, for the modes to be sorted."""
WINDOW = 5
"""Steps that these rates are means of."""


def matrix_rate(size: int = 512, seconds: float = 0.5) -> float:
    """Floating-point operations per second of one thread in products of float32 matrices."""
    one, threads = torch.rand(size, size), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            one @ one
            done += 1
    finally:
        torch.set_num_threads(threads)
    return done * 2 * size**3 / spent


def tokens_of(runner: Runner, stage: str) -> float:
    """Tokens that a finished stage has read or written, without prompts where it generates.

    NaN for a model that was published, or trained by a version that kept no rows, and for questions of RL.
    """
    folder = runner.folder(stage)
    if stage in ("base", "sft"):
        return sum(map(len, load_tokens(folder / ROWS)["input_ids"])) if (folder / ROWS).exists() else np.nan
    if stage == "distill":
        pairs = load_pairs(folder / "pairs")
        return sum(pairs["think_tokens"]) + sum(pairs["short_tokens"])
    if stage.startswith("eval"):
        return sum(line.value["tokens"] for line in json_lines(folder / "answers.jsonl"))
    if not stage.startswith("rl"):
        return np.nan
    rl = runner.profile.rl
    rows = [row["length"] for row in read_metrics(folder) if "length" in row]
    return round(sum(rows) * rl.prompts_per_step * rl.group_size)


def passes(runner: Runner, stage: str) -> int:
    """Operations per weight and token: two for a forward pass, four for a backward one."""
    if stage in ("base", "sft"):
        return 6
    return 2 if not stage.startswith("rl") else 2 + 6 + 2 * (runner.profile.rl.beta > 0)


def table(runner: Runner, rate: float) -> pd.DataFrame:
    """By finished stage: seconds, seconds of the processor, tokens per second of it, and the floor's share.

    The floor is the time that the products of the weights alone take at `rate` operations per second.
    """
    model, _ = load(runner.folder("sft") / "model")
    rows = {}
    for stage in filter(runner.is_done, runner.stages):
        made, tokens = runner.manifest(stage), tokens_of(runner, stage)
        spent = made["cpu_seconds"]
        floor = passes(runner, stage) * model.num_parameters() * tokens / rate
        rows[stage] = (made["seconds"], spent, tokens, tokens / spent, floor / spent)
    names = ["seconds", "CPU seconds", "tokens", "tokens per CPU second", "floor, share"]
    return pd.DataFrame(rows, index=names).T


def sorted_at(history: list[dict[str, Any]]) -> int | None:
    """The first step at which every level's think rate is on its side of `SORTED`; None if there is none."""
    rates = pd.DataFrame(history).filter(like="think_rate/level").rolling(WINDOW, min_periods=1).mean()
    low, high = rates <= SORTED[0], rates >= SORTED[1]
    good = ((low | high).all(axis=1) & low.any(axis=1) & high.any(axis=1)).to_numpy()
    return int(np.argmax(good)) + 1 if good.any() else None


def record(runner: Runner) -> dict[str, Any]:
    """The line of a pipeline: when each DeGRPO run had sorted, in steps and in seconds from nothing."""
    runs = [name for name in runner.stages if name.startswith("rl-degrpo") and runner.is_done(name)]
    if not runs:
        raise StageError("no DeGRPO run of this pipeline is finished: run `thinkless train` first")
    before = sum(runner.manifest(name)["cpu_seconds"] for name in ("base", "distill", "sft"))
    found = []
    for name in runs:
        history, spent = read_metrics(runner.folder(name)), runner.manifest(name)["cpu_seconds"]
        step = sorted_at(history)
        found.append(
            {"stage": name, "step": step, "cpu_seconds": step and round(before + spent * step / len(history))}
        )
    made = runner.manifest(runs[-1])
    where = {name: made[name] for name in ("commit", "finished", "hardware", "versions")}
    return {"profile": runner.profile.name, "seed": runner.seed, "runs": found, **where}


def bench(runner: Runner, results: Path):
    """Print the table, and append the line to `results` unless it is there.

    Raises StageError if no DeGRPO run is finished.
    """
    line, path = record(runner), results / BENCH
    rate = matrix_rate()
    print(f"products of matrices: {rate / 1e9:.0f} GFLOP/s on one thread")
    print(table(runner, rate).round(3).to_string())
    for run in line["runs"]:
        when = f"step {run['step']}, {run['cpu_seconds']} CPU seconds from nothing"
        print(f"{run['stage']}: modes {f'sorted at {when}' if run['step'] else 'not sorted'}")
    if not path.exists() or line not in [known.value for known in json_lines(path)]:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
