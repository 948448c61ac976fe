"""What sweeps have found: the records in `results/`, as the chapters read them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from thinkless.errors import StageError
from thinkless.evaluation.prediction import measured, pull, safe_at_once
from thinkless.evaluation.report import present_names
from thinkless.files import json_lines
from thinkless.runs.profiles import load_profile
from thinkless.runs.provenance import RESULTS
from thinkless.runs.settings import RL

RECORDS, QUESTIONS = "evidence.jsonl", "evidence_questions.csv"
SELDOM, OFTEN = 0.05, 0.9
"""A run has *sorted* if it thinks about at most this share of every kind that the decision rule answers at
once, and at least that share of every other. It has *collapsed* if it thinks about no kind more often than
seldom."""


def _existing(path: Path) -> Path:
    if not path.exists():
        raise StageError(f"{path} is missing: run `make evidence`")
    return path


def read_rows(path: Path, needs: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a file of records, JSON lines. Raises StageError if it is damaged or a row lacks a key."""
    try:
        rows = list(json_lines(path))
        for row in rows:
            if lacking := set(needs) - row.value.keys():
                raise ValueError(f"{row.place} cannot be read: it lacks {', '.join(sorted(lacking))}")
    except ValueError as error:
        raise StageError(f"{error}: take the committed file back, or delete it") from None
    return [row.value for row in rows]


def read_records(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of `evidence.jsonl`, one for each model. Raises StageError if there is no such file."""
    return read_rows(_existing(folder / RECORDS), ("variant", "pipeline_seed", "stage", "metrics"))


def read_question_table(path: Path) -> pd.DataFrame:
    """A sweep's table of questions as it lies on disk, columns under their present names."""
    return present_names(pd.read_csv(path, dtype={"question": str, "prompt": str}))


def read_questions(folder: Path = RESULTS) -> dict[tuple[int, str], pd.DataFrame]:
    """The tables of `Report.by_question` by (pipeline seed, stage). Raises StageError if there are none."""
    table = read_question_table(_existing(folder / QUESTIONS))
    return {
        place: rows.drop(columns=["pipeline_seed", "stage"]).set_index("number")
        for place, rows in table.groupby(["pipeline_seed", "stage"])
    }


def warm_up(records: Sequence[Mapping[str, Any]], variant: str = "as-it-is") -> dict[str, Any]:
    """Metrics of the variant's warm-up model of pipeline seed 0, before RL."""
    return next(
        record["metrics"]
        for record in records
        if (record["variant"], record["pipeline_seed"], record["stage"]) == (variant, 0, "sft")
    )


def early(settings: RL) -> slice:
    """Steps of a run that are later than its first updates, before it can tell questions apart.

    3 to 8, or later where the learning rate climbs for long: from a quarter of the climb to its half.
    """
    climb = settings.warmup_steps
    return slice(max(2, climb // 4), max(8, climb // 2))


def runs(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per RL run: what was changed, what the closed form said, what came of it.

    Columns: `variant`, `objective`, `pipeline_seed`, `seed` (of RL, from 0 on), `pull` (the closed form's
    on the average), `early` (think rate of the `early` steps less that of the first), `held` (whether these
    have the same sign), `saved` (share of the tokens that the warm-up model spends if it always thinks), the
    figures of the evaluation by name, and the think rates: `level 1` ... and by kind, `1 of 1` ..., which
    for stories is the level. Of the kinds, `most safe` is the highest rate where the decision rule, applied
    to the warm-up model, answers at once, `least hard` the lowest elsewhere, and `sorted` and `collapsed` are
    said of these: see `SELDOM`.
    """
    warm = {(r["variant"], r["pipeline_seed"]): r["metrics"] for r in records if r["stage"] == "sft"}
    rows = []
    for record in records:
        if record["stage"] == "sft":
            continue
        objective, _, seed = record["stage"].removeprefix("rl-").rpartition("-")
        variant, pipeline_seed, metrics = (record[key] for key in ("variant", "pipeline_seed", "metrics"))
        profile = load_profile(record["profile"], record["overrides"])
        before = warm[variant, pipeline_seed]
        kinds = measured(before, profile)
        pulled = pull(kinds, objective, profile.rl).sum()
        rates = record["curves"]["think_rate"]
        moved = float(np.mean(rates[early(profile.rl)]) - rates[0])
        row = {"variant": variant, "pipeline_seed": pipeline_seed, "objective": objective, "seed": int(seed)}
        row |= {"pull": pulled, "early": moved, "held": bool(moved * pulled > 0)}
        row |= {name: value for name, value in metrics.items() if not isinstance(value, dict)}
        row["saved"] = 1 - metrics["tokens"] / before["tokens_always_think"]
        row |= {f"level {k}": v for k, v in metrics["think_rate_by_level"].items()}
        rates = metrics.get("think_rate_by_kind", metrics["think_rate_by_level"])
        rows.append(row | rates | _sorting(pd.Series(rates), safe_at_once(kinds, profile.rl.gamma)))
    return pd.DataFrame(rows)


def _sorting(rates: pd.Series, safe: pd.Series) -> dict[str, Any]:
    """What think rates by kind come to, given which kinds are safe at once; see `runs`."""
    most, least = rates[safe].max(), rates[~safe].min()
    return {
        "most safe": most,
        "least hard": least,
        "sorted": bool(most <= SELDOM and least >= OFTEN),
        "collapsed": bool(rates.max() <= SELDOM),
    }
