"""A teacher that has already answered: open data sets of a large model's reasoning, or of both modes.

`Recorded` is a generator that looks answers up. So open data goes the same way as a live teacher: the
length limit, the answer file, grading, the pairs. It reads the forms in which such sets come:

- OpenThoughts and most others: `conversations` (`from`, `value`) or `messages` (`role`, `content`);
- OpenR1-Math: `problem`, `answer`, and several `generations`, some of them not `is_reasoning_complete`;
- OpenThoughts-114k's `metadata`: `problem`, `deepseek_reasoning` and `_solution`, `ground_truth_solution`;
- the authors' pairs: `instruction` and an `output` that opens with its control token, two rows per question
  (VainF/Reasoning-SFT, readme, 3.; the set itself was not within our reach);
- our own pairs: `question`, `think_response` and `short_response` in one row.
"""

import glob
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value, load_dataset
from transformers import PreTrainedTokenizerBase

from thinkless.distillation.gate import text_fault
from thinkless.distillation.store import after_control_token
from thinkless.errors import StageError
from thinkless.files import json_lines
from thinkless.generation import Completion
from thinkless.grading import final_answer
from thinkless.models import is_path
from thinkless.modes import END_OF_THINKING, Mode
from thinkless.problems.benchmarks import gold_text

LEFT_OUT = (
    "filtered",
    "other_mode",
    "no_question",
    "several_turns",
    "empty",
    "no_thinking",
    "thinks_in_short",
    "unfinished",
    "wrong_marks",
    "duplicate",
)
"""Why a row is not used: not asked for; an answer in the other mode; an empty question; a longer
conversation; an answer that `gate.py` does not let pass; a question that came before."""

_ANSWERS = ("deepseek_reasoning", "generations", "messages", "conversations", "output", "think_response")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_NO_GOLD = {"", "nan", "proof", "notfound"}  # what NuminaMath writes where a problem has no gold answer
_MARKS = [  # of OpenThoughts-114k, and R1's own in their place
    (r"<\|begin_of_thought\|>", "<think>"),
    (r"\s*<\|end_of_thought\|>\s*", "\n</think>\n\n"),
    (r"<\|begin_of_solution\|>\s*", ""),
    (r"\s*<\|end_of_solution\|>", ""),
]


@dataclass(frozen=True)
class Record:
    """A question, its gold answer where one is known, and what the teacher wrote after the control token."""

    question: str
    answer: str | None
    response: str


def read_record(row: Mapping[str, Any], mode: Mode = Mode.THINK) -> Record | str:
    """The record of one mode in one row of a data set, or which of `LEFT_OUT` the row is.

    Raises ValueError or TypeError if the row is of no known form.
    """
    turns = [(_first(turn, "role", "from"), _first(turn, "content", "value") or "") for turn in _turns(row)]
    asked = [text for role, text in turns if _ROLES.get(role) == "user"]
    answered = [text for role, text in turns if _ROLES.get(role) == "assistant"]
    if len(asked) > 1 or len(answered) > 1:
        return "several_turns"
    question = _first(row, "problem", "question", "instruction") or "".join(asked)
    if not question.strip():
        return "no_question"
    paired = row.get(f"{mode.label}_response")
    text = _text(row, "".join(answered)) if paired is None else mode.value + paired
    gold = _gold(row)
    for part in (question, text, gold or ""):
        part.encode()  # half of a surrogate pair is a ValueError here, where the row is known
    if any(text.lstrip().startswith(other.value) for other in Mode if other is not mode):
        return "other_mode"
    response = after_control_token(text, mode)
    if mode is Mode.THINK and response == text and END_OF_THINKING not in text:
        return "no_thinking"  # neither begun nor ended
    if row.get(f"{mode.label}_finished") is False:
        return "unfinished"
    return text_fault(mode, response) or Record(question, gold, response)


def _turns(row: Mapping[str, Any]) -> list[Mapping[str, str]]:
    if all(row.get(name) is None for name in _ANSWERS):
        raise ValueError(f"expected one of the columns {', '.join(_ANSWERS)}, got {', '.join(row)}")
    return row.get("messages") or row.get("conversations") or []


def _text(row: Mapping[str, Any], answered: str) -> str:
    """All that the teacher wrote, between R1's marks; a thought without an end if it is not complete."""
    if thought := row.get("deepseek_reasoning"):
        return f"<think>\n{thought.strip()}\n</think>\n\n{(row['deepseek_solution'] or '').strip()}"
    if texts := row.get("generations"):
        complete = row.get("is_reasoning_complete") or [True] * len(texts)
        return next((text for text, ended in zip(texts, complete, strict=True) if ended), "<think>...")
    answered = _first(row, "output") or answered
    for mark, own in _MARKS:
        answered = re.sub(mark, own, answered)
    return answered


def _gold(row: Mapping[str, Any]) -> str | None:
    answer = _first(row, "answer", "expected_answer")
    solution = _first(row, "solution", "ground_truth_solution") or ""
    if answer is None and ("\\boxed" in solution or "####" in solution):
        answer = final_answer(solution)
    return None if answer is None or str(answer).strip().lower() in _NO_GOLD else gold_text(answer)


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


