"""Ways to choose the mode for a question, all judged on the same model's answers.

`Report.by_question` reduces repeated forced samples to what each mode is worth on each question, one row
each: the `table` of every function here. A router is then one number per question, the probability that it
thinks, and its accuracy, tokens and reward are expectations over those samples: no second round of answers,
and no luck of a single draw.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from thinkless.evaluation.report import bootstrap_interval

FIGURES = ("think rate", "accuracy", "tokens", "reward", "regret")


def gain(table: pd.DataFrame) -> pd.Series:
    """Reward of thinking less reward of answering shortly, per question."""
    return table["reward_think"] - table["reward_short"]


def _gain_of_level(table: pd.DataFrame) -> pd.Series:
    return gain(table).groupby(table["level"]).transform("mean")


def choose(table: pd.DataFrame, outside: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """P(think) on every question for each router, (questions,) in [0, 1].

    `outside` are the probabilities of a router outside the model, see `outside_router`. `random, same
    rate` thinks as often as the model, on any question: its figures are means over all its draws. The
    oracles know mean rewards, by level or by question; the latter is judged on the samples it was told,
    so it is an upper bound.
    """
    found = {
        "model": table["chosen"].to_numpy(),
        "always short": np.zeros(len(table)),
        "always think": np.ones(len(table)),
        "random, same rate": np.full(len(table), table["chosen"].mean()),
        "oracle by level": (_gain_of_level(table) > 0).to_numpy(dtype=float),
        "oracle by question": (gain(table) > 0).to_numpy(dtype=float),
    }
    return found if outside is None else {**found, "outside the model": (outside > 0.5).astype(float)}


def outcomes(table: pd.DataFrame, thinks: np.ndarray) -> pd.DataFrame:
    """`FIGURES` per question for one router, `thinks` (questions,); regret is to the oracle by level."""
    # what the oracle by level earns on each question
    best = table["reward_short"].where(_gain_of_level(table) <= 0, table["reward_think"])
    found = pd.DataFrame({"think rate": thinks}, index=table.index)
    for name in ("accuracy", "tokens", "reward"):
        found[name] = thinks * table[f"{name}_think"] + (1 - thinks) * table[f"{name}_short"]
    return found.assign(regret=best - found["reward"])


def compare(table: pd.DataFrame, choices: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean `outcomes` of every router, with 95 % bootstrap intervals over the questions of each level.

    Rows are the routers, columns (figure, "mean" | "low" | "high"). The rows share their questions: to
    compare two of them, see `lead`.
    """
    rows = {}
    for name, thinks in choices.items():
        found = outcomes(table, thinks)
        cells = [_interval(found[figure], table) for figure in FIGURES]
        rows[name] = [value for cell in cells for value in cell]
    columns = pd.MultiIndex.from_product([FIGURES, ("mean", "low", "high")])
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def lead(table: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Reward of one router less that of another, question by question: mean and 95 % bootstrap interval."""
    return _interval(outcomes(table, one)["reward"] - outcomes(table, other)["reward"], table)


def _interval(values: pd.Series, table: pd.DataFrame) -> tuple[float, float, float]:
    low, high = bootstrap_interval(values.to_numpy(), strata=table["level"].to_numpy(), draws=1000)
    return float(values.mean()), low, high


def outside_router(table: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """P(think), (questions,), of a router outside the model: logistic regression on the
    counts of a question's 1- to 3-grams of characters.

    It learns from the other folds where thinking earns more, each question weighed by
    how much, so no question is judged by what it taught. Raises ValueError if one side
    has fewer questions than there are folds.
    """
    labels = gain(table) > 0  # where thinking earns more
    if labels.value_counts().reindex([False, True], fill_value=0).min() < folds:
        counts = f"{labels.sum()} of {len(table)}"
        raise ValueError(f"thinking pays on {counts} questions: too few to tell apart")
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 3)),
        LogisticRegression(max_iter=1000),
    )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    weights = {"logisticregression__sample_weight": gain(table).abs().to_numpy()}
    return cross_val_predict(
        model, table["question"], labels, cv=parts, method="predict_proba", params=weights
    )[:, 1]


def tilted(
    probability: np.ndarray, bias: float | np.ndarray, temperature: float, top_p: float = 1.0
) -> np.ndarray:
    """P(think) as it is sampled with `bias` nats added to the logit of ``<think>``.

    Both logits are divided by `temperature`; then a mode is cut off if the other alone
    covers `top_p`, as nucleus sampling does.
    """
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    logit = np.log(clipped) - np.log1p(-clipped)  # of <think> less that of <short>
    sampled = 1 / (1 + np.exp(-(logit + bias) / temperature))
    return np.where(sampled >= top_p, 1.0, np.where(1 - sampled >= top_p, 0.0, sampled))


def dial(
    table: pd.DataFrame, biases: Sequence[float], *, temperature: float, top_p: float = 1.0
) -> pd.DataFrame:
    """Mean think rate, accuracy, tokens and reward of the model under every bias (rows,
    in nats), without a new answer."""
    probability, shifts = table["probability"].to_numpy(), np.asarray(biases)[:, None]
    thinks = tilted(probability, shifts, temperature, top_p)  # biases by questions
    found = {"think rate": thinks.mean(axis=1)}
    for name in ("accuracy", "tokens", "reward"):
        think, short = (table[f"{name}_{m}"].to_numpy() for m in ("think", "short"))
        found[name] = (thinks * think + (1 - thinks) * short).mean(axis=1)
    return pd.DataFrame(found, index=pd.Index(biases, name="bias"))


def frontier(table: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Mean tokens and accuracy when the k questions of the highest scores think, for k = 0 … all.

    Questions of one score switch together, so that ties gain nothing from their order.
    """
    order = np.argsort(-scores, kind="stable")
    columns = {}
    for name in ("tokens", "accuracy"):
        short, think = (table[f"{name}_{mode}"].to_numpy()[order] for mode in ("short", "think"))
        # from all short, one question after the other switches to think: (questions + 1,) points
        columns[name] = (short.sum() + np.concatenate([[0.0], np.cumsum(think - short)])) / len(table)
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    return pd.DataFrame(columns)[np.concatenate([[True], last_of_score])].reset_index(drop=True)


def oracle_order(table: pd.DataFrame) -> np.ndarray:
    """Scores that let the levels think first where a token buys the most accuracy, (questions,)."""
    means = table.groupby("level")[
        ["accuracy_think", "accuracy_short", "tokens_think", "tokens_short"]
    ].mean()
    extra = (means["tokens_think"] - means["tokens_short"]).clip(lower=1e-9)
    worth = (means["accuracy_think"] - means["accuracy_short"]) / extra
    return table["level"].map(worth).to_numpy()


def area(curve: pd.DataFrame) -> float:
    """Mean accuracy over tokens along a curve, between its first point and its last."""
    first, last = curve["tokens"].iloc[[0, -1]]
    curve = curve.sort_values("tokens", kind="stable")
    inside = curve["tokens"][curve["tokens"].between(first, last)]
    spent = np.unique([first, *inside, last])  # every bend of the curve, and its ends
    return float(np.trapezoid(np.interp(spent, curve["tokens"], curve["accuracy"]), spent) / (last - first))
