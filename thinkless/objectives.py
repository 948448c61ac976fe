"""Objectives as weights on token advantages: what GRPO, Dr. GRPO and DeGRPO disagree about.

Every objective here is computed by one reduction, the per-sequence mean that TRL calls
``loss_type="grpo"``::

    J = mean over sequences b of  (1/T_b) sum over tokens t of  surrogate(ratio_bt, A_bt)

The clipped surrogate is linear in a positive weight, so scaling a token's advantage scales its term.
An objective is then a rule for two weights per sequence, one for the control token (position 0) and
one for the response (positions 1 and later), and `token_advantages` multiplies them in. To add an
objective, add a rule to `OBJECTIVES`; nothing else changes, in the trainer either.

Symbols: B sequences, T padded length, T_b tokens of sequence b (control token and end included).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Normalizers(NamedTuple):
    """The numbers that a rule may divide by, counted over the whole optimiser step, never a micro-batch."""

    lengths: Tensor
    """(B, 1) float, tokens of each sequence."""
    alpha: float
    """Weight of the control token's term in DeGRPO (Eq. 4)."""
    mean_length: Tensor | float
    """Tokens per sequence, averaged over the step."""
    max_length: Tensor | float
    """The constant of Dr. GRPO: the longest completion that generation allows."""


def grpo(n: Normalizers) -> tuple[Tensor, Tensor]:
    """Eq. 1 of arXiv 2505.13379: every token of a sequence weighs 1/T_b."""
    one = torch.ones_like(n.lengths)
    return one, one


def dr_grpo(n: Normalizers) -> tuple[Tensor, Tensor]:
    """arXiv 2503.20783: a constant in place of T_b, so that long answers are not discounted."""
    weight = n.lengths / n.max_length
    return weight, weight


def token_mean(n: Normalizers) -> tuple[Tensor, Tensor]:
    """Every token of the step weighs the same. The code released with Thinkless does so by micro-batch."""
    weight = n.lengths / n.mean_length
    return weight, weight


def degrpo(n: Normalizers) -> tuple[Tensor, Tensor]:
    """Eq. 4 of arXiv 2505.13379: alpha on the control token, a mean over the T_b - 1 others."""
    return n.alpha * n.lengths, n.lengths / (n.lengths - 1).clamp(min=1)


def degrpo_token_mean(n: Normalizers) -> tuple[Tensor, Tensor]:
    """A mean over all control tokens, one over all response tokens; the released code's, by micro-batch."""
    responses = torch.as_tensor(n.mean_length - 1, dtype=n.lengths.dtype).clamp(min=1e-9)
    return n.alpha * n.lengths, n.lengths / responses


OBJECTIVES: dict[str, Callable[[Normalizers], tuple[Tensor, Tensor]]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "token_mean": token_mean,
    "degrpo": degrpo,
    "degrpo_token_mean": degrpo_token_mean,
}
"""Name of an objective → rule that returns its (control, response) weights, each (B, 1)."""


def group_advantages(rewards: Tensor, group_size: int, scale: str = "none") -> Tensor:
    """Rewards (B,) minus the mean of their group of `group_size` consecutive rows; returns (B,).

    `scale="group"` also divides by the group's standard deviation (original GRPO); the paper does
    not, since that inflates questions that are almost always right or almost always wrong.
    Raises ValueError if B is no multiple of `group_size` or `scale` is unknown.
    """
    if group_size < 1 or rewards.numel() % group_size:
        raise ValueError(f"{rewards.numel()} rewards do not split into groups of {group_size}")
    groups = rewards.view(-1, group_size)  # (B / group_size, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / (groups.std(dim=1, keepdim=True, unbiased=group_size > 1) + 1e-4)
    elif scale != "none":
        raise ValueError(f"scale={scale!r}: expected 'none' or 'group'")
    return centred.view(-1)


def token_advantages(
    advantages: Tensor,
    mask: Tensor,
    objective: str = "degrpo",
    *,
    alpha: float = 1e-3,
    mean_length: Tensor | float | None = None,
    max_length: Tensor | float | None = None,
) -> Tensor:
    """Per-token advantages (B, T) that turn the per-sequence mean into `objective`.

    Args:
        advantages: (B,) one advantage per completion.
        mask: (B, T) 1 on completion tokens, 0 on padding; position 0 is the control token.
        objective: a key of `OBJECTIVES`.
        alpha: weight of the control token's term (DeGRPO objectives only).
        mean_length, max_length: see `Normalizers`; taken from `mask` when None, which is right only
            if `mask` holds the whole optimiser step.

    Raises ValueError for an unknown objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r}: expected one of {', '.join(OBJECTIVES)}")
    mask = mask.to(advantages.dtype)
    lengths = mask.sum(dim=1, keepdim=True)  # (B, 1)
    if mean_length is None:
        mean_length = lengths.sum() / (lengths > 0).sum().clamp(min=1)
    if max_length is None:
        max_length = mask.shape[1]
    control, response = OBJECTIVES[objective](Normalizers(lengths, alpha, mean_length, max_length))
    # one weight for position 0, the other for all later ones: (B, 1) and (B, T - 1) make (B, T)
    weights = torch.cat([control, response.expand(-1, mask.shape[1] - 1)], dim=1)
    return advantages.unsqueeze(1) * weights * mask  # no advantage on padding


def control_share(token_advantages: Tensor, mask: Tensor) -> Tensor:
    """Share of the absolute advantage under the per-sequence mean that falls on control tokens.

    Inputs (B, T); returns a scalar in [0, 1], and 0 where every advantage is zero.
    """
    mask = mask.to(token_advantages.dtype)
    # what each token weighs in the per-sequence mean, (B, T)
    weighted = token_advantages.abs() * mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return weighted[:, 0].sum() / weighted.sum().clamp(min=torch.finfo(weighted.dtype).tiny)


def expected_mode_gradient(
    p_think: Tensor, accuracy: tuple[Tensor, Tensor], weight: tuple[Tensor, Tensor], gamma: float
) -> Tensor:
    """Expected first policy-gradient step on z = log P(think) - log P(short), one value per question.

    `accuracy` and `weight` are (think, short): how often each mode is right, and the loss weight of
    its control token (constant for DeGRPO, 1/T for GRPO). With rewards centred on the policy's own
    mean, the gradient is p(1-p) (R_think - R_short) ((1-p) w_think + p w_short): on one question the
    sign is the decision rule's whatever the weights, so only the average over questions can flip.
    Assumes one length per mode and question, and groups large enough that their mean is exact.
    """
    # expected rewards: (1 - gamma) q - (1 - q) and q - (1 - q), for accuracy q
    reward_think = accuracy[0] * (2 - gamma) - 1
    reward_short = accuracy[1] * 2 - 1
    pull = (1 - p_think) * weight[0] + p_think * weight[1]
    return p_think * (1 - p_think) * (reward_think - reward_short) * pull
