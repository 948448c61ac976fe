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
from typing import Any, Literal

from datasets import Dataset, Features, Value, load_from_disk

from thinkless.distillation.store import AnswerFile, collect
from thinkless.files import digest
from thinkless.generation import Completion, Generator
from thinkless.modes import Mode
from thinkless.problems import in_words
from thinkless.rewards import judge

Overlong = Literal["drop", "clip"]
"""What becomes of a pair with an answer that was cut off at the length limit."""


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
    problem's `answer` is None), `m_tokens`, `m_finished`; and `short_thinks`, whether the short answer
    holds a thinking token. Nothing is dropped; see `keep_pairs`.

    `folder` keeps the answers, `think.jsonl` and `short.jsonl`, for a run that is resumed there; the
    same arguments give the same rows whether or not it was. Raises OSError naming the file if the disk
    is full, and what the engine raises if it is gone; either way what arrived is kept.
    """
    with ExitStack() as stack:
        folder = Path(folder or stack.enter_context(TemporaryDirectory()))
        questions, asked = list(problems["question"]), in_words(problems)
        for teacher in teachers:
            answers = stack.enter_context(AnswerFile(folder / f"{teacher.mode.label}.jsonl"))
            keys = collect(
                answers,
                questions,
                [teacher.ask(words) for words in asked],
                teacher.generator,
                teacher.mode,
                teacher=teacher.name,
                max_tokens=teacher.max_tokens or max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
            )
            problems = _add_answers(problems, teacher.mode, answers, keys)
    return problems


def load_pairs(folder: Path) -> Dataset:
    """The pairs that `card.save_pairs` has written; earlier versions called the question `prompt`."""
    pairs = load_from_disk(folder)
    assert isinstance(pairs, Dataset)
    return pairs if "question" in pairs.column_names else pairs.rename_column("prompt", "question")


def keep_pairs(pairs: Dataset, overlong: Overlong = "drop") -> Dataset:
    """The pairs to train on: those whose short answer does not think, and of the overlong ones none.

    With ``overlong="clip"`` a pair stays when an answer was cut off at the length limit, as in the
    paper; `sft_rows` says of each answer whether it ended.
    """

    def fit(think_finished: bool, short_finished: bool, short_thinks: bool) -> bool:
        return not short_thinks and (overlong == "clip" or (think_finished and short_finished))

    # `datasets` would hash the code of `fit` into the files, and with it into the keys of all later stages
    made_of = digest([pairs._fingerprint, overlong])[:16]
    columns = ["think_finished", "short_finished", "short_thinks"]
    return pairs.filter(fit, input_columns=columns, new_fingerprint=made_of)


def summary(pairs: Dataset, kept: Dataset) -> dict[str, Any]:
    """Counts of what was asked, dropped and kept, and the share of right answers among the kept.

    `pairs` from `distill`, `kept` from `keep_pairs`. The share is None where no problem has a known answer.
    """
    counts: dict[str, Any] = {
        "questions": len(pairs),
        "kept": len(kept),
        "short_thinks": sum(pairs["short_thinks"]),
    }
    for mode in Mode:
        counts[f"{mode.label}_overlong"] = len(pairs) - sum(pairs[f"{mode.label}_finished"])
        known = [right for right in kept[f"{mode.label}_correct"] if right is not None]
        counts[f"{mode.label}_correct"] = sum(known) / len(known) if known else None
    return counts


def sft_rows(
    pairs: Dataset,
    think_share: float = 0.5,
    seed: int = 0,
    ask: Callable[[str], str] = lambda words: words,
) -> Dataset:
    """Two training rows per pair, `prompt`, `completion` and `ended`, the two modes of a question adjacent.

    `ask` turns a question in words into the student's prompt. The completion opens with the control token;
    behind one that has not `ended` no end token belongs.
    Adjacent rows of an even-sized batch keep the modes balanced in every single update, not only on average.
    Another `think_share` leaves out rows of the rarer mode at random, so that this share of the others is
    expected to think.
    """
    shares = {Mode.THINK: think_share, Mode.SHORT: 1 - think_share}
    rng = random.Random(f"balance-{seed}")
    rows = [
        {
            "prompt": prompt,
            "completion": mode.value + pair[f"{mode.label}_response"],
            "ended": pair[f"{mode.label}_finished"],
        }
        for prompt, pair in zip(map(ask, in_words(pairs)), pairs, strict=True)
        for mode in Mode
        if think_share == 0.5 or rng.random() * max(shares.values()) < shares[mode]
    ]
    return Dataset.from_list(rows)


def _add_answers(problems: Dataset, mode: Mode, answers: AnswerFile, keys: list[str]) -> Dataset:
    """The columns of one teacher. They are read from its file row by row: all at once may not fit."""
    kinds = {"response": "string", "correct": "bool", "tokens": "int64", "finished": "bool"}
    kinds |= {"thinks": "bool"} if mode is Mode.SHORT else {}

    def columns(row: dict[str, Any], index: int) -> dict[str, Any]:
        answer = answers[keys[index]]
        text = mode.value + answer.response
        verdict = judge(Completion((), text, mode, math.nan, answer.finish_reason), row["answer"])
        values = {
            "response": answer.response,
            "correct": verdict.correct,
            "tokens": answer.tokens,
            "finished": answer.finish_reason == "stop",
            "thinks": verdict.fault == "thinks_in_short",
        }
        return {f"{mode.label}_{name}": values[name] for name in kinds}

    return problems.map(
        columns,
        with_indices=True,
        features=Features(
            problems.features | {f"{mode.label}_{name}": Value(kind) for name, kind in kinds.items()}
        ),
        load_from_cache_file=False,
        new_fingerprint=digest(keys)[:16],
    )
