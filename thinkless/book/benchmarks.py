"""What a finished model makes of a published benchmark that nobody trained it on.

``thinkless evaluate STAGE SET`` asks it every question, leaves the mode to it, and records by level what it
chose and how often it was right.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from thinkless.book.results import read_rows
from thinkless.errors import StageError
from thinkless.evaluation import Report, evaluate
from thinkless.files import digest, write_json_lines
from thinkless.generation.load import open_generator
from thinkless.models import load_tokenizer
from thinkless.problems.benchmarks import load_problems
from thinkless.runs.provenance import commit, hardware, versions
from thinkless.runs.runner import Runner
from thinkless.stages import prompts

BENCHMARKS = "benchmarks.jsonl"
PLACE = ("benchmark", "profile", "overrides", "pipeline_seed", "stage")
"""The columns of a record that say what was measured."""


def by_level(report: Report) -> dict[str, dict[str, float]]:
    """Of the free answers to each level, and to `all`: how many, how many right, and what they cost."""

    def figures(answers: pd.DataFrame) -> dict[str, float]:
        return {
            "questions": int(answers["number"].nunique()),
            "answers": len(answers),
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
    overrides: Mapping[str, Any],
    path: Path | None = None,
    limit: int | None = None,
) -> Path:
    """Ask a model the set `name` (a key of `PROBLEM_SETS`) as its profile's evaluation asks and samples.

    The record joins those of `folder`, in the place of an earlier one of this stage; nothing is asked again
    that they have of this very model. `overrides` are those of the runner's profile, `path` and `limit` as in
    `load_problems`. Raises StageError if the model is not finished, or the set cannot be read.
    """
    profile, model = runner.profile, runner.folder(stage) / "model"
    if not runner.is_done(stage):
        raise StageError(f"stage {stage} is not finished with these settings in {model.parent}: run it first")
    settings, instruction = profile.evaluation, getattr(profile.problems, "instruct_evaluation", False)
    try:
        problems = load_problems(name, path=path, limit=limit, instruction=instruction)
    except (ValueError, OSError) as error:
        raise StageError(str(error)) from error
    problems = prompts(problems, load_tokenizer(model))
    sampling = settings.model_dump(include={"temperature", "top_p", "samples"})
    products: dict[str, Any] = {"precision": settings.precision, "padding": profile.launch.padding}
    row = {
        "benchmark": name,
        "profile": profile.name,
        "overrides": dict(overrides),
        "pipeline_seed": runner.seed,
        "stage": stage,
        "key": runner.manifest(stage)["key"],
        "asked": digest(problems[:]),
        "sampling": {"max_tokens": profile.longest("evaluation"), **sampling, "seed": runner.seed},
        "engine": {"name": settings.engine, **products},
    }
    if any(row.items() <= known.items() for known in read_benchmarks(folder)):
        return folder / BENCHMARKS
    with closing(open_generator(model, settings.engine, **products)) as generator:
        report = evaluate(generator, problems, gamma=profile.rl.gamma, settings=["free"], **row["sampling"])
    made = {"commit": commit(), "hardware": hardware(), "versions": versions()}
    rows = [known for known in read_benchmarks(folder) if any(known[part] != row[part] for part in PLACE)]
    rows.append({**row, "by_level": by_level(report), **made})
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(folder / BENCHMARKS, rows)
    return folder / BENCHMARKS


def read_benchmarks(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder, none where there is no file. Raises StageError if they are damaged."""
    path = folder / BENCHMARKS
    return read_rows(path, (*PLACE, "by_level")) if path.exists() else []
