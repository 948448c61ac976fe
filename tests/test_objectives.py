"""Proves what each objective weighs: numbers by hand, direct formulas, identities and limits.

Run: python -m pytest tests/test_objectives.py

Throughout, `reduce` is the one reduction of the package (the mean over sequences of the mean over
tokens). Its operand `terms` stands for any per-token quantity that is linear in the advantage.
"""

import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Shaped, TypeCheckError, jaxtyped
from torch import Tensor

from thinkless import objectives
from thinkless.objectives import OBJECTIVES, control_share, expected_mode_gradient, group_advantages

checked = jaxtyped(typechecker=beartype)


@checked
def token_advantages(
    advantages: Float[Tensor, " b"], mask: Shaped[Tensor, "b t"], objective: str = "degrpo", **settings
) -> Float[Tensor, "b t"]:
    """The package's function with its shapes checked at every call of these tests."""
    return objectives.token_advantages(advantages, mask, objective, **settings)


@checked
def grouped(rewards: Float[Tensor, " b"], group_size: int, scale: str = "none") -> Float[Tensor, " b"]:
    return group_advantages(rewards, group_size, scale)


@checked
def share(weighted: Float[Tensor, "b t"], mask: Shaped[Tensor, "b t"]) -> Float[Tensor, ""]:
    return control_share(weighted, mask)


def reduce(values: Tensor, mask: Tensor) -> Tensor:
    return ((values * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def mask_of(lengths: list[int], padded: int | None = None) -> Tensor:
    return (torch.arange(padded or max(lengths)) < torch.tensor(lengths)[:, None]).double()


def test_the_shape_check_can_fail():
    with pytest.raises(TypeCheckError, match="mask"):
        token_advantages(torch.zeros(3), torch.ones(2, 4))


# Two completions used below: lengths 2 and 4, advantages 1 and -3, so 6 tokens, mean length 3.
ADVANTAGES = torch.tensor([1.0, -3.0])
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("grpo", [[1, 1, 0, 0], [-3, -3, -3, -3]]),
        # T/max_length: 2/8 and 4/8
        ("dr_grpo", [[0.25, 0.25, 0, 0], [-1.5, -1.5, -1.5, -1.5]]),
        # T/mean_length: 2/3 and 4/3
        ("token_mean", [[2 / 3, 2 / 3, 0, 0], [-4, -4, -4, -4]]),
        # control alpha T: 0.1*2 and 0.1*4; response T/(T-1): 2/1 and 4/3
        ("degrpo", [[0.2, 2, 0, 0], [-1.2, -4, -4, -4]]),
        # control alpha T as above; response T/(mean_length - 1): 2/2 and 4/2
        ("degrpo_token_mean", [[0.2, 1, 0, 0], [-1.2, -6, -6, -6]]),
    ],
)
def test_weights_by_hand(objective, expected):
    result = token_advantages(ADVANTAGES, MASK, objective, alpha=0.1, max_length=8)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32))


def test_every_objective_is_tested_here():
    assert set(OBJECTIVES) == set(DIRECT)


# What each objective is, written out: a function of (terms, mask, alpha, max_length), (B, T) inputs.
def grpo(terms, mask, alpha, max_length):
    return torch.stack([row[m > 0].mean() for row, m in zip(terms, mask, strict=True)]).mean()


def dr_grpo(terms, mask, alpha, max_length):
    return (terms * mask).sum() / (len(mask) * max_length)


def token_mean(terms, mask, alpha, max_length):
    return terms[mask > 0].mean()


def degrpo(terms, mask, alpha, max_length):
    rest = [row[1:][m[1:] > 0] for row, m in zip(terms, mask, strict=True)]
    return torch.stack(
        [alpha * row[0] + r.sum() / max(len(r), 1) for row, r in zip(terms, rest, strict=True)]
    ).mean()


def degrpo_token_mean(terms, mask, alpha, max_length):
    rest = terms[:, 1:][mask[:, 1:] > 0]
    return alpha * terms[:, 0].mean() + rest.sum() / max(len(rest), 1)


DIRECT = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "token_mean": token_mean,
    "degrpo": degrpo,
    "degrpo_token_mean": degrpo_token_mean,
}

finite = st.floats(-3, 3, width=32)


