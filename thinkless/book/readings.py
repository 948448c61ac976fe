"""What models write about a few held-out questions, and how their choice of mode grows while they read them.

A plan with `readings` names the stages; `thinkless sweep` records them in `readings.jsonl`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from datasets import Dataset

from thinkless.book.results import read_rows
from thinkless.evaluation import load_report
from thinkless.files import write_json_lines
from thinkless.generation.chat_template import chat_prompt
from thinkless.generation.load import open_generator
from thinkless.models import load_tokenizer
from thinkless.problems import in_words
from thinkless.runs.runner import Runner

READINGS = "readings.jsonl"
PER_LEVEL = 4
"""Questions of each level, the first of the evaluation."""


def readings(runner: Runner, stage: str) -> Iterator[dict[str, Any]]:
    """One row for each question: the answers that the stage's evaluation has by setting, and
    `think_probability`, P(think) had the question ended after its first word, its second, and so on.

    Raises StageError if the evaluation has not finished.
    """
    profile, model = runner.profile, runner.folder(stage) / "model"
    key, problems = runner.manifest(f"eval-{stage}")["key"], profile.problems.held_out(runner.seed)
    answers = load_report(runner.folder(f"eval-{stage}") / "answers.jsonl", profile.rl.gamma).answers
    asked = answers.drop_duplicates("number").groupby("level").head(PER_LEVEL)
    engine, precision = profile.evaluation.engine, profile.evaluation.precision
    tokenizer = load_tokenizer(model)
    with closing(
        open_generator(model, engine, precision=precision, padding=profile.launch.padding)
    ) as generator:
        for number in map(int, asked["number"]):
            problem = problems[number]
            ends = [word.end() for word in re.finditer(r"\S+", problem["question"])]
            begun = [problem | {"question": problem["question"][:end]} for end in ends]
            asking = [chat_prompt(tokenizer, words) for words in in_words(Dataset.from_list(begun))]
            read = [one.think_probability for (one,) in generator.generate(asking, max_tokens=1)]
            own = answers[answers["number"] == number].drop_duplicates("setting").set_index("setting")
            columns = ["mode", "text", "correct", "tokens", "fault"]
            yield {
                "stage": stage,
                "key": key,
                "number": number,
                **{name: problem[name] for name in ("level", "question", "answer")},
                "answers": json.loads(own[columns].to_json(orient="index")),
                "think_probability": [round(p, 4) for p in read],
            }


def record_readings(runner: Runner, stages: list[str], folder: Path):
    """Write what is not there yet for the stages whose evaluations are finished; others keep their rows."""
    path = folder / READINGS
    known = read_readings(folder) if path.exists() else []
    rows = []
    for stage in stages:
        kept = [row for row in known if row["stage"] == stage]
        if runner.is_done(f"eval-{stage}"):
            key = runner.manifest(f"eval-{stage}")["key"]
            if not kept or any(row["key"] != key for row in kept):
                kept = list(readings(runner, stage))
        rows += kept
    write_json_lines(path, rows)


def read_readings(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder. Raises StageError if they are damaged."""
    return read_rows(folder / READINGS, ("stage", "key", "level", "question", "answers", "think_probability"))
