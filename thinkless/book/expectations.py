"""What a finished run should look like, and how far it may stray.

A chapter ends its sections with figures that have a spread, such as what RL costs in accuracy. Each is
compared with an *expectation*: a bound, and where it comes from. For `laptop` that is the spread of whole
pipelines under other arithmetics and seeds (`arithmetic.yaml`, records in `results/arithmetic/`); for
profiles that nobody here has run, `expectations.yaml` names the source. A missed expectation is shown on
the page and at the end of ``make book``, and stops nothing unless ``--strict`` is said. What must hold on
any machine is no expectation: it is an `assert` in the chapter.

None of this is a setting of a run, so none of it changes what has to be computed again.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import yaml

from thinkless.book.results import read_rows
from thinkless.runs.provenance import RESULTS

ARITHMETIC, EXPECTATIONS = RESULTS / "arithmetic", "expectations.jsonl"
"""Folder and file of the records: one row per whole pipeline, with the value of every figure."""
MISSED_ONCE_IN = 200
"""A sound run of a profile on a strange machine misses any of its expectations less often than this."""


class Statistic(NamedTuple):
    """A figure that a chapter shows, and on which side of its bound it should lie."""

    title: str
    side: Literal["at least", "at most"]
    answers: Literal["level", "all", "pairs", None] = None
    """What it is a share of: a level's held-out questions, all of them, or the pairs. A spread of zero over
    a few runs proves nothing about runs to come, so one answer is added to it."""
    between: tuple[float, float] = (0.0, 1.0)
    """What it can be."""

    @property
    def sign(self) -> int:
        """1 where larger values are worse, -1 where smaller ones are."""
        return -1 if self.side == "at least" else 1

    def can_miss(self, bound: float) -> bool:
        """Whether some value lies on the wrong side of `bound`; one that none could miss says nothing."""
        low, high = self.between
        return bound > low if self.side == "at least" else bound < high


DIFFERENCE = (-1.0, 1.0)

STATISTICS = {
    "base_think_accuracy": Statistic("worked answers right, weakest level", "at least", "level"),
    "base_short_level_1": Statistic("short answers right at level 1", "at least", "level"),
    "short_drop": Statistic("fall of short accuracy, first level to last", "at least", "level", DIFFERENCE),
    "distill_dropped": Statistic("pairs dropped, share", "at most", "pairs"),
    "think_gain": Statistic("lead of the long teacher in accuracy", "at least", "pairs", DIFFERENCE),
    "mode_balance": Statistic("think rate, distance from one half", "at most", "all"),
    "mode_spread": Statistic("mean P(think), range over the levels", "at most"),
    "think_accuracy": Statistic("forced think right, weakest level", "at least", "level"),
    "short_level_1": Statistic("forced short right at level 1", "at least", "level"),
    "rl_think_rate_level_1": Statistic("think rate at level 1, last ten steps", "at most"),
    "rl_think_rate_hard": Statistic("least think rate above level 1, last ten steps", "at least"),
    "degrpo_lead": Statistic("lead of DeGRPO in reward, last ten steps", "at least", between=DIFFERENCE),
    "think_rate_level_1": Statistic("think rate at level 1, mean of the runs", "at most", "level"),
    "think_rate_hard": Statistic("least think rate where the rule says think", "at least", "level"),
    "regret": Statistic("regret to the oracle by level, mean of the runs", "at most", "all", (0.0, 2.0)),
    "accuracy_gap": Statistic(
        "accuracy below always thinking, mean of the runs", "at most", "all", DIFFERENCE
    ),
    "router_lift": Statistic(
        "accuracy above a random router of the same cost", "at least", "all", DIFFERENCE
    ),
}


class Expectation(NamedTuple):
    """A figure of this run beside what a profile's runs have."""

    name: str
    value: float
    bound: float | None
    """None where nobody has measured the profile."""
    source: str

    @property
    def met(self) -> bool:
        """Whether the value lies on the right side; one that is not finite never does."""
        if self.bound is None:
            return True
        side = STATISTICS[self.name].side
        return self.value >= self.bound if side == "at least" else self.value <= self.bound

    @property
    def title(self) -> str:
        return STATISTICS[self.name].title

    @property
    def range(self) -> str:
        """The expected range in words."""
        return "not known" if self.bound is None else f"{STATISTICS[self.name].side} {self.bound:z.3f}"

    def __str__(self) -> str:
        return f"{self.title} {self.value:.3f}, expected {self.range}"


def compare(profile: str, values: Mapping[str, float], results: Path = ARITHMETIC) -> list[Expectation]:
    """The `values` of a run, by the names of `STATISTICS`, beside what is expected of the profile's runs.

    Raises StageError if the records are damaged.
    """
    bounds = known_bounds(profile, results)
    return [Expectation(name, float(value), *bounds.get(name, (None, ""))) for name, value in values.items()]


