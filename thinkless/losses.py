"""The reference, which no training calls: the two losses of the paper, from scratch, term by term.

To change what is trained, change `objectives.py`: training runs on TRL, which gets the same numbers from
`objectives.token_advantages`. These losses are for reading, and the trainer's tests hold it to them.

All inputs are (B, T) unless said; position 0 is the control token; results are scalars to minimise.
Equations are those of arXiv 2505.13379.
"""

import torch
from torch import Tensor


def clipped_surrogate(logps: Tensor, old_logps: Tensor, advantages: Tensor, epsilon: float = 0.2) -> Tensor:
    """Eq. 2, one value per token: min(ratio A, clip(ratio, 1-eps, 1+eps) A); `advantages` (B,)."""
    ratio = torch.exp(logps - old_logps)  # (B, T), 1 at the first update
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    advantages = advantages.unsqueeze(1)  # (B, 1): the same for every token of a completion
    return torch.minimum(ratio * advantages, clipped * advantages)


def kl_to_reference(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """The low-variance estimate of KL(policy || reference) per token, never negative."""
    log_ratio = ref_logps - logps  # (B, T)
    return torch.exp(log_ratio) - log_ratio - 1


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B, T) → (B,): mean over the unmasked tokens, 0 for a row that has none."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _kl_term(logps: Tensor, mask: Tensor, ref_logps: Tensor | None, beta: float) -> Tensor | float:
    if beta == 0:
        return 0.0
    if ref_logps is None:
        raise ValueError(
            f"beta={beta} asks for a KL term: pass ref_logps, the reference model's log-probabilities"
        )
    return beta * sequence_mean(kl_to_reference(logps, ref_logps), mask)


def grpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    epsilon: float = 0.2,
    ref_logps: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Eq. 1: the mean over a sequence's tokens, control token among them, then over sequences.

    `advantages` is (B,). Raises ValueError if `beta` is not 0 and `ref_logps` is missing.
    """
    mask = mask.to(logps.dtype)
    surrogate = clipped_surrogate(logps, old_logps, advantages, epsilon)
    objective = sequence_mean(surrogate, mask) - _kl_term(logps, mask, ref_logps, beta)  # (B,)
    return -objective.mean()  # maximised by minimising


def degrpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    alpha: float,
    epsilon: float = 0.2,
    ref_logps: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Eq. 4: alpha times the control token's term plus the mean over the response's tokens.

    The paper writes the KL of the whole sequence; here, as in its code and in TRL, it is the mean of
    the per-token estimate, control token included. `advantages` is (B,). Raises ValueError if `beta`
    is not 0 and `ref_logps` is missing.
    """
    mask = mask.to(logps.dtype)
    surrogate = clipped_surrogate(logps, old_logps, advantages, epsilon)
    control = surrogate[:, 0] * mask[:, 0]  # (B,): one token, so its mean is itself
    response = sequence_mean(surrogate[:, 1:], mask[:, 1:])  # (B,): the T - 1 tokens behind it
    objective = alpha * control + response - _kl_term(logps, mask, ref_logps, beta)
    return -objective.mean()
