"""Is P(think) calibrated? It is one softmax, so it can be held against what thinking was worth.

A question *needs* thinking if its short answer fails and its worked answer succeeds. Both are chances,
estimated from repeated forced samples (`routers.by_question`); the answers are drawn independently, so
the need of a question is a chance too, (1 - accuracy_short) * accuracy_think, and every measure here
takes it as a weight instead of rounding it to a label.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from thinkless.routers import gain


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
    labels = np.repeat([1, 0], len(table))
    twice, weights = np.tile(scores, 2), np.concatenate([positive, 1 - positive])
    return {
        "auroc": float(roc_auc_score(labels, twice, sample_weight=weights)),
        "average_precision": float(average_precision_score(labels, twice, sample_weight=weights)),
    }


def reliability(table: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Mean P(think), mean need and number of questions in equal bins of P(think); empty bins are left out."""
    bin_of = np.minimum((table["probability"] * bins).astype(int), bins - 1)
    frame = pd.DataFrame({"probability": table["probability"], "need": need(table)})
    grouped = frame.groupby(bin_of.rename("bin"))
    return grouped.mean().assign(questions=grouped.size())


def calibration_error(table: pd.DataFrame, bins: int = 10) -> float:
    """Expected calibration error: mean over questions of |P(think) - need| of their bin."""
    found = reliability(table, bins)
    gaps = (found["probability"] - found["need"]).abs()
    return float((gaps * found["questions"]).sum() / found["questions"].sum())


def no_worse(table: pd.DataFrame) -> float:
    """Share of free answers whose mode is right, over its forced samples, at least as often as the other."""
    ahead = table["accuracy_think"] - table["accuracy_short"]
    chosen = table["chosen"]
    return float((chosen * (ahead >= 0) + (1 - chosen) * (ahead <= 0)).mean())


def no_worse_paid(table: pd.DataFrame) -> float:
    """The same by mean reward, in which a worked answer costs gamma."""
    chosen = table["chosen"]
    return float((chosen * (gain(table) >= 0) + (1 - chosen) * (gain(table) <= 0)).mean())
