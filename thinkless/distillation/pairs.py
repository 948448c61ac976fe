"""Two teachers answer the same questions; their answers, right or wrong, become the warm-up data.

For each question the short teacher gives a direct answer and the long teacher a worked one (section
3.1 of arXiv 2505.13379). Being right is recorded, not required: the student should inherit its
teachers' real abilities, since those are what it will have to judge. Answers are stored as they
arrive, so a killed run goes on where it was.
"""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, Features, Value, load_from_disk

from thinkless.distillation.gate import fault
from thinkless.distillation.store import AnswerFile, collect
from thinkless.files import digest
from thinkless.generation import Completion, Generator
from thinkless.modes import Mode
from thinkless.problems import in_words
from thinkless.rewards import judge

ROW = {"prompt": "string", "completion": "string", "ended": "bool"}
"""The columns of a training row, and their types."""


@dataclass(frozen=True)
class Teacher:
    """A generator together with the way it is asked."""

    generator: Generator
    mode: Mode
    """The mode whose answers it writes."""
    ask: Callable[[str], str] = lambda words: words
    """Turns a question in words into the teacher's prompt: by a chat template, or a textbook's cue."""
    name: str = "unnamed"
    """What the data set's card calls it; answers of another name are not taken for its own."""
    max_tokens: int | None = None
    """A length limit of its own; None takes the one that `distill` is given."""


def distill(
    problems: Dataset,
    teachers: Sequence[Teacher],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    folder: Path | None = None,
) -> Dataset:
    """Answers of every teacher to every problem, one row per problem.

    Adds, for each mode m: `m_response` (text after the control token), `m_correct` (None where the
    problem's `answer` is None), `m_tokens`, `m_finished`, and `m_fault`, which of `gate.REASONS` keeps it
    from the training (None if none does). Nothing is dropped; see `gate.keep_pairs`.

    `folder` keeps the answers, `think.jsonl` and `short.jsonl`, for a run that is resumed there; the
    same arguments give the same rows whether or not it was. The rows are read from `*.arrow` beside them.
    Raises OSError naming the file if the disk is full, and what the engine raises if it is gone; either way
    what arrived is kept.
    """
    with ExitStack() as stack:
        folder = Path(folder or stack.enter_context(TemporaryDirectory()))
        questions, asked = list(problems["question"]), in_words(problems)
        for teacher in teachers:
            limit = teacher.max_tokens or max_tokens
            answers = stack.enter_context(AnswerFile(folder / f"{teacher.mode.label}.jsonl"))
            keys = collect(
                answers,
                questions,
                [teacher.ask(words) for words in asked],
                teacher.generator,
                teacher.mode,
                teacher=teacher.name,
                max_tokens=limit,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
            )
            problems = _add_answers(problems, teacher.mode, answers, keys, limit, folder)
    return problems


def load_pairs(folder: Path) -> Dataset:
    """The pairs that `card.save_pairs` has written; earlier versions called the question `prompt`."""
    pairs = load_from_disk(folder)
    assert isinstance(pairs, Dataset)
    return pairs if "question" in pairs.column_names else pairs.rename_column("prompt", "question")


def sft_rows(
    pairs: Dataset,
    think_share: float = 0.5,
    seed: int = 0,
    ask: Callable[[str], str] = lambda words: words,
    file: Path | None = None,
    *,
    paired: bool = True,
) -> Dataset:
    """Two training rows per pair, `prompt`, `completion` and `ended`, the two modes of a question adjacent.

    `ask` turns a question in words into the student's prompt. The completion opens with the control token;
    behind one that has not `ended` no end token belongs.
    Adjacent rows of an even-sized batch keep the modes balanced in every single update, not only on average.
    Another `think_share` leaves out rows of the rarer mode at random, so that this share of the others is
    expected to think. Rows that are not `paired` are one per pair, of either mode in turn. They are kept in
    memory, or in `file`: a million pairs do not fit.
    """
    shares = {Mode.THINK: think_share, Mode.SHORT: 1 - think_share}
    rng = random.Random(f"balance-{seed}")
    kept = [
        [
            (paired or place == number % 2)
            and (think_share == 0.5 or rng.random() * max(shares.values()) < shares[mode])
            for place, mode in enumerate(Mode)
        ]
        for number in range(len(pairs))
    ]

    def rows(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        made = [
            (prompt, mode.value + batch[f"{mode.label}_response"][row], batch[f"{mode.label}_finished"][row])
            for row, (prompt, index) in enumerate(zip(map(ask, in_words(batch)), indices, strict=True))
            for mode, keep in zip(Mode, kept[index], strict=True)
            if keep
        ]
        return dict(zip(ROW, map(list, zip(*made, strict=True)) if made else ([], [], []), strict=True))

    return pairs.map(
        rows,
        with_indices=True,
        batched=True,
        remove_columns=pairs.column_names,
        features=Features({name: Value(kind) for name, kind in ROW.items()}),
        load_from_cache_file=False,
        **({"keep_in_memory": True} if file is None else {"cache_file_name": str(file)}),
    )


def _add_answers(
    problems: Dataset, mode: Mode, answers: AnswerFile, keys: list[str], limit: int, folder: Path
) -> Dataset:
    """The columns of one teacher, read from its file and written to `folder` row by row: all may not fit."""
    kinds = {
        "response": "string",
        "correct": "bool",
        "tokens": "int64",
        "finished": "bool",
        "fault": "string",
    }

    def columns(row: dict[str, Any], index: int) -> dict[str, Any]:
        answer = answers[keys[index]]
        text = mode.value + answer.response
        verdict = judge(Completion((), text, mode, math.nan, answer.finish_reason), row["answer"])
        values = {
            "response": answer.response,
            "correct": verdict.correct,
            "tokens": answer.tokens,
            "finished": answer.finish_reason == "stop",
            "fault": fault(mode, answer, limit),
        }
        return {f"{mode.label}_{name}": values[name] for name in kinds}

    return problems.map(
        columns,
        with_indices=True,
        features=Features(
            problems.features | {f"{mode.label}_{name}": Value(kind) for name, kind in kinds.items()}
        ),
        load_from_cache_file=False,
        cache_file_name=str(folder / f"{mode.label}.arrow"),
        new_fingerprint=digest(keys)[:16],
    )
