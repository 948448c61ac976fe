"""Where training will push the choice of mode, from what each mode can do: the closed form.

`objectives.expected_mode_gradient` is the formula; this applies it to the questions of a run, kind by kind.
A *kind* is what the questions have in common whose accuracies and lengths are alike. What is known of the
kinds is a table, one row each, made from a warm-up model's evaluation (`measured`) or by hand:

- `share`: of the questions of RL; the shares sum to 1.
- `think_rate`: before RL.
- `accuracy_think`, `accuracy_short`, `tokens_think`, `tokens_short`: of each forced mode.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from thinkless.objectives import OBJECTIVES, Normalizers, expected_mode_gradient
from thinkless.runs.questions import ChainProblems, MathProblems
from thinkless.runs.settings import RL, Profile

RARE = 0.05
"""The think rate at which `choose_mix` looks at vanilla GRPO."""
FIGURES = ("think_rate", "accuracy_think", "accuracy_short", "tokens_think", "tokens_short")


def measured(warm: Mapping[str, Any], profile: Profile) -> pd.DataFrame:
    """The table of kinds of a warm-up model; `warm` are the metrics of its evaluation. A story's kind is its
    level."""
    assert not isinstance(profile.problems, MathProblems)
    of = "kind" if isinstance(profile.problems, ChainProblems) else "level"
    table = pd.DataFrame({name: warm[f"{name}_by_{of}"] for name in FIGURES})
    shares = pd.Series({str(kind): share for kind, share in profile.problems.shares().items()})
    table = table.reindex(shares.index)
    table.insert(0, "share", shares)
    return table.rename_axis("kind")


def pull(kinds: pd.DataFrame, objective: str, settings: RL) -> pd.Series:
    """The closed form's first pull on P(think), by kind; plus is towards ``<think>``.

    Each kind counts by its share, so the sum is the pull on the average. See
    `objectives.expected_mode_gradient` for what it assumes. With `scale_rewards` a kind is also divided by
    the standard deviation of its rewards, so that kinds whose rewards differ little count more.
    """

    kinds = _weighed(kinds, settings)

    def column(name: str) -> torch.Tensor:
        return torch.tensor(kinds[name].to_numpy(dtype=float))  # (kinds,)

    rate, gamma = column("think_rate"), settings.gamma
    accuracies = column("accuracy_think"), column("accuracy_short")
    think, short = (
        control_weight(objective, column(f"tokens_{mode}"), settings.alpha) for mode in ("think", "short")
    )
    found = expected_mode_gradient(rate, accuracies, (think, short), gamma)
    if settings.scale_rewards == "group":
        found = found / (_reward_std(rate, accuracies, gamma) + 1e-4)  # as TRL does
    return pd.Series(found.numpy(), index=kinds.index) * kinds["share"]


def _weighed(kinds: pd.DataFrame, settings: RL) -> pd.DataFrame:
    """The kinds with the lengths that an objective sees: one token, where the choice alone is trained."""
    return kinds if settings.choice_only is None else kinds.assign(tokens_think=1.0, tokens_short=1.0)


def race(
    kinds: pd.DataFrame, objective: str, settings: RL, *, steps: int, rate: float, apart: float
) -> pd.DataFrame:
    """The think rate of every kind (columns) at steps 0 to `steps` (rows) of walking along the closed form.

    A step for one kind moves the mode logits of all, since they share their parameters, and its own by
    `apart` more: 0 for a policy that cannot tell kinds apart. `rate` is the size of a step once pulls are
    divided by the mean weight of a control token at the start, as an optimiser that scales its steps would.
    Nothing here is fitted.
    """
    kinds = _weighed(kinds, settings)
    lengths = torch.tensor(kinds[["tokens_think", "tokens_short"]].to_numpy(dtype=float))  # (kinds, modes)
    weights = control_weight(objective, lengths, settings.alpha).mean(dim=1)
    heard = float((kinds["share"] * weights.numpy()).sum())
    logits = np.log(kinds["think_rate"] / (1 - kinds["think_rate"]))
    rates = [kinds["think_rate"]]
    for _ in range(steps):
        pulls = pull(kinds.assign(think_rate=rates[-1]), objective, settings) / heard
        logits = logits + rate * (pulls.sum() + apart * pulls)
        rates.append(1 / (1 + np.exp(-logits)))
    return pd.DataFrame(rates, index=pd.RangeIndex(steps + 1, name="step"))


def margin(pulls: pd.Series) -> float:
    """How far the pulls agree, in [-1, 1]: their sum over the sum of their sizes.

    Near 0 the average hangs on small things; at 1 every kind is pulled towards ``<think>``.
    """
    return float(pulls.sum() / pulls.abs().sum())


def least_margin(
    kinds: pd.DataFrame, objective: str, settings: RL, *, length: float = 0.2, accuracy: float = 0.05
) -> float:
    """The margin that is nearest the other side if any one figure of the table is somewhat off.

    That is one length by the share `length`, or one accuracy by `accuracy`.
    """
    found = [margin(pull(kinds, objective, settings))]
    for figure, kind, sign in product(FIGURES[1:], kinds.index, (-1, 1)):
        other = kinds.astype(float)
        if figure.startswith("tokens"):
            other.loc[kind, figure] *= 1 + sign * length
        else:
            other.loc[kind, figure] = np.clip(other.loc[kind, figure] + sign * accuracy, 0, 1)
        found.append(margin(pull(other, objective, settings)))
    return min(found, key=lambda value: value * np.sign(found[0]))


def saved_by_choice(kinds: pd.DataFrame, gamma: float) -> float:
    """Share of always thinking's tokens that the decision rule saves: the oracle by kind."""
    spent = kinds["share"] * kinds["tokens_think"]
    return float((kinds["share"] * _spared(kinds, gamma)).sum() / spent.sum())


