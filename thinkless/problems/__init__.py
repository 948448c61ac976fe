"""Problem sets: each is a `datasets.Dataset` with the columns `question`, `answer` and `level`.

`question` never changes on its way through the stages. A set that is asked with an instruction has it in a
column of its own, `instruction`. The prompt is another thing, the text that a model reads: it is made where a
model is asked, from `in_words` by a cue or a chat template.
"""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset


def in_words(problems: Dataset | Mapping[str, Any]) -> list[str]:
    """Every question as a person would put it: followed by a line with the instruction, if there is one.

    `problems` is a set, or the columns of a part of one.
    """
    questions = list(problems["question"])
    if "instruction" not in (problems.column_names if isinstance(problems, Dataset) else problems):
        return questions
    return [
        f"{question}\n{added}" for question, added in zip(questions, problems["instruction"], strict=True)
    ]
