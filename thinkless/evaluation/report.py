"""Measuring a hybrid model: what it chooses, what each mode can do, and what the choice costs.

Every held-out question is answered three ways: free (the model chooses the mode), forced short and
forced think. The forced runs say what each mode is worth on each level; the free run says what the
model made of it. Routers that need no training (always one mode, the best mode per level, the best
mode per question) are then read off the same answers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from thinkless.generation import Generator
from thinkless.modes import Mode
from thinkless.rewards import judge, reward

SETTINGS: dict[str, Mode | None] = {"free": None, "short": Mode.SHORT, "think": Mode.THINK}
"""How a question is answered: the forced mode, or None for the model's own choice."""

CARRIED = ("source", "kind")
"""Columns of the questions that go into the report where they exist."""


@dataclass(frozen=True)
class Report:
    """Every answer, one row each, and the tables computed from them.

    Columns of `answers`: `number` (of the question), `question`, `level`, `setting` (key of `SETTINGS`),
    `mode` ("think", "short" or None), `correct`, `tokens` (control and end token included, prompt not),
    `reward`, `think_probability`, `fault`, `text`; and `source`, the benchmark, where questions have one.
    """

    answers: pd.DataFrame
    gamma: float

    def setting(self, name: str) -> pd.DataFrame:
        """The answers of one setting."""
        return self.answers[self.answers.setting == name]

    def by(self, column: str) -> pd.DataFrame:
        """Accuracy, tokens and reward per value of `column` for each setting, and the free think rate."""
        table = self.answers.pivot_table(
            index=column, columns="setting", values=["correct", "tokens", "reward"]
        )
        table.columns = [f"{value} ({setting})" for value, setting in table.columns]
        free = self.setting("free")
        table.insert(0, "think rate", (free["mode"] == "think").groupby(free[column]).mean())
        return table

    def by_level(self) -> pd.DataFrame:
        """`by("level")`."""
        return self.by("level")

    def by_mode(self) -> pd.DataFrame:
        """Share, accuracy and mean tokens of the answers by the mode that the model chose."""
        free = self.setting("free")
        table = free.groupby("mode", dropna=False).agg(
            answers=("correct", "size"), accuracy=("correct", "mean"), tokens=("tokens", "mean")
        )
        table.insert(0, "share", table["answers"] / len(free))
        return table

    def by_question(self) -> pd.DataFrame:
        """One row per question: what each mode is worth on it, and what the model chose.

        Columns: `question`, `level`; `probability`, P(think) at temperature 1; `chosen`, the share of free
        answers that think, and `hacked`, the share that think inside ``<short>``; for m in "short", "think":
        `accuracy_m`, `tokens_m`, `reward_m`, and `fault_m`, the share with a format fault, means over the
        forced samples.
        """
        table = self.answers.groupby("number").agg(
            question=("question", "first"),
            level=("level", "first"),
            probability=("think_probability", "mean"),
        )
        free = self.setting("free")
        table["chosen"] = (free["mode"] == "think").groupby(free["number"]).mean()
        table["hacked"] = (free["fault"] == "thinks_in_short").groupby(free["number"]).mean()
        for mode in ("short", "think"):
            forced = self.setting(mode)
            means = forced.assign(fault=forced["fault"].notna()).groupby("number")
            names = {"accuracy": "correct", "tokens": "tokens", "reward": "reward", "fault": "fault"}
            for name, column in names.items():
                table[f"{name}_{mode}"] = means[column].mean()
        return table

    def modes_on(self, questions: Dataset) -> pd.DataFrame:
        """Gather by kind, or by level, what the closed form of the mode gradient needs to know about RL.

        Columns (`share`, "all"): the share of `questions`; (`correct`, mode) and (`tokens`, mode)
        of each forced mode here. Questions without levels count as one, on all answers together.
        """
        of = "kind" if "kind" in questions.column_names and "kind" in self.answers else "level"
        shares = pd.Series(questions[of]).value_counts(normalize=True).sort_index()
        # published sets have no levels: all their questions count as one
        parts = self.answers[of] if len(shares) > 1 else self.answers["level"] * 0 + shares.index[0]
        forced = self.answers[self.answers["setting"] != "free"]
        table = forced.pivot_table(index=parts[forced.index], columns="setting", values=["correct", "tokens"])
        table.insert(0, ("share", "all"), shares)
        return table.dropna().rename_axis(of)

    def routers(self) -> pd.DataFrame:
        """Think rate, accuracy, tokens and reward of the model and of routers made from its answers.

        More routers, judged question by question, are in `evaluation.routers`.
        `oracle by level` knows each level's mean rewards, `oracle by question` the outcome of each
        question's own forced answers: an upper bound that luck helps, since it picks after the fact.
        """
        short, think = (self.setting(mode).reset_index(drop=True) for mode in ("short", "think"))
        gain = think["reward"] - short["reward"]  # row by row: the same question in both modes
        choices = {
            "always short": np.zeros(len(short), dtype=bool),
            "always think": np.ones(len(short), dtype=bool),
            "oracle by level": (gain.groupby(short["level"]).transform("mean") > 0).to_numpy(),
            "oracle by question": (gain.groupby(short["number"]).transform("mean") > 0).to_numpy(),
        }
        free = self.setting("free")
        rows = {"model": _summary((free["mode"] == "think").to_numpy(), free)}
        for name, thinks in choices.items():
            # a router made of forced answers: the long one where it thinks, else the short one
            rows[name] = _summary(thinks, short.where(pd.Series(~thinks), think))
        return pd.DataFrame(rows).T

    @property
    def regret(self) -> float:
        """Mean reward of the best mode per level minus the model's; 0 for a perfect router by level."""
        rewards = self.routers()["reward"]
        return float(rewards["oracle by level"] - rewards["model"])

    def summary(self) -> dict[str, float | dict[str, float]]:
        """The figures that a manifest keeps, plain numbers only."""
        routers, free = self.routers(), self.setting("free")
        parts = {
            f"{figure}_by_{column}": {str(part): float(value) for part, value in values.items()}
            for column in ("level", "kind")
            if column in self.answers
            for figure, values in self._figures_by(column).items()
        }
        return {
            **parts,
            "questions": int(free["number"].nunique()),
            "think_rate": float(routers.loc["model", "think rate"]),
            "accuracy": float(routers.loc["model", "accuracy"]),
            "accuracy_always_think": float(routers.loc["always think", "accuracy"]),
            "accuracy_always_short": float(routers.loc["always short", "accuracy"]),
            "tokens": float(routers.loc["model", "tokens"]),
            "tokens_always_think": float(routers.loc["always think", "tokens"]),
            "reward": float(routers.loc["model", "reward"]),
            "regret": self.regret,
            "regret_by_question": float(
                routers.loc["oracle by question", "reward"] - routers.loc["model", "reward"]
            ),
            "faults": float(free["fault"].notna().mean()),
        }

    def _figures_by(self, column: str) -> dict[str, pd.Series]:
        table = self.by(column)
        forced = {
            f"{name}_{mode}": table[f"{of} ({mode})"]
            for name, of in (("accuracy", "correct"), ("tokens", "tokens"))
            for mode in ("short", "think")
        }
        return forced | {"think_rate": table["think rate"]}

    def lines(self) -> str:
        """The answers as JSON lines, for a file that `load_report` reads."""
        return self.answers.to_json(orient="records", lines=True)


