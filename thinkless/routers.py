"""Ways to choose the mode for a question, all judged on the same model's answers.

`by_question` reduces a report with repeated forced samples to what each mode is worth on each question. A
router is then one number per question, the probability that it thinks, and its accuracy, tokens and reward
are expectations over those samples: no second round of answers, and no luck of a single draw. The policy
itself is such a router, with its own P(think).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from thinkless.evaluation import Report, bootstrap_interval

FIGURES = ("think rate", "accuracy", "tokens", "reward", "regret")


def by_question(report: Report) -> pd.DataFrame:
    """One row per question: what each mode is worth on it, and what the model chose.

    Columns: `prompt`, `level`; `probability`, P(think) at temperature 1; `chosen`, the share of free answers
    that think; for m in "short", "think": `accuracy_m`, `tokens_m`, `reward_m`, means over the forced samples.
    """
    answers = report.answers
    table = answers.groupby("question").agg(
        prompt=("prompt", "first"), level=("level", "first"), probability=("think_probability", "mean")
    )
    free = report.setting("free")
    table["chosen"] = (free["mode"] == "think").groupby(free["question"]).mean()
    for mode in ("short", "think"):
        means = report.setting(mode).groupby("question")[["correct", "tokens", "reward"]].mean()
        table[[f"{name}_{mode}" for name in ("accuracy", "tokens", "reward")]] = means
    return table


def routers(
    table: pd.DataFrame, learned: pd.Series | None = None, temperature: float | None = None
) -> dict[str, np.ndarray]:
    """P(think) per row of `by_question` for each router, (questions,) in [0, 1].

    `learned` are the probabilities of a router outside the model, see `fit_router`; `temperature` adds the
    policy with its own P(think), sharpened as sampling does. `random, same rate` thinks as often as the model,
    on any question; `oracle by level` and `oracle by question` know the mean rewards, and the latter is judged
    on the samples it was told: an upper bound.
    """
    gain = table["reward_think"] - table["reward_short"]
    found = {
        "model": table["chosen"].to_numpy(),
        "always short": np.zeros(len(table)),
        "always think": np.ones(len(table)),
        "random, same rate": np.full(len(table), table["chosen"].mean()),
    }
    if temperature is not None:
        logit = np.log(table["probability"]) - np.log1p(-table["probability"])
        found["model, expected"] = 1 / (1 + np.exp(-logit.to_numpy() / temperature))
    if learned is not None:
        found["learned, outside"] = (learned > 0.5).to_numpy(dtype=float)
    found["oracle by level"] = (gain.groupby(table["level"]).transform("mean") > 0).to_numpy(dtype=float)
    found["oracle by question"] = (gain > 0).to_numpy(dtype=float)
    return found


def outcomes(table: pd.DataFrame, thinks: np.ndarray) -> pd.DataFrame:
    """`FIGURES` per question for one router, `thinks` (questions,); regret is to the oracle by level."""
    gain = table["reward_think"] - table["reward_short"]
    best = table["reward_short"].where(
        gain.groupby(table["level"]).transform("mean") <= 0, table["reward_think"]
    )
    found = pd.DataFrame({"think rate": thinks}, index=table.index)
    for name in ("accuracy", "tokens", "reward"):
        found[name] = thinks * table[f"{name}_think"] + (1 - thinks) * table[f"{name}_short"]
    return found.assign(regret=best - found["reward"])


def compare(table: pd.DataFrame, choices: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean `outcomes` of every router, with 95 % bootstrap intervals over questions.

    Rows are the routers, columns (figure, "mean" | "low" | "high").
    """
    rows = {}
    for name, thinks in choices.items():
        found = outcomes(table, thinks)
        cells = [(found[figure].mean(), *bootstrap_interval(found[figure].to_numpy())) for figure in FIGURES]
        rows[name] = [value for cell in cells for value in cell]
    columns = pd.MultiIndex.from_product([FIGURES, ("mean", "low", "high")])
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def fit_router(table: pd.DataFrame, gamma: float) -> Callable[[pd.Series], pd.Series]:
    """A router outside the model: logistic regression on the characters of a question (1- to 3-grams, counts).

    Learns on a table of *other* questions where thinking pays, accuracy_short < (1 - gamma/2) accuracy_think,
    the decision rule of the reward. Returns a function from prompts to P(think).
    """
    pays = table["accuracy_short"] < (1 - gamma / 2) * table["accuracy_think"]
    if pays.nunique() < 2:
        raise ValueError(
            f"thinking pays on {pays.mean():.0%} of {len(table)} questions: nothing to tell apart"
        )
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 3)), LogisticRegression(max_iter=1000)
    ).fit(table["prompt"], pays)
    return lambda prompts: pd.Series(model.predict_proba(prompts)[:, 1], index=prompts.index)