def safe_at_once(kinds: pd.DataFrame, gamma: float) -> pd.Series:
    """Per kind: whether the decision rule says to answer shortly."""
    return kinds["accuracy_short"] >= (1 - gamma / 2) * kinds["accuracy_think"]


def _spared(kinds: pd.DataFrame, gamma: float) -> pd.Series:
    """Tokens spared per question of a kind, where the decision rule says to answer shortly."""
    return (kinds["tokens_think"] - kinds["tokens_short"]).where(safe_at_once(kinds, gamma), 0.0)


def choose_mix(
    kinds: pd.DataFrame, settings: RL, *, saved: float, lead: float, least: float = 0.02
) -> pd.Series:
    """Shares of the kinds with which vanilla GRPO unlearns to think most surely, and DeGRPO does not.

    Among all mixes whose `saved_by_choice` is at least `saved`, in which DeGRPO's `margin` is at least `lead`
    and every share at least `least`, the one whose margin under GRPO is lowest once thoughts are `RARE`: the
    pull that decides whether the way down ends. A linear program for each margin that is tried.

    Raises ValueError if there is no such mix.
    """
    from scipy.optimize import linprog

    # what one question of each kind adds, (kinds,); a mix weighs them
    evenly = kinds.assign(share=1.0)
    ahead = pull(evenly, "degrpo", settings)
    down = -pull(evenly.assign(think_rate=RARE), "grpo", settings)
    spared = _spared(kinds, settings.gamma) - saved * kinds["tokens_think"]

    def mix(low: float) -> np.ndarray | None:
        # each row a sum over the kinds that must not be below 0
        rows = np.stack([ahead - lead * ahead.abs(), down - low * down.abs(), spared])
        found = linprog(
            np.zeros(len(kinds)),
            A_ub=-rows,
            b_ub=np.zeros(len(rows)),
            A_eq=np.ones((1, len(kinds))),
            b_eq=[1],
            bounds=(least, 1),
        )
        return found.x if found.success else None

    low, high, best = -1.0, 1.0, mix(-1.0)
    if best is None:
        raise ValueError(f"no mix saves {saved:.0%} with a margin of {lead} under DeGRPO")
    while high - low > 1e-3:
        middle = (low + high) / 2
        if (found := mix(middle)) is None:
            high = middle
        else:
            low, best = middle, found
    return pd.Series(best, kinds.index, name="share")


def predicted_pull(warm: Mapping[str, Any], profile: Profile, objective: str) -> pd.Series:
    """`pull` of what a warm-up model's metrics say, on the questions and in the settings of `profile`."""
    return pull(measured(warm, profile), objective, profile.rl)


def _reward_std(
    p_think: torch.Tensor, accuracy: tuple[torch.Tensor, torch.Tensor], gamma: float
) -> torch.Tensor:
    """Standard deviation of a free answer's reward, one value per kind, for modes as right as `accuracy`."""
    right_think, right_short = p_think * accuracy[0], (1 - p_think) * accuracy[1]
    wrong = 1 - right_think - right_short
    mean = (1 - gamma) * right_think + right_short - wrong
    square = (1 - gamma) ** 2 * right_think + right_short + wrong
    return (square - mean**2).clamp(min=0).sqrt()


def gamma_without_pull(kinds: pd.DataFrame, objective: str, settings: RL) -> float:
    """The price γ at which `pull` sums to zero, which is linear in it; above it lies ``<short>``.

    Negative or above 1 if there is no such price among the possible ones. With `scale_rewards` it is not
    linear, and this is not its zero.
    """

    def total(gamma: float) -> float:
        return pull(kinds, objective, settings.model_copy(update={"gamma": gamma})).sum()

    return total(0.0) / (total(0.0) - total(1.0))


def control_weight(objective: str, lengths: torch.Tensor, alpha: float) -> torch.Tensor:
    """Loss weight of the control token of answers of these lengths, up to a factor that all answers share."""
    same_for_all = {"mean_length": 1.0, "max_length": 1.0}
    control, _ = OBJECTIVES[objective](Normalizers(lengths, alpha, **same_for_all))
    return control / lengths
