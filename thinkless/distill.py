"""Two teachers answer the same questions; their answers, right or wrong, become the warm-up data.

For each question the short teacher gives a direct answer and the long teacher a worked one (section
3.1 of arXiv 2505.13379). A pair is kept only if both answers ended within the length limit. Being
right is recorded, not required: the student should inherit its teachers' real abilities, since those
are what it will have to judge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from thinkless.generation import Generator
from thinkless.grading import is_correct
from thinkless.modes import Mode


@dataclass(frozen=True)
class Teacher:
    """A generator together with the way it is asked."""

    generator: Generator
    mode: Mode
    """The mode whose answers it writes."""
    ask: Callable[[str], str] = lambda prompt: prompt
    """Turns a question's prompt into the teacher's own: a chat template, or a textbook's cue."""


def distill(
    problems: Dataset,
    teachers: Sequence[Teacher],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> Dataset:
    """Answers of every teacher to every problem, one row per problem.

    Adds, for each mode m: `m_response` (text after the control token), `m_correct`, `m_tokens`,
    `m_finished`. Nothing is dropped; see `keep_finished`.
    """
    columns: dict[str, list[Any]] = {}
    for teacher in teachers:
        answers = teacher.generator.generate(
            [teacher.ask(prompt) for prompt in problems["prompt"]],
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        completions = [answer[0] for answer in answers]
        texts = [completion.text.removeprefix(teacher.mode.value) for completion in completions]
        name = teacher.mode.label
        columns[f"{name}_response"] = texts
        columns[f"{name}_correct"] = [
            is_correct(t, gold) for t, gold in zip(texts, problems["answer"], strict=True)
        ]
        columns[f"{name}_tokens"] = [completion.tokens for completion in completions]
        columns[f"{name}_finished"] = [completion.finish_reason == "stop" for completion in completions]
    for name, values in columns.items():
        problems = problems.add_column(name, values)
    return problems


def keep_finished(pairs: Dataset) -> Dataset:
    """The pairs whose two answers both ended within the length limit."""
    return pairs.filter(lambda row: all(row[f"{mode.label}_finished"] for mode in Mode))


def sft_rows(pairs: Dataset) -> Dataset:
    """Two training rows per pair, `prompt` and `completion`, the two modes of a question adjacent.

    The completion opens with the control token. Adjacent rows of an even-sized batch keep the modes
    balanced in every single update, not only on average.
    """
    rows = [
        {"prompt": pair["prompt"], "completion": mode.value + pair[f"{mode.label}_response"]}
        for pair in pairs
        for mode in Mode
    ]
    return Dataset.from_list(rows)