class Recorded:
    """The answers of one mode in `rows`, as a generator: each question is answered as it was.

    Args:
        source: a data set of the hub, such as ``"open-thoughts/OpenThoughts2-1M"``; or a local file or
            folder: JSON lines, or what `datasets.load_dataset` reads.
        tokenizer: the student's, a fast one. It counts the tokens of an answer, and an answer that has
            more than `max_tokens` is cut there, as a live teacher's would have been.
        mode: whose answers are read; a set may hold both.
        revision: the commit of the hub's data set; needed, so that the data cannot change under a run.
        where: of the rows take those with one of these values in each of these columns.

    Raises StageError, in one line, for a source that cannot be read; it names file and line of a row that
    cannot. `counts` says how many rows there were, were used, and were left out for what reason.
    """

    def __init__(
        self,
        source: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mode: Mode = Mode.THINK,
        revision: str | None = None,
        name: str | None = None,
        split: str = "train",
        where: Mapping[str, Collection[Any]] | None = None,
    ):
        self.tokenizer = tokenizer
        self.mode = mode
        self._rows, self._place = _read(source, name, split, revision)
        self._found: dict[str, int] = {}  # where each question's row is: the texts stay on disk
        self._answers: list[str | None] = []
        counts: Counter[str] = Counter()
        for number in range(len(self._rows)):
            record = self._record(number, where or {})
            if isinstance(record, str) or record.question in self._found:
                counts[record if isinstance(record, str) else "duplicate"] += 1
                continue
            self._found[record.question] = number
            self._answers.append(record.answer)
        self.counts = {"rows": len(self._rows), "used": len(self._found)}
        self.counts |= {reason: counts[reason] for reason in LEFT_OUT}

    def _record(self, number: int, where: Mapping[str, Collection[Any]]) -> Record | str:
        row = self._rows[number]
        try:
            if any(row[column] not in values for column, values in where.items()):
                return "filtered"
            return read_record(row, self.mode)
        except KeyError as missing:
            raise StageError(
                f"{self._place(number)}: has no column {missing}, but {', '.join(row)}"
            ) from None
        except (AttributeError, TypeError, ValueError) as error:
            raise StageError(f"{self._place(number)}: not a question with an answer: {error}") from None

    @property
    def commit(self) -> str | None:
        """The commit that the hub gave, whatever `revision` was; None for what came from a disk."""
        info = getattr(self._rows, "info", None)
        files = (info and info.download_checksums) or {}  # hf://datasets/org/name@commit/file
        return next((found[1] for file in files if (found := re.search("@([0-9a-f]{40})/", file))), None)

    def problems(self) -> Dataset:
        """The questions that have an answer: `question`, `answer` (None where unknown), `level` (None)."""
        columns = {"question": list(self._found), "answer": self._answers, "level": [None] * len(self._found)}
        kinds = {"question": Value("string"), "answer": Value("string"), "level": Value("int64")}
        return Dataset.from_dict(columns, features=Features(kinds))

    def __contains__(self, question: str) -> bool:
        return question in self._found

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[list[Completion]]:
        """See `Generator.generate`: only `max_tokens` and `n` matter, for the answers are what they are."""
        return [completions for _, completions in self.complete(prompts, **settings)]

    def complete(
        self, prompts: Sequence[str], *, max_tokens: int, n: int = 1, **_: Any
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(place of the prompt, its completions); see `store.Streams`."""
        for place, prompt in enumerate(prompts):
            if prompt not in self._found:
                raise ValueError(f"there is no recorded answer to {prompt!r}: ask the questions as they are")
            record = self._record(self._found[prompt], {})
            assert isinstance(record, Record)
            yield place, [as_completion(record.response, self.mode, self.tokenizer, max_tokens)] * n


def as_completion(
    response: str, mode: Mode, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Completion:
    """A text that was written elsewhere as a completion: counted, and cut, in tokens of `tokenizer`."""
    encoded = tokenizer(response, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, finish_reason = [*encoded.input_ids, tokenizer.eos_token_id], "stop"
    if len(ids) > max_tokens:
        ids, finish_reason = ids[:max_tokens], "length"
        response = response[: encoded.offset_mapping[max_tokens - 1][1]]
    return Completion(tuple(ids), response, mode, math.nan, finish_reason)


def _read(
    source: str, name: str | None, split: str, revision: str | None
) -> tuple[Sequence[Mapping[str, Any]], Callable[[int], str]]:
    """The rows of a source, and what to call each of them in an error."""
    path = Path(source)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] * (path.suffix == ".jsonl")
    try:
        if files:
            lines = [line for file in files for line in json_lines(file)]
            return [line.value for line in lines], lambda number: lines[number].place
        if not path.exists() and (revision is None or is_path(source)):
            raise StageError(
                f"{source}: no such file or folder; for a data set of the hub, give its commit as revision"
            )
        if path.is_file():
            rows = load_dataset(path.suffix.lstrip("."), data_files=glob.escape(source), split=split)
        elif path.is_dir() and glob.has_magic(str(path.resolve())):
            # to datasets a folder's name is a pattern, and only the names of files can be escaped
            parts = sorted(path.resolve().rglob("*.parquet"))
            parts = [part for part in parts if split in re.split(r"[-_.]", part.stem)] or parts
            escaped = {split: [glob.escape(str(part)) for part in parts]}
            rows = load_dataset("parquet", data_files=escaped, split=split)
        elif path.is_dir():
            rows = load_dataset(str(path.resolve()), name, split=split)
        else:
            rows = load_dataset(source, name, split=split, revision=revision)
    except (OSError, ValueError) as error:
        raise StageError(f"cannot read {source}: {' '.join(str(error).split())}") from error
    return rows, lambda number: f"{source}, {split}, row {number}"
