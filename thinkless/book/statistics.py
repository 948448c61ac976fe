"""The figures of a run that chapters compare with what is expected, by the names of `STATISTICS`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from thinkless.evaluation import Report, load_report
from thinkless.pipeline import rl_stage
from thinkless.runs.metrics import read_metrics
from thinkless.runs.runner import Runner


def base_statistics(accuracy: pd.DataFrame) -> dict[str, float]:
    """Of the base model's accuracy by level (rows) and style (columns `think` and `short`)."""
    worked, short = accuracy["think"], accuracy["short"]
    return {
        "base_think_accuracy": worked.min(),
        "base_short_level_1": short.iloc[0],
        "short_drop": short.iloc[0] - short.iloc[-1],
    }


def pair_statistics(counts: Mapping[str, Any]) -> dict[str, float]:
    """Of the metrics that distillation leaves in its manifest; no gain where no answer is known."""
    values = {"distill_dropped": 1 - counts["kept"] / counts["questions"]}
    if counts["think_correct"] is not None and counts["short_correct"] is not None:
        values["think_gain"] = counts["think_correct"] - counts["short_correct"]
    return values


def warm_up_statistics(report: Report) -> dict[str, float]:
    """Of the warm-up model's evaluation."""
    free, levels = report.setting("free"), report.by_level()
    by_level = free.groupby("level")["think_probability"].mean()
    return {
        "mode_balance": abs((free["mode"] == "think").mean() - 0.5),
        "mode_spread": by_level.max() - by_level.min(),
        "think_accuracy": levels["correct (think)"].min(),
        "short_level_1": levels["correct (short)"].iloc[0],
    }


def training_statistics(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], last: int = 10
) -> dict[str, float]:
    """Of the metrics rows of every RL run, by objective: means over runs and their `last` steps.

    A step that drew no question of a level says nothing about it. The lead needs both objectives.
    """
    ends = {
        arm: pd.concat([pd.DataFrame(run)[-last:] for run in runs]).mean(numeric_only=True)
        for arm, runs in histories.items()
    }
    rates = ends.get("degrpo", pd.Series()).filter(like="think_rate/level").sort_index()
    values = {}
    if len(rates) > 1:
        values = {"rl_think_rate_level_1": rates.iloc[0], "rl_think_rate_hard": rates.iloc[1:].min()}
    if {"degrpo", "grpo"} <= ends.keys():
        values["degrpo_lead"] = ends["degrpo"]["reward"] - ends["grpo"]["reward"]
    return values


def think_is_better(report: Report, of: str = "level") -> pd.Series:
    """Per level, or kind: whether the decision rule says think, by the accuracies of the forced modes."""
    table = report.by(of)
    return table["correct (short)"] < (1 - report.gamma / 2) * table["correct (think)"]


def choice_statistics(warm_up: Report, trained: Sequence[Report]) -> dict[str, float]:
    """Of the evaluations after RL with one objective, beside the warm-up model's."""
    hard = think_is_better(warm_up)
    rates = pd.DataFrame([report.by_level()["think rate"] for report in trained]).mean()
    routers = sum(report.routers() for report in trained) / len(trained)
    model, chord = routers.loc["model"], routers.loc[["always short", "always think"]]
    always_think = warm_up.routers().loc["always think", "accuracy"]
    values = {
        "think_rate_level_1": rates.iloc[0],
        "regret": float(np.mean([report.regret for report in trained])),
        "accuracy_gap": always_think - model["accuracy"],
        "router_lift": model["accuracy"] - np.interp(model["tokens"], chord["tokens"], chord["accuracy"]),
    }
    if hard.any():
        values["think_rate_hard"] = rates[hard].min()
    return values


def pipeline_record(runner: Runner) -> dict[str, Any]:
    """Every statistic of a finished pipeline of the laptop world, those of RL also of each run alone, and how
    many answers each is a share of."""
    from thinkless.distillation.teachers import accuracy_by_cue
    from thinkless.generation import TransformersGenerator
    from thinkless.models import load

    profile, rl = runner.profile, runner.profile.rl
    questions = profile.problems.held_out(runner.seed)
    base = TransformersGenerator(*load(runner.folder("base") / "model"))
    counts = runner.manifest("distill")["metrics"]
    runs = {arm: [rl_stage(arm, k) for k in range(rl.repetitions)] for arm in rl.arms}
    warm_up, *trained = (
        load_report(runner.folder(f"eval-{stage}") / "answers.jsonl", rl.gamma)
        for stage in ("sft", *runs["degrpo"])
    )
    histories = {arm: [read_metrics(runner.folder(stage)) for stage in runs[arm]] for arm in runs}
    values = {
        **base_statistics(accuracy_by_cue(base, questions, profile.longest("distill"))),
        **pair_statistics(counts),
        **warm_up_statistics(warm_up),
        **training_statistics(histories),
        **choice_statistics(warm_up, trained),
    }
    single = [
        {
            **training_statistics({arm: [of_runs[k]] for arm, of_runs in histories.items()}),
            **choice_statistics(warm_up, [report]),
        }
        for k, report in enumerate(trained)
    ]
    level = min(Counter(questions["level"]).values())
    return {
        "counts": {"level": level, "all": len(questions), "pairs": counts["questions"]},
        "values": _floats(values),
        "runs": list(map(_floats, single)),
    }


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
