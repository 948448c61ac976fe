"""Rows for supervised training: in which order, and as tokens on disk.

They are made once, by one process, before a training begins. All its processes then read the same files,
which the operating system maps into memory: a million pairs are five billion tokens.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

UNLEARNED = -100
"""The label of a token that is read and not learned."""
ROWS = "rows"
"""Folder of a supervised training's tokens, in the stage's."""
MANY = 200_000
"""Rows from which on all cores tokenize; the textbook of a laptop takes one of them a few seconds."""


def in_batches_of_similar_length(
    rows: Dataset, lengths: Sequence[int], batch_size: int, *, seed: int
) -> Dataset:
    """`rows` reordered so that each consecutive batch holds rows of similar length.

    Rows only move within windows of 50 batches, and the batches of a window are shuffled, so a
    curriculum stays in order and short batches stay mixed with long ones. A sort is stable: rows of
    equal length keep their neighbours.
    """
    # a window of 50 batches: enough rows to find neighbours in, and few enough to keep a curriculum
    window, rng, order = 50 * batch_size, np.random.default_rng(seed), []
    for start in range(0, len(rows), window):
        stop = min(start + window, len(rows))
        indices = start + np.argsort(lengths[start:stop], kind="stable")  # by length, within the window
        batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
        rng.shuffle(full := batches[: len(indices) // batch_size])  # a last, smaller batch stays last
        order += [int(i) for batch in [*full, *batches[len(full) :]] for i in batch]
    return rows.select(order)


def in_micro_batches_of_one_mode(
    rows: Dataset, *, batch_size: int, micro_batch: int, processes: int
) -> Dataset:
    """`rows`, of which a question's two are adjacent, so that a micro-batch holds one mode and so rows of
    similar length, and all processes get the same one at a time: think rows, then the short rows of the same
    questions. With one row each and dealt out in turn, the first process would get nothing but think rows.

    Every update keeps its rows; where it cannot be divided so, they stay as they are.
    """
    block = micro_batch * processes
    if batch_size % (2 * block):
        return rows
    whole = len(rows) // (2 * block) * (2 * block)
    order = np.arange(len(rows))
    order[:whole] = order[:whole].reshape(-1, block, 2).swapaxes(1, 2).ravel()  # (blocks, 2 modes, block)
    return rows.select(order)


def save_tokens(rows: Dataset, tokenizer: PreTrainedTokenizerBase, folder: Path):
    """Write `rows` (`prompt`, `completion`, maybe `ended`) as `input_ids` and `labels`, (T,) each, so that
    `folder` is complete or absent.

    Only completions are learned, and an end token stands behind each but those that have not `ended`: with
    one, the student would learn to stop where its teacher was cut off.
    """
    end = tokenizer.eos_token

    def tokens(batch: dict[str, list]) -> dict[str, list]:
        prompts, answers = batch["prompt"], batch["completion"]
        whole = batch.get("ended", [True] * len(answers))
        texts = [
            prompt + answer + end * (ended and not answer.endswith(end))
            for prompt, answer, ended in zip(prompts, answers, whole, strict=True)
        ]
        result: dict[str, list] = {"input_ids": [], "labels": []}
        for prompt, ids in zip(tokenizer(prompts).input_ids, tokenizer(texts).input_ids, strict=True):
            start = common_start(prompt, ids)
            result["input_ids"].append(np.array(ids, np.int32))
            result["labels"].append(np.array([UNLEARNED] * start + ids[start:], np.int32))
        return result

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    integers = List(Value("int32"))
    rows.map(
        tokens,
        batched=True,
        batch_size=200,
        remove_columns=rows.column_names,
        features=Features({"input_ids": integers, "labels": integers}),
        num_proc=os.cpu_count() if len(rows) >= MANY else None,
        cache_file_name=str(partial / "rows.arrow"),
    )
    partial.rename(folder)


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common: a prompt's last may have joined the answer."""
    together = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(together) if a != b), min(len(one), len(other)))


def load_tokens(folder: Path) -> Dataset:
    """The rows that `save_tokens` has written, in its order. They stay on disk."""
    return concatenate_datasets([Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))])