def known_bounds(profile: str, results: Path = ARITHMETIC) -> dict[str, tuple[float, str]]:
    """Bound and source of every statistic that is known of a profile, by name.

    Few pipelines leave wide bounds. One that no value could miss is left out.
    """
    rows = [row for row in read_expectations(results) if row["profile"] == profile]
    if len(rows) > 1:
        source = f"{len(rows)} whole pipelines under other arithmetics and seeds"
        bounds = table_of(rows)["bound"]
        return {name: (value, source) for name, value in bounds.items() if STATISTICS[name].can_miss(value)}
    written = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {name: (row["bound"], row["source"]) for name, row in written.get(profile, {}).items()}


def read_expectations(results: Path = ARITHMETIC) -> list[dict[str, Any]]:
    """The records of whole pipelines; none if there is no file. Raises StageError if it is damaged."""
    path = results / EXPECTATIONS
    return read_rows(path, ("profile", "counts", "values")) if path.exists() else []


def spread(name: str, values: np.ndarray, counts: Mapping[str, int]) -> float:
    """Standard deviation of a statistic over runs (values,), to which one answer's worth is added."""
    answers = STATISTICS[name].answers
    step = 1 / counts[answers] if answers else 0.0
    return math.hypot(values.std(ddof=1), step)


def means_of_draws(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of every draw of `count` runs, with repetition, from recorded ones (runs,): (runs ** count,)."""
    sums = values
    for _ in range(count - 1):
        sums = np.add.outer(sums, values).ravel()
    return sums / count


def bound(
    name: str, values: np.ndarray, counts: Mapping[str, int], runs: Sequence[Sequence[float]] = ()
) -> float:
    """Bound the next pipeline's value, but for one in `MISSED_ONCE_IN` x the number of statistics.

    The wider of two, rounded outwards to three digits: the one-sided prediction bound of Student's t for
    one more value beside `values` (pipelines,), at least two; and, where single `runs` of RL (pipelines,
    runs) are known, what the mean of as many runs of any pipelines keeps to. A run has learned a kind or
    has not, which means over few runs show too rarely for a spread to tell.
    """
    from scipy.stats import t

    n, chance = len(values), 1 / MISSED_ONCE_IN / len(STATISTICS)
    margin = t.isf(chance, n - 1) * spread(name, values, counts) * math.sqrt(1 + 1 / n)
    sign = STATISTICS[name].sign
    limits = [sign * values.mean() + margin]
    if len(runs):
        means = means_of_draws(sign * np.ravel(runs), len(runs[0]))
        limits.append(np.quantile(means, 1 - chance, method="higher"))
    return sign * math.ceil(max(limits) * 1000) / 1000


def _single_runs(rows: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """A statistic of every run of RL (pipelines, runs); empty if it is none of single runs."""
    return [[run[name] for run in row["runs"]] for row in rows if name in row.get("runs", [{}])[0]]


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Mean, standard deviation, spread and bound of every statistic (rows) over recorded pipelines."""
    counts, values = rows[0]["counts"], pd.DataFrame([row["values"] for row in rows])
    table = pd.DataFrame({"mean": values.mean(), "deviation": values.std()})
    table["spread"] = [spread(name, seen.to_numpy(), counts) for name, seen in values.items()]
    table["bound"] = [
        bound(name, seen.to_numpy(), counts, _single_runs(rows, name)) for name, seen in values.items()
    ]
    return table


def miss_chance(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Chance that one more sound pipeline misses any bound, and a 95 % interval that assumes much less.

    The chance adds up, over the figures (Bonferroni), the larger of two: what the bound leaves to Student's
    t, and the share of draws of recorded runs beyond it. So it rests on pipelines that spread like a bell,
    or on runs like the recorded ones. The interval (Clopper and Pearson's) counts instead how many of
    `rows` miss bounds that come from all the others.
    """
    from scipy.stats import binomtest, t

    n, chance = len(rows), 0.0
    for name, row in table_of(rows).iterrows():
        sign, runs, beyond = STATISTICS[name].sign, _single_runs(rows, name), 0.0
        away = sign * (row["bound"] - row["mean"]) / row["spread"] / math.sqrt(1 + 1 / n)
        if runs:
            drawn = means_of_draws(np.ravel(runs), len(runs[0]))
            beyond = np.mean(sign * drawn > sign * row["bound"])
        chance += max(t.sf(away, n - 1), beyond)
    missed = len({line.partition(":")[0] for line in left_out(rows)})
    interval = binomtest(missed, n).proportion_ci(0.95)
    return float(chance), float(interval.low), float(interval.high)


def left_out(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The expectations that recorded pipelines miss when the bounds come from all the others, a line each."""
    lines = []
    for number, row in enumerate(rows):
        bounds = table_of([*rows[:number], *rows[number + 1 :]])["bound"]
        found = [Expectation(name, value, bounds[name], "") for name, value in row["values"].items()]
        lines += [f"{row['variant']}, seed {row['pipeline_seed']}: {one}" for one in found if not one.met]
    return lines
