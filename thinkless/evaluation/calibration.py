"""Is P(think) calibrated? It is one softmax, so it can be held against what thinking was worth.

A question *needs* thinking if its short answer fails and its worked answer succeeds. Both are chances,
estimated from repeated forced samples (`Report.by_question`). For answers that know nothing of each
other the need of a question is a chance too, (1 - accuracy_short) * accuracy_think, and every measure
here takes it as a weight instead of rounding it to a label.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from thinkless.evaluation.routers import gain


def need(table: pd.DataFrame) -> pd.Series:
    """P(short fails and think succeeds) per question, in [0, 1]."""
    return (1 - table["accuracy_short"]) * table["accuracy_think"]


def ranking(table: pd.DataFrame) -> dict[str, float]:
    """`auroc` and `average_precision` of P(think) against need; NaN where no question, or each, needs it.

    Each question counts as a positive with weight need and as a negative with weight 1 - need.
    """
    positive, scores = need(table).to_numpy(), table["probability"].to_numpy()
    if positive.sum() == 0 or (1 - positive).sum() == 0:
        return {"auroc": np.nan, "average_precision": np.nan}
    # every question twice, (2 x questions,): as one that needs to think, and as one that does not
    labels = np.repeat([1, 0], len(table))
    twice, weights = np.tile(scores, 2), np.concatenate([positive, 1 - positive])
    return {
        "auroc": float(roc_auc_score(labels, twice, sample_weight=weights)),
        "average_precision": float(average_precision_score(labels, twice, sample_weight=weights)),
    }


def ranking_within_levels(table: pd.DataFrame) -> float:
    """AUROC among questions of one level, averaged over the levels that have both sides, by their pairs.

    One half means that P(think) knows no more about need than the level.
    """
    found = []
    for _, rows in table.groupby("level"):
        positive = need(rows).sum()
        pairs = positive * (len(rows) - positive)  # AUROC is a share of these
        if pairs > 0:
            found.append((ranking(rows)["auroc"], pairs))
    values, weights = zip(*found, strict=True)
    return float(np.average(values, weights=weights))


def reliability(table: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Mean P(think), mean need and number of questions in equal bins of P(think); empty bins are left out."""
    bin_of = np.minimum((table["probability"] * bins).astype(int), bins - 1)  # 1.0 is in the last bin
    frame = pd.DataFrame({"probability": table["probability"], "need": need(table)})
    grouped = frame.groupby(bin_of.rename("bin"))
    return grouped.mean().assign(questions=grouped.size())


def calibration_error(table: pd.DataFrame, bins: int = 10) -> float:
    """Expected calibration error: mean over questions of |P(think) - need| of their bin."""
    found = reliability(table, bins)
    gaps = (found["probability"] - found["need"]).abs()
    return float((gaps * found["questions"]).sum() / found["questions"].sum())


def error_by_level(table: pd.DataFrame) -> float:
    """Mean over questions of |mean P(think) - mean need| of their level: bins that P(think) cannot choose."""
    gaps = table["probability"] - need(table)  # signed: within a level they may cancel
    return float(gaps.groupby(table["level"]).transform("mean").abs().mean())


def brier_score(table: pd.DataFrame) -> float:
    """Mean squared distance of P(think) from the outcome, which is a need with chance `need`, else none."""
    probability, chance = table["probability"], need(table)
    return float((chance * (1 - probability) ** 2 + (1 - chance) * probability**2).mean())


def no_worse(table: pd.DataFrame, thinks: np.ndarray) -> float:
    """Share of choices whose mode is right, over its forced samples, at least as often as the other.

    `thinks` (questions,) is the chance to think, as in `routers.choose`.
    """
    ahead = table["accuracy_think"] - table["accuracy_short"]  # at 0 either choice is as good
    return float((thinks * (ahead >= 0) + (1 - thinks) * (ahead <= 0)).mean())


def no_worse_paid(table: pd.DataFrame, thinks: np.ndarray) -> float:
    """Like `no_worse`, with mean reward in place of accuracy: a worked answer costs gamma."""
    return float((thinks * (gain(table) >= 0) + (1 - thinks) * (gain(table) <= 0)).mean())
