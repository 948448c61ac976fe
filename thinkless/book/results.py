"""What the grids of `evidence.py` have found: the records in `results/`, as the chapters read them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from thinkless.errors import StageError
from thinkless.files import json_lines
from thinkless.objectives import OBJECTIVES, Normalizers, expected_mode_gradient
from thinkless.runs.profiles import load_profile
from thinkless.runs.provenance import RESULTS
from thinkless.runs.questions import ChainProblems
from thinkless.runs.settings import Profile

RECORDS, QUESTIONS = "evidence.jsonl", "evidence_questions.csv"
EARLY = slice(2, 8)
"""Steps 3 to 8 of a run: later than its first updates, before it can tell questions apart."""


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


def read_questions(folder: Path = RESULTS) -> dict[tuple[int, str], pd.DataFrame]:
    """The tables of `routers.by_question` by (pipeline seed, stage). Raises StageError if there are none."""
    table = pd.read_csv(_existing(folder / QUESTIONS), dtype={"prompt": str})
    return {
        place: rows.drop(columns=["pipeline_seed", "stage"]).set_index("question")
        for place, rows in table.groupby(["pipeline_seed", "stage"])
    }


def profile_of(record: Mapping[str, Any]) -> Profile:
    """The profile that a record's run was made with."""
    return load_profile(record["profile"], record["overrides"])


def predicted_pull(warm: Mapping[str, Any], profile: Profile, objective: str) -> pd.Series:
    """The closed form's first pull on P(think) by level; plus is towards ``<think>``.

    `warm` are the metrics of the warm-up model: by level, the think rate, and accuracy and
    tokens of each forced mode. Levels count by their share of RL's questions, so the sum is
    the pull on the average. See `objectives.expected_mode_gradient` for what it assumes. With
    `rl.scale_rewards` a level is also divided by the standard deviation of its rewards, so that
    levels whose rewards differ little count more.
    """

    def by_level(name: str) -> torch.Tensor:
        return torch.tensor([warm[f"{name}_by_level"][level] for level in levels])

    assert isinstance(profile.problems, ChainProblems)
    mix = np.array(profile.problems.mix)
    levels = [str(level) for level in range(1, len(mix) + 1)]
    accuracies = by_level("accuracy_think"), by_level("accuracy_short")
    lengths = by_level("tokens_think"), by_level("tokens_short")
    think, short = (control_weight(objective, tokens, profile) for tokens in lengths)
    rate, gamma = by_level("think_rate"), profile.rl.gamma
    pull = expected_mode_gradient(rate, accuracies, (think, short), gamma)
    if profile.rl.scale_rewards == "group":
        pull = pull / (_reward_std(rate, accuracies, gamma) + 1e-4)  # as TRL does
    index = pd.Index(map(int, levels), name="level")
    return pd.Series(pull.numpy() * mix / mix.sum(), index=index)


def _reward_std(
    p_think: torch.Tensor, accuracy: tuple[torch.Tensor, torch.Tensor], gamma: float
) -> torch.Tensor:
    """Standard deviation of a free answer's reward, one value per level, for modes as right as `accuracy`."""
    right_think, right_short = p_think * accuracy[0], (1 - p_think) * accuracy[1]
    wrong = 1 - right_think - right_short
    mean = (1 - gamma) * right_think + right_short - wrong
    square = (1 - gamma) ** 2 * right_think + right_short + wrong
    return (square - mean**2).clamp(min=0).sqrt()


def gamma_without_pull(warm: Mapping[str, Any], profile: Profile, objective: str) -> float:
    """The price γ at which `predicted_pull` sums to zero, which is linear in it; above it lies ``<short>``.

    Negative or above 1 if there is no such price among the possible ones. With `rl.scale_rewards` it is not
    linear, and this is not its zero.
    """

    def pull(gamma: float) -> float:
        other = profile.model_copy(update={"rl": profile.rl.model_copy(update={"gamma": gamma})})
        return predicted_pull(warm, other, objective).sum()

    return pull(0.0) / (pull(0.0) - pull(1.0))


def control_weight(objective: str, lengths: torch.Tensor, profile: Profile) -> torch.Tensor:
    """Loss weight of the control token of answers of these lengths, up to a factor that all answers share."""
    same_for_all = {"mean_length": 1.0, "max_length": 1.0}
    control, _ = OBJECTIVES[objective](Normalizers(lengths, profile.rl.alpha, **same_for_all))
    return control / lengths


def warm_up(records: Sequence[Mapping[str, Any]], variant: str = "as-it-is") -> dict[str, Any]:
    """Metrics of the variant's warm-up model of pipeline seed 0, before RL."""
    return next(
        record["metrics"]
        for record in records
        if (record["variant"], record["pipeline_seed"], record["stage"]) == (variant, 0, "sft")
    )


def runs(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per RL run: what was changed, what the closed form said, what came of it.

    Columns: `variant`, `objective`, `pipeline_seed`, `seed` (of RL, from 0 on), `pull` (the closed form's
    on the average), `early` (think rate of steps 3 to 8 less that of the first), `held` (whether these have
    the same sign), the figures of the evaluation by name, and `level 1` ... the think rates.
    """
    warm = {(r["variant"], r["pipeline_seed"]): r["metrics"] for r in records if r["stage"] == "sft"}
    rows = []
    for record in records:
        kind, _, name = record["stage"].partition("-")
        if kind != "rl":
            continue
        objective, _, seed = name.rpartition("-")
        start = warm[record["variant"], record["pipeline_seed"]]
        pull = predicted_pull(start, profile_of(record), objective).sum()
        rates = record["curves"]["think_rate"]
        early = float(np.mean(rates[EARLY]) - rates[0])
        figures = {k: v for k, v in record["metrics"].items() if not isinstance(v, dict)}
        levels = {f"level {k}": v for k, v in record["metrics"]["think_rate_by_level"].items()}
        row = {name: record[name] for name in ("variant", "pipeline_seed")}
        row |= {"objective": objective, "seed": int(seed), "pull": pull, "early": early}
        rows.append({**row, "held": bool(early * pull > 0), **figures, **levels})
    return pd.DataFrame(rows)