def load_report(path: Path, gamma: float) -> Report:
    """A report from a file of `Report.lines`, rewarded with `gamma`: the file has rewards to ten digits."""
    texts = dict.fromkeys(("question", "prompt", "text"), str)
    answers = present_names(pd.read_json(path, orient="records", lines=True, dtype=texts))
    modes = {mode.label: mode for mode in Mode}
    answers["reward"] = [
        reward(modes.get(mode), correct, gamma)
        for mode, correct in zip(answers["mode"], answers["correct"], strict=True)
    ]
    return Report(answers, gamma)


def present_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table of questions under its columns' present names: earlier versions had `question` for `number`,
    and `prompt` for `question`."""
    if "prompt" in table:
        table = table.rename(columns={"question": "number", "prompt": "question"})
    return table.astype({"number": int})


def _summary(thinks: np.ndarray, answers: pd.DataFrame) -> dict[str, float]:
    return {
        "think rate": float(thinks.mean()),
        "accuracy": float(answers["correct"].astype(float).mean()),
        "tokens": float(answers["tokens"].astype(float).mean()),
        "reward": float(answers["reward"].astype(float).mean()),
    }


def evaluate(
    generator: Generator,
    dataset: Dataset,
    *,
    max_tokens: int,
    gamma: float,
    temperature: float = 0.6,
    top_p: float = 0.95,
    samples: int = 1,
    seed: int = 0,
    mode_bias: float = 0.0,
    settings: Sequence[str] = tuple(SETTINGS),
) -> Report:
    """Answer every question of `dataset` in every setting, `samples` times, and grade the answers.

    `dataset` is a problem set with the column `prompt`, the text that the model reads. `mode_bias` tilts the
    free setting, see `Generator.generate`; `settings` picks some of `SETTINGS`. Raises ValueError before the
    first question if a column is missing.
    """
    if missing := {"question", "prompt", "answer", "level"} - set(dataset.column_names):
        raise ValueError(f"no column {', '.join(sorted(missing))}; found {', '.join(dataset.column_names)}")
    rows = []
    for setting in settings:
        answers = generator.generate(
            dataset["prompt"],
            n=samples,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            mode=SETTINGS[setting],
            mode_bias=mode_bias,
            seed=seed,
        )
        for number, (problem, completions) in enumerate(zip(dataset, answers, strict=True)):
            for completion in completions:
                verdict = judge(completion, problem["answer"])
                rows.append(
                    {
                        "number": number,
                        "question": problem["question"],
                        "level": problem["level"],
                        "setting": setting,
                        "mode": verdict.mode.label if verdict.mode else None,
                        "correct": verdict.correct,
                        "tokens": completion.tokens,
                        "reward": verdict.reward(gamma),
                        "think_probability": completion.think_probability,
                        "fault": verdict.fault,
                        "text": completion.text,
                        **{name: problem[name] for name in CARRIED if name in problem},
                    }
                )
    return Report(pd.DataFrame(rows), gamma)


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic` over the rows of `values`.

    With `strata` (rows,) the rows of each stratum are drawn apart, so that every draw has as many of each.
    """
    rng = np.random.default_rng(seed)
    values = np.asarray(values)
    strata = np.zeros(len(values)) if strata is None else np.asarray(strata)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]

    def draw() -> np.ndarray:
        return np.concatenate([group[rng.integers(0, len(group), len(group))] for group in groups])

    estimates = [statistic(values[draw()]) for _ in range(draws)]  # (draws,)
    tail = (1 - level) / 2
    return float(np.quantile(estimates, tail)), float(np.quantile(estimates, 1 - tail))


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of its Student t interval: the right one for a handful of seeds.

    A single value has no spread: its half-width is NaN.
    """
    from scipy.stats import t

    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), math.nan
    # the quantile times the standard error of the mean
    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)
