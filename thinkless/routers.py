"""Ways to choose the mode for a question, all judged on the same model's answers.

`by_question` reduces a report with repeated forced samples to what each mode is worth on each question.
A router is then one number per question, the probability that it thinks, and its accuracy, tokens and
reward are expectations over those samples: no second round of answers, and no luck of a single draw.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from thinkless.evaluation import Report, bootstrap_interval

FIGURES = ("think rate", "accuracy", "tokens", "reward", "regret")


def by_question(report: Report) -> pd.DataFrame:
    """One row per question: what each mode is worth on it, and what the model chose.

    Columns: `prompt`, `level`; `probability`, P(think) at temperature 1; `chosen`, the share of free
    answers that think, and `hacked`, of those that think inside ``<short>``; for m in "short", "think":
    `accuracy_m`, `tokens_m`, `reward_m`, means over the forced samples.
    """
    answers = report.answers
    table = answers.groupby("question").agg(
        prompt=("prompt", "first"), level=("level", "first"), probability=("think_probability", "mean")
    )
    free = report.setting("free")
    table["chosen"] = (free["mode"] == "think").groupby(free["question"]).mean()
    table["hacked"] = (free["fault"] == "thinks_in_short").groupby(free["question"]).mean()
    for mode in ("short", "think"):
        means = report.setting(mode).groupby("question")[["correct", "tokens", "reward"]].mean()
        table[[f"{name}_{mode}" for name in ("accuracy", "tokens", "reward")]] = means
    return table


def gain(table: pd.DataFrame) -> pd.Series:
    """Reward of thinking less reward of answering shortly, per question."""
    return table["reward_think"] - table["reward_short"]


def pays(table: pd.DataFrame, gamma: float) -> pd.Series:
    """The reward's decision rule per question: accuracy_short < (1 - gamma/2) accuracy_think."""
    return table["accuracy_short"] < (1 - gamma / 2) * table["accuracy_think"]


def routers(table: pd.DataFrame, outside: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """P(think) per row of `by_question` for each router, (questions,) in [0, 1].

    `outside` are the probabilities of a router outside the model, see `outside_router`. `random, same
    rate` thinks as often as the model, on any question: its figures are means over all its draws. The
    oracles know mean rewards, by level or by question; the latter is judged on the samples it was told,
    so it is an upper bound.
    """
    by_level = gain(table).groupby(table["level"]).transform("mean")
    found = {
        "model": table["chosen"].to_numpy(),
        "always short": np.zeros(len(table)),
        "always think": np.ones(len(table)),
        "random, same rate": np.full(len(table), table["chosen"].mean()),
        "oracle by level": (by_level > 0).to_numpy(dtype=float),
        "oracle by question": (gain(table) > 0).to_numpy(dtype=float),
    }
    return found if outside is None else {**found, "outside the model": (outside > 0.5).astype(float)}


def outcomes(table: pd.DataFrame, thinks: np.ndarray) -> pd.DataFrame:
    """`FIGURES` per question for one router, `thinks` (questions,); regret is to the oracle by level."""
    by_level = gain(table).groupby(table["level"]).transform("mean")
    best = table["reward_short"].where(by_level <= 0, table["reward_think"])
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


def outside_router(table: pd.DataFrame, gamma: float, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """P(think) of a router outside the model: logistic regression on a question's character 1- to 3-grams.

    It learns where thinking `pays` from the other folds, so no question is judged by what it taught.
    Returns (questions,). Raises ValueError if one side has fewer questions than there are folds.
    """
    labels = pays(table, gamma)
    if labels.value_counts().reindex([False, True], fill_value=0).min() < folds:
        raise ValueError(f"thinking pays on {labels.sum()} of {len(table)} questions: too few to tell apart")
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 3)), LogisticRegression(max_iter=1000)
    )
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(model, table["prompt"], labels, cv=parts, method="predict_proba")[:, 1]


def tilted(probability: np.ndarray, bias: float, temperature: float, top_p: float = 1.0) -> np.ndarray:
    """P(think) as it is sampled with `bias` nats added to the logit of ``<think>``.

    Both logits are divided by `temperature`, then a mode whose probability the other's covers to `top_p`
    is cut off, as nucleus sampling does.
    """
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    sampled = 1 / (1 + np.exp(-(np.log(clipped) - np.log1p(-clipped) + bias) / temperature))
    return np.where(sampled >= top_p, 1.0, np.where(1 - sampled >= top_p, 0.0, sampled))


def dial(
    table: pd.DataFrame, biases: Sequence[float], *, temperature: float, top_p: float = 1.0
) -> pd.DataFrame:
    """Mean `outcomes` of the model under every bias (rows, in nats), without a new answer."""
    probability = table["probability"].to_numpy()
    rows = [outcomes(table, tilted(probability, bias, temperature, top_p)).mean() for bias in biases]
    return pd.DataFrame(rows, index=pd.Index(biases, name="bias"))


def frontier(table: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Mean tokens and accuracy when the k questions of the highest scores think, for k = 0 … all.

    Questions of one score switch together, so that ties gain nothing from their order.
    """
    order = np.argsort(-scores, kind="stable")
    columns = {}
    for name in ("tokens", "accuracy"):
        short, think = (table[f"{name}_{mode}"].to_numpy()[order] for mode in ("short", "think"))
        columns[name] = (short.sum() + np.concatenate([[0.0], np.cumsum(think - short)])) / len(table)
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    return pd.DataFrame(columns)[np.concatenate([[True], last_of_score])].reset_index(drop=True)


def value_of_thinking(table: pd.DataFrame) -> pd.Series:
    """Accuracy gained per token spent on thinking, per question: the order in which an oracle spends them."""
    extra = (table["tokens_think"] - table["tokens_short"]).clip(lower=1)
    return (table["accuracy_think"] - table["accuracy_short"]) / extra


def area(curve: pd.DataFrame) -> float:
    """Mean accuracy along a curve from always short to always think, over tokens."""
    tokens, accuracy = curve["tokens"].to_numpy(), curve["accuracy"].to_numpy()
    order = np.argsort(tokens, kind="stable")
    return float(np.trapezoid(accuracy[order], tokens[order]) / (tokens.max() - tokens.min()))
