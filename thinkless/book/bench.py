"""What the stages of a finished pipeline took, against the least that their arithmetic takes.

``thinkless bench`` prints a table, and writes one line to `results/bench.jsonl`, in place of an earlier one
of these runs: that table, and after how many seconds of the processor, base model included, DeGRPO had sorted
the questions. Compare lines of one type of processor.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from thinkless.distillation.pairs import load_pairs
from thinkless.errors import StageError
from thinkless.evaluation import load_report
from thinkless.files import json_lines, write_json_lines
from thinkless.generation.chat_template import chat_prompt
from thinkless.models import load, load_tokenizer
from thinkless.runs.metrics import GROUPS, read_metrics
from thinkless.runs.runner import Runner
from thinkless.training.rows import ROWS, UNLEARNED, load_tokens

BENCH = "bench.jsonl"
SORTED = (0.1, 0.9)
"""Think rates that no level may lie between, with one below and one above, for the modes to be sorted."""
WINDOW = 5
"""Steps that these rates are means of."""


def matrix_rate(precision: str = "float32", size: int = 512, seconds: float = 0.5) -> float:
    """Floating-point operations per second of one thread in products of matrices of this precision."""
    one, threads = torch.rand(size, size).to(getattr(torch, precision)), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one @ one  # the first product of a kind prepares for the others
        done, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            one @ one
            done += 1
    finally:
        torch.set_num_threads(threads)
    return done * 2 * size**3 / spent


def tokens_of(runner: Runner, stage: str) -> tuple[float, float]:
    """Tokens of a finished stage: those of prompts, and those that it wrote or learned to write.

    A prompt counts once for all its answers, which is the least that has to be read. RL's prompts are
    estimated from the groups that it kept. NaN where no model here was at work, or its prompts are not known:
    teachers other than the base model, questions with an instruction, the choice alone, earlier versions.
    """
    folder, unknown = runner.folder(stage), (np.nan, np.nan)
    tokenizer, rl = load_tokenizer(runner.folder("sft") / "model"), runner.profile.rl

    def lengths(texts: Iterable[str]) -> list[int]:
        return list(map(len, tokenizer(list(texts), add_special_tokens=False).input_ids))

    if stage in ("base", "sft") and (folder / ROWS).exists():
        return _tokens_of_rows(load_tokens(folder / ROWS), shared=stage == "sft")
    if stage == "distill":
        teachers, pairs = runner.profile.distill, load_pairs(folder / "pairs")
        if {teachers.think.kind, teachers.short.kind} != {"cue"}:
            return unknown
        asked = sum(lengths(pairs["question"])) + len(pairs)  # with a cue each
        return 2 * asked, sum(pairs["think_tokens"]) + sum(pairs["short_tokens"])
    if stage.startswith("eval") and not getattr(runner.profile.problems, "instruct_evaluation", False):
        answers = load_report(folder / "answers.jsonl", rl.gamma).answers
        asked = answers.drop_duplicates(["number", "setting"])["question"]
        read = sum(lengths(chat_prompt(tokenizer, question) for question in asked))
        return read, int(answers["tokens"].sum())
    shown = [row["prompt"] for row in read_metrics(folder, GROUPS)]
    if not shown or rl.choice_only:
        return unknown
    written = [row["length"] for row in read_metrics(folder) if "length" in row]
    asked = len(written) * rl.prompts_per_step
    return round(np.mean(lengths(shown)) * asked), round(sum(written) * rl.prompts_per_step * rl.group_size)


def _tokens_of_rows(rows: Dataset, *, shared: bool) -> tuple[int, int]:
    """Tokens of the prompts of a supervised training, `shared` if all rows of a prompt count it once, and of
    what it learns. Rows may be many: they stay on disk."""
    read = learned = 0
    seen = set()
    for row in rows:
        new = sum(label != UNLEARNED for label in row["labels"])
        prompt = hash(tuple(row["input_ids"][:-new]))
        read += (len(row["input_ids"]) - new) * (not shared or prompt not in seen)
        learned += new
        seen.add(prompt)
    return read, learned


def passes(runner: Runner, stage: str) -> int:
    """Operations per weight and token: two for a forward pass, four for a backward one."""
    if stage in ("base", "sft"):
        return 6
    return 2 if not stage.startswith("rl") else 2 + 6 + 2 * (runner.profile.rl.beta > 0)


def weights_of(model: PreTrainedModel) -> tuple[int, int]:
    """Weights that every token is multiplied with, and those of the head, which scores what is written."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    others = {id(table): table, id(head): head}.values()  # one and the same where they are tied
    return model.num_parameters() - sum(map(torch.numel, others)), head.numel()


