"""The benchmarks of the paper: one table of where they live, one schema for all of them.

Every set comes as a `datasets.Dataset` with columns `question`, `answer`, `level`, `source` (the set's
name) and, if it is to be asked with one, `instruction`. Levels are MATH's 1-5 where a set has them; for
GSM8K the steps of the reference solution, 1-8, 8 standing for more; 0 where a set says nothing about
difficulty, so that a table by level has one row.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from thinkless.grading.text import last_boxes
from thinkless.problems.files import local_rows, place_of_set

log = logging.getLogger(__name__)

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}"
"""Follows the question in evaluation, as in the released code (`eval_configs/deepseek/minerva/utils.py`
of VainF/Thinkless). Its RL prompts go without."""

NO_LEVEL = 0
MOST_STEPS = 8


def gold_text(answer: Any) -> str:
    """A gold answer as text. Raises ValueError for anything but text and a finite number."""
    number = isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
    if not isinstance(answer, str) and not number:
        raise ValueError(f"answer is {answer!r}, expected text or a number")
    return str(answer).strip()


def _answer_column(row: dict[str, Any]) -> str:
    return gold_text(row["answer"])


def _boxed_in_solution(row: dict[str, Any]) -> str:
    boxes = last_boxes(str(row["solution"]))
    if not boxes:
        raise ValueError("solution has no complete \\boxed{}")
    return boxes[0]


def _after_hashes(row: dict[str, Any]) -> str:
    if not isinstance(row["answer"], str) or "####" not in row["answer"]:
        raise ValueError("answer has no ####")
    answer = row["answer"].rpartition("####")[2]
    return answer.strip()


def _math_level(row: dict[str, Any]) -> int:
    digit = re.search(r"\d", str(row["level"]))  # "Level 3", 3 or 3.0; MATH also has two "Level ?"
    return int(digit[0]) if digit else NO_LEVEL


def _solution_steps(row: dict[str, Any]) -> int:
    lines = [line for line in row["answer"].splitlines() if line.strip() and not line.startswith("####")]
    return min(max(len(lines), 1), MOST_STEPS)


@dataclass(frozen=True)
class ProblemSet:
    """The home of a benchmark, and the reading of its rows."""

    hub: str
    """Dataset repository on the Hugging Face hub."""
    revision: str
    """Commit of that repository."""
    split: str
    rows: int
    """Rows at that revision."""
    columns: tuple[str, ...]
    """The columns that a row must have; the first is the question."""
    answer: Callable[[dict[str, Any]], str] = _answer_column
    """Reads the gold answer; raises ValueError, saying what is wrong, if there is none to read."""
    level: Callable[[dict[str, Any]], int] = lambda row: NO_LEVEL
    config: str | None = None


_GSM8K = ProblemSet(
    hub="openai/gsm8k",
    revision="740312add88f781978c0658806c59bc2815b9866",
    config="main",
    split="test",
    rows=1_319,
    columns=("question", "answer"),
    answer=_after_hashes,
    level=_solution_steps,
)
PROBLEM_SETS = {
    "deepscaler": ProblemSet(
        hub="agentica-org/DeepScaleR-Preview-Dataset",
        revision="b6ae8c60f5c1f2b594e2140b91c49c9ad0949e29",
        split="train",
        rows=40_315,
        columns=("problem", "answer"),
    ),
    "aime_2024": ProblemSet(
        hub="HuggingFaceH4/aime_2024",
        revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        split="train",  # its only split, and a test set all the same
        rows=30,
        columns=("problem", "answer"),
    ),
    "math_500": ProblemSet(
        hub="HuggingFaceH4/MATH-500",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        split="test",
        rows=500,
        columns=("problem", "answer", "level"),
        level=_math_level,
    ),
    "minerva_algebra": ProblemSet(
        hub="EleutherAI/hendrycks_math",
        revision="21a5633873b6a120296cce3e2df9d5550074f4a3",
        config="algebra",
        split="test",
        rows=1_187,
        columns=("problem", "solution", "level"),
        answer=_boxed_in_solution,
        level=_math_level,
    ),
    "gsm8k": _GSM8K,
    "gsm8k_train": replace(_GSM8K, split="train", rows=7_473),
}
"""The sets by name. Revisions and row counts were read from public projects that pin the same commits
(several for each set, 2026-11-21); the hub itself was not within reach to confirm them."""


@dataclass(frozen=True)
class Counts:
    """The fate of the rows of a set."""

    read: int
    empty: int
    """Dropped: no question or no answer."""
    duplicates: int
    """Dropped: a question that came before."""
    kept: int


def load_problems(
    name: str, *, path: str | Path | None = None, limit: int | None = None, instruction: bool = False
) -> Dataset:
    """The problems of the set `name`, from the hub or from `path`; what was dropped is logged.

    `path`: a json, jsonl, parquet or csv file with the hub's columns, or a folder of them; of a folder
    the files named after the set or its split are read, where there are such, else those that name no split.
    `limit`: the first so many problems. `instruction`: ask every question with `INSTRUCTION`.

    Raises ValueError, in one line, for an unknown name, a missing file or column and for a row that
    cannot be read (with its file and line); ConnectionError if the hub is out of reach.
    """
    return read_problems(name, path=path, limit=limit, instruction=instruction)[0]


def read_problems(
    name: str,
    *,
    path: str | Path | None = None,
    folder: str | Path | None = None,
    limit: int | None = None,
    instruction: bool = False,
    revision: str | None = None,
) -> tuple[Dataset, Counts]:
    """As `load_problems`, and how many rows were read, dropped and kept.

    `folder`: one of several sets, in which this one must be; see `place_of_set`. `revision`: another commit
    of the hub than the one in `PROBLEM_SETS`.
    """
    if name not in PROBLEM_SETS:
        raise ValueError(f"unknown problem set {name!r}: expected one of {', '.join(PROBLEM_SETS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: expected at least 1, or None for all")
    problems = PROBLEM_SETS[name]
    if revision is not None:
        problems = replace(problems, revision=revision)
    if folder is not None:
        path = place_of_set(Path(folder), name, problems.split)
    rows = _hub_rows(name, problems) if path is None else local_rows(Path(path), name, problems.split)
    kept: dict[str, dict[str, Any]] = {}
    read = empty = 0
    for where, row in rows:
        read += 1
        question, answer, level = _read_row(where, row, problems)
        if not question or not answer:
            empty += 1
        elif question not in kept:
            kept[question] = {"question": question, "answer": answer, "level": level, "source": name}
            kept[question] |= {"instruction": INSTRUCTION} if instruction else {}
    if not kept:
        raise ValueError(f"{name}: no problem with an answer in {path or problems.hub}")
    counts = Counts(read, empty, duplicates=read - empty - len(kept), kept=len(kept))
    log.info("%s: %s", name, counts)
    if path is None and revision is None and read != problems.rows:
        log.warning("%s: %d rows on the hub, expected %d", name, read, problems.rows)
    return Dataset.from_list(list(kept.values())[:limit]), counts


def _read_row(where: str, row: Any, problems: ProblemSet) -> tuple[str, str, int]:
    missing = [column for column in problems.columns if not isinstance(row, dict) or column not in row]
    if missing:
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{where}: no column {', '.join(missing)}; found {found}")
    if any(row[column] is None or str(row[column]).strip().lower() == "nan" for column in problems.columns):
        return "", "", NO_LEVEL  # this is how tables write that there is no value
    question = row[problems.columns[0]]
    if not isinstance(question, str):
        raise ValueError(f"{where}: {problems.columns[0]} is {question!r}, expected text")
    try:
        texts = question.strip(), problems.answer(row)
        "".join(texts).encode()
        return *texts, problems.level(row)
    except UnicodeEncodeError as error:
        bad = error.object[error.start : error.end]
        raise ValueError(f"{where}: {bad!r} is no character, expected text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _hub_rows(name: str, problems: ProblemSet) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = load_dataset(problems.hub, problems.config, split=problems.split, revision=problems.revision)
    except (OSError, RuntimeError, ValueError) as error:  # offline, not cached, refused, gone
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConnectionError(
            f"cannot load {name} from {problems.hub} at {problems.revision[:8]} ({reason}): go online once, "
            "after which it is cached, or name a local file or folder as path"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield f"{problems.hub}: row {number}", row


def overlap(train: Dataset, test: Dataset) -> list[str]:
    """The questions of `test` that are also in `train`, but for case, spacing and punctuation."""

    def key(question: str) -> str:
        return re.sub(r"\\(?:left|right|[,;!])|[\s$.,;:?!]", "", question).casefold()

    known = {key(question) for question in train["question"]}
    return [question for question in test["question"] if key(question) in known]
