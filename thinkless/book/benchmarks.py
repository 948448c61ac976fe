"""What a finished model makes of a published benchmark that nobody trained it on.

``thinkless evaluate STAGE SET`` asks it every question, leaves the mode to it, and records by level what it
chose and how often it was right.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from thinkless.book.results import read_rows
from thinkless.errors import StageError
from thinkless.evaluation import Report, evaluate
from thinkless.files import digest, write_text
from thinkless.generation.load import open_generator
from thinkless.models import load_tokenizer
from thinkless.problems.benchmarks import load_problems
from thinkless.runs.provenance import commit, hardware, versions
from thinkless.runs.runner import Runner
from thinkless.stages import prompts

BENCHMARKS = "benchmarks.jsonl"
PLACE = ("benchmark", "profile", "pipeline_seed", "stage")
"""The columns of a record that say what was measured."""


def by_level(report: Report) -> dict[str, dict[str, float]]:
    """Of the free answers to each level, and to `all`: how many, how many right, and what they cost."""

    def figures(answers: pd.DataFrame) -> dict[str, float]:
        return {
            "questions": len(answers),
            "right": int(answers["correct"].sum()),
            "think_rate": round(float((answers["mode"] == "think").mean()), 5),
            "tokens": round(float(answers["tokens"].mean()), 5),
            "faults": int(answers["fault"].notna().sum()),
        }

    free = report.setting("free")
    levels = {str(level): figures(answers) for level, answers in free.groupby("level")}
    return {**levels, "all": figures(free)}


def benchmark(
    runner: Runner,
    stage: str,
    name: str,
    folder: Path,
    *,
    path: Path | None = None,
    limit: int | None = None,
) -> Path:
    """Ask a model the set `name` (a key of `PROBLEM_SETS`), as the profile samples in its evaluation, and put
    the record among those of `folder`, in the place of an earlier one of this stage.

    Nothing is asked again that the records have of this very model. `path` and `limit` as in `load_problems`.
    Raises StageError if the stage has not finished, or the set cannot be read.
    """
    profile, model = runner.profile, runner.folder(stage) / "model"
    key, settings, file = runner.manifest(stage)["key"], profile.evaluation, folder / BENCHMARKS
    try:
        problems = prompts(load_problems(name, path=path, limit=limit), load_tokenizer(model))
    except (ValueError, OSError) as error:
        raise StageError(str(error)) from error
    row: dict[str, Any] = {
        "benchmark": name,
        "profile": profile.name,
        "pipeline_seed": runner.seed,
        "stage": stage,
        "key": key,
        "questions": digest(problems["question"]),
        "sampling": {
            "max_tokens": profile.longest("evaluation"),
            **settings.model_dump(include={"temperature", "top_p"}),
            "seed": runner.seed,
        },
    }
    known = read_benchmarks(folder) if file.exists() else []
    if any(row.items() <= other.items() for other in known):
        return file
    products: dict[str, Any] = {"precision": settings.precision, "padding": profile.launch.padding}
    with closing(open_generator(model, settings.engine, **products)) as generator:
        report = evaluate(generator, problems, gamma=profile.rl.gamma, settings=["free"], **row["sampling"])
    made = {"commit": commit(), "hardware": hardware(), "versions": versions()}
    rows = [other for other in known if any(other[part] != row[part] for part in PLACE)]
    rows.append({**row, "by_level": by_level(report), **made})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(json.dumps(line) + "\n" for line in rows))
    return file


def read_benchmarks(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder. Raises StageError if they are damaged."""
    return read_rows(folder / BENCHMARKS, (*PLACE, "by_level"))
