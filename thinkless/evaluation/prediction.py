"""Where training will push the choice of mode, from a warm-up model's evaluation alone: the closed form.

`objectives.expected_mode_gradient` is the formula; this applies it to a profile's questions, level by level.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from thinkless.objectives import OBJECTIVES, Normalizers, expected_mode_gradient
from thinkless.runs.questions import ChainProblems
from thinkless.runs.settings import Profile


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