def table(runner: Runner, rate: float) -> pd.DataFrame:
    """By finished stage: seconds, seconds of the processor, tokens, those written per second of it, and the
    floor's share.

    The floor is the time that the products of the weights alone take at `rate` operations per second.
    """
    model, _ = load(runner.folder("sft") / "model")
    body, head = weights_of(model)
    rows = {}
    for stage in filter(runner.is_done, runner.stages):
        made, (read, written) = runner.manifest(stage), tokens_of(runner, stage)
        spent = made["cpu_seconds"]
        floor = passes(runner, stage) * (body * (read + written) + head * written) / rate
        rows[stage] = (made["seconds"], spent, read, written, written / spent, floor / spent)
    names = ["seconds", "CPU seconds", "read", "written", "written per CPU second", "floor, share"]
    return pd.DataFrame(rows, index=names).T


def sorted_at(history: list[dict[str, Any]]) -> int | None:
    """The first step at which every level's think rate is on its side of `SORTED`; None if there is none."""
    rates = pd.DataFrame(history).filter(like="think_rate/level").rolling(WINDOW, min_periods=1).mean()
    low, high = rates <= SORTED[0], rates >= SORTED[1]
    good = ((low | high).all(axis=1) & low.any(axis=1) & high.any(axis=1)).to_numpy()
    return int(np.argmax(good)) + 1 if good.any() else None


def _before(runner: Runner, stage: str) -> set[str]:
    """All stages that a stage depends on."""
    inputs = set(runner.stages[stage].inputs)
    return inputs.union(*(_before(runner, name) for name in inputs))


def record(runner: Runner) -> dict[str, Any]:
    """The line of a pipeline: when each DeGRPO run had sorted, in steps and in seconds from nothing."""
    runs = [name for name in runner.stages if name.startswith("rl-degrpo") and runner.is_done(name)]
    if not runs:
        raise StageError("no DeGRPO run of this pipeline is finished: run `thinkless train` first")
    found = []
    for name in runs:
        before = sum(runner.manifest(other)["cpu_seconds"] for other in _before(runner, name))
        history, spent = read_metrics(runner.folder(name)), runner.manifest(name)["cpu_seconds"]
        step = sorted_at(history)
        found.append(
            {"stage": name, "step": step, "cpu_seconds": step and round(before + spent * step / len(history))}
        )
    made = runner.manifest(runs[-1])
    where = {name: made[name] for name in ("commit", "finished", "hardware", "versions")}
    return {"profile": runner.profile.name, "seed": runner.seed, "runs": found, **where}


def bench(runner: Runner, results: Path):
    """Print the table, and write the line to `results`.

    Raises StageError if no DeGRPO run is finished.
    """
    line, path = record(runner), results / BENCH
    precision = runner.profile.launch.precision
    rate = matrix_rate(precision)
    print(f"products of matrices, {precision}: {rate / 1e9:.0f} GFLOP/s on one thread")
    took = table(runner, rate)
    print(took.round(3).to_string())
    for run in line["runs"]:
        when = f"step {run['step']}, {run['cpu_seconds']} CPU seconds from nothing"
        print(f"{run['stage']}: modes {f'sorted at {when}' if run['step'] else 'not sorted'}")
    stages = json.loads(took.round(4).to_json(orient="index"))
    measured = {"precision": precision, "matrix_gflops": round(rate / 1e9, 3), "stages": stages}
    known = [row.value for row in json_lines(path)] if path.exists() else []
    others = [row for row in known if not line.items() <= row.items()]
    write_json_lines(path, [*others, line | measured])