@st.composite
def batches(draw, longest=7, most=5):
    """(advantages (B,), mask (B, T), terms (B, T)): every row has a token, padding is allowed."""
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=most))
    mask = mask_of(lengths, max(lengths) + draw(st.integers(0, 2)))
    size = len(lengths)
    advantages = torch.tensor(draw(st.lists(finite, min_size=size, max_size=size)), dtype=torch.float64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    return advantages, mask, torch.randn(mask.shape, generator=generator, dtype=torch.float64)


alphas = st.floats(1e-3, 2)
names = st.sampled_from(sorted(OBJECTIVES))


@given(batches(), names, alphas)
def test_weights_under_the_sequence_mean_are_the_direct_formula(batch, objective, alpha):
    advantages, mask, terms = batch
    weighted = token_advantages(advantages, mask, objective, alpha=alpha, max_length=9)
    expected = DIRECT[objective](advantages[:, None] * terms, mask, alpha, 9)
    torch.testing.assert_close(reduce(weighted * terms, mask), expected)


@given(batches(), names)
def test_equal_rewards_give_zero(batch, objective):
    _, mask, _ = batch
    advantages = grouped(torch.full((len(mask),), 0.7, dtype=torch.float64), group_size=len(mask))
    weighted = token_advantages(advantages, mask, objective)
    torch.testing.assert_close(weighted, torch.zeros_like(mask), atol=1e-12, rtol=0)
    assert share(torch.zeros_like(mask), mask) == 0


@given(batches(), names, st.integers(1, 4))
def test_padding_changes_nothing(batch, objective, extra):
    advantages, mask, _ = batch
    padded = torch.nn.functional.pad(mask, (0, extra))
    short = token_advantages(advantages, mask, objective, max_length=9)
    long = token_advantages(advantages, padded, objective, max_length=9)
    assert torch.equal(long[:, : mask.shape[1]], short)
    assert not long[:, mask.shape[1] :].any()
    torch.testing.assert_close(share(long, padded), share(short, mask))


@given(batches(), names, st.randoms(use_true_random=False))
def test_row_order_changes_nothing(batch, objective, rng):
    advantages, mask, _ = batch
    order = list(range(len(mask)))
    rng.shuffle(order)
    moved = token_advantages(advantages[order], mask[order], objective, max_length=9)
    torch.testing.assert_close(moved, token_advantages(advantages, mask, objective, max_length=9)[order])


@given(batches(most=6), names, st.data())
def test_micro_batches_change_nothing_when_counts_span_the_step(batch, objective, data):
    advantages, mask, _ = batch
    cut = data.draw(st.integers(0, len(mask)))
    counts = {"mean_length": mask.sum() / len(mask), "max_length": 9}
    parts = [
        token_advantages(advantages[s], mask[s], objective, **counts) for s in (slice(cut), slice(cut, None))
    ]
    torch.testing.assert_close(torch.cat(parts), token_advantages(advantages, mask, objective, max_length=9))


@given(st.integers(2, 30), st.integers(1, 5))
def test_at_the_right_alpha_degrpo_is_grpo_up_to_a_factor(length, size):
    """T tokens, control token included: DeGRPO = alpha L_0 + (1/(T-1)) sum_{t>=1} L_t.

    At alpha = 1/(T-1) this is (1/(T-1)) sum_t L_t = T/(T-1) GRPO. The paper writes T for the response
    alone; in its letters: alpha = 1/T gives (T+1)/T GRPO.
    """
    mask = torch.ones(size, length, dtype=torch.float64)
    advantages = torch.linspace(-1, 2, size, dtype=torch.float64)
    grpo = token_advantages(advantages, mask, "grpo")
    degrpo = token_advantages(advantages, mask, "degrpo", alpha=1 / (length - 1))
    torch.testing.assert_close(degrpo, length / (length - 1) * grpo)


def test_equal_lengths_make_the_token_means_the_sequence_means():
    mask = torch.ones(3, 5)
    for token_mean, sequence_mean in (("token_mean", "grpo"), ("degrpo_token_mean", "degrpo")):
        torch.testing.assert_close(
            token_advantages(torch.tensor([1.0, -2, 1]), mask, token_mean),
            token_advantages(torch.tensor([1.0, -2, 1]), mask, sequence_mean),
        )


def test_dr_grpo_at_the_length_of_every_row_is_grpo():
    mask = torch.ones(2, 6)
    torch.testing.assert_close(
        token_advantages(ADVANTAGES, mask, "dr_grpo"), token_advantages(ADVANTAGES, mask, "grpo")
    )


@given(batches(), names, st.floats(0.1, 5))
def test_linear_in_the_advantage(batch, objective, factor):
    advantages, mask, _ = batch
    scaled = token_advantages(factor * advantages, mask, objective)
    torch.testing.assert_close(scaled, factor * token_advantages(advantages, mask, objective))


@given(batches(), names)
def test_weights_never_flip_a_sign(batch, objective):
    advantages, mask, _ = batch
    weighted = token_advantages(advantages, mask, objective)
    assert torch.equal(weighted.sign(), advantages.sign()[:, None] * mask)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_a_completion_of_only_a_control_token(objective):
    # alpha T = 0.5 * 1 for the two DeGRPOs; 1, 1/4 and T/mean_length = 1 for the others.
    expected = {"degrpo": 0.5, "degrpo_token_mean": 0.5, "dr_grpo": 0.25}.get(objective, 1.0)
    result = token_advantages(torch.tensor([2.0]), torch.ones(1, 1), objective, alpha=0.5, max_length=4)
    torch.testing.assert_close(result, torch.tensor([[2 * expected]]))


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_a_row_without_tokens_weighs_nothing_and_is_not_counted(objective):
    alone = token_advantages(torch.tensor([1.0]), torch.ones(1, 3), objective)
    mask = torch.tensor([[1.0, 1, 1], [0, 0, 0]])
    result = token_advantages(torch.tensor([1.0, 5.0]), mask, objective)
    torch.testing.assert_close(result, torch.cat([alone, torch.zeros(1, 3)]))


def test_integer_masks_are_fine():
    torch.testing.assert_close(
        token_advantages(ADVANTAGES, MASK.long()), token_advantages(ADVANTAGES, MASK.float())
    )


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(ValueError, match="objective='drgrpo': expected one of grpo, dr_grpo"):
        token_advantages(ADVANTAGES, MASK, "drgrpo")


# Group advantages


def test_group_advantages_by_hand():
    # means 0.25 and -1: the second group is all wrong and teaches nothing
    rewards = torch.tensor([1.0, 0.5, 0.5, -1.0, -1.0, -1.0, -1.0, -1.0])
    expected = torch.tensor([0.75, 0.25, 0.25, -1.25, 0, 0, 0, 0])
    torch.testing.assert_close(grouped(rewards, 4), expected)


def test_group_scale_by_hand():
    # (1, -1): mean 0, standard deviation with n - 1: sqrt((1 + 1)/1) = sqrt(2)
    result = grouped(torch.tensor([1.0, -1.0, 3.0, 3.0]), 2, "group")
    expected = torch.tensor([1, -1, 0, 0]) / (2**0.5 + 1e-4)
    torch.testing.assert_close(result, expected)


def test_a_group_of_one_is_zero_under_either_scale():
    for scale in ("none", "group"):
        assert torch.equal(grouped(torch.tensor([3.0, -1.0]), 1, scale), torch.zeros(2))


@given(st.lists(st.lists(finite, min_size=3, max_size=3), min_size=1, max_size=4), finite)
def test_groups_sum_to_zero_and_ignore_a_constant(groups, constant):
    rewards = torch.tensor(groups, dtype=torch.float64).flatten()
    advantages = grouped(rewards, 3)
    torch.testing.assert_close(advantages.view(-1, 3).sum(1), torch.zeros(len(groups), dtype=torch.float64))
    torch.testing.assert_close(grouped(rewards + constant, 3), advantages)


@pytest.mark.parametrize("size", [0, 3])
def test_rewards_that_do_not_split_are_refused(size):
    with pytest.raises(ValueError, match=f"4 rewards do not split into groups of {size}"):
        grouped(torch.zeros(4), size)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale='batch': expected 'none' or 'group'"):
        grouped(torch.zeros(4), 2, "batch")


# Share of the control token


def test_control_share_by_hand():
    # Under the sequence mean each row's tokens weigh 1/T. Row 1: |1|/2 control of |1|/2 + |1|/2.
    # Row 2: 3/4 control of 4 * 3/4. Share (0.5 + 0.75) / (1 + 3) = 0.3125.
    torch.testing.assert_close(share(token_advantages(ADVANTAGES, MASK, "grpo"), MASK), torch.tensor(0.3125))


@given(st.integers(2, 40), st.floats(0.01, 3))
def test_control_share_of_degrpo_does_not_depend_on_length(length, alpha):
    # per sequence alpha |A| on the control token and |A| on the response
    weighted = token_advantages(torch.tensor([1.5, -1.5]), torch.ones(2, length), "degrpo", alpha=alpha)
    assert share(weighted, torch.ones(2, length)).item() == pytest.approx(alpha / (1 + alpha), rel=1e-5)


def test_control_share_of_grpo_vanishes_with_length():
    for length in (1, 2, 10, 100):
        weighted = token_advantages(torch.tensor([1.0]), torch.ones(1, length), "grpo")
        assert share(weighted, torch.ones(1, length)).item() == pytest.approx(1 / length)


# Which way the first step pulls the mode


def mode_gradient_by_autograd(p_think, accuracy, weight, gamma):
    """Weighted policy gradient of a two-armed bandit, its expectation over both arms written out."""
    z = torch.logit(p_think).requires_grad_()
    p = torch.sigmoid(z)
    reward = torch.stack([accuracy[0] * (1 - gamma) - (1 - accuracy[0]), 2 * accuracy[1] - 1])
    arms = torch.stack([p, 1 - p])
    advantage = reward - (arms.detach() * reward).sum()
    (arms.detach() * torch.stack(weight) * advantage * arms.log()).sum().backward()
    return z.grad


@given(*[st.floats(0.05, 0.95)] * 3, *[st.floats(0.01, 2)] * 2, st.floats(0, 0.9))
def test_expected_mode_gradient_is_the_bandit_gradient(p, think, short, w_think, w_short, gamma):
    p, think, short, w_think, w_short = (
        torch.tensor(x, dtype=torch.float64) for x in (p, think, short, w_think, w_short)
    )
    torch.testing.assert_close(
        expected_mode_gradient(p, (think, short), (w_think, w_short), gamma),
        mode_gradient_by_autograd(p, (think, short), (w_think, w_short), gamma),
    )


@given(st.floats(0.05, 0.95), st.floats(0.3, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 0.9))
def test_on_one_question_the_sign_is_the_decision_rule(p, think, short, weight, gamma):
    """Think pays iff p_short < (1 - gamma/2) p_think, whatever the weights."""
    margin = (1 - gamma / 2) * think - short
    gradient = expected_mode_gradient(
        torch.tensor(p),
        (torch.tensor(think), torch.tensor(short)),
        (torch.tensor(weight), torch.tensor(1.0)),
        gamma,
    ).item()
    assert abs(margin) < 1e-5 or (gradient > 0) == (margin > 0)


def test_length_weights_can_flip_the_average_over_questions():
    """The paper's collapse in two questions: an easy short one and a hard long one, at p = 1/2.

    gamma 0.5. Easy: think .7, short 1, so R_think - R_short = .7*1.5 - 2*1 = -.95.
    Hard: think 1, short .2: 1.5 - .4 = 1.1. Average 0.15/2 of p(1-p): think is right on average.
    With 1/T weights (easy 5 and 10 tokens, hard 25 and 100) the average pull is -.95*.15 + 1.1*.025,
    negative: the policy is pushed to short.
    """
    p = torch.full((2,), 0.5)
    accuracy = torch.tensor([0.7, 1.0]), torch.tensor([1.0, 0.2])
    constant = torch.ones(2), torch.ones(2)
    by_length = torch.tensor([1 / 10, 1 / 100]), torch.tensor([1 / 5, 1 / 25])
    fair = expected_mode_gradient(p, accuracy, constant, 0.5)
    torch.testing.assert_close(fair, torch.tensor([-0.95, 1.1]) / 4)
    skewed = expected_mode_gradient(p, accuracy, by_length, 0.5)
    torch.testing.assert_close(skewed, torch.tensor([-0.95 * 0.15, 1.1 * 0.025]) / 4)
    assert fair.mean() > 0 > skewed.mean()
