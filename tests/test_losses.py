"""Proves the two losses written from scratch: clip, KL, reduction, and their agreement with the weights.

Run: python -m pytest tests/test_losses.py
"""

import math

import pytest
import torch
from beartype import beartype
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Shaped, TypeCheckError, jaxtyped
from torch import Tensor

from thinkless import losses
from thinkless.objectives import token_advantages

checked = jaxtyped(typechecker=beartype)


@checked
def clipped_surrogate(
    logps: Float[Tensor, "b t"],
    old: Float[Tensor, "b t"],
    advantages: Float[Tensor, " b"],
    epsilon: float = 0.2,
) -> Float[Tensor, "b t"]:
    """The package's functions with their shapes checked at every call of these tests."""
    return losses.clipped_surrogate(logps, old, advantages, epsilon)


@checked
def kl_to_reference(logps: Float[Tensor, "b t"], ref: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    return losses.kl_to_reference(logps, ref)


@checked
def loss_of(
    name: str,
    logps: Float[Tensor, "b t"],
    old: Float[Tensor, "b t"],
    advantages: Float[Tensor, " b"],
    mask: Shaped[Tensor, "b t"],
    **settings,
) -> Float[Tensor, ""]:
    return {"grpo": losses.grpo_loss, "degrpo": losses.degrpo_loss}[name](
        logps, old, advantages, mask, **settings
    )


def settings_of(name: str, alpha: float = 0.3) -> dict[str, float]:
    return {"alpha": alpha} if name == "degrpo" else {}


both = pytest.mark.parametrize("name", ["grpo", "degrpo"])


def test_the_shape_check_can_fail():
    with pytest.raises(TypeCheckError, match="advantages"):
        clipped_surrogate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("advantage", "ratio", "value", "gradient"),
    [
        # A > 0: the ratio is rewarded up to 1 + eps and no further; below 1 - eps nothing is clipped.
        (2.0, 0.5, 1.0, 1.0),
        (2.0, 1.1, 2.2, 2.2),
        (2.0, 1.5, 2.4, 0.0),
        # A < 0: the ratio is punished down to 1 - eps and no further; above 1 + eps nothing is clipped.
        (-2.0, 0.5, -1.6, 0.0),
        (-2.0, 1.1, -2.2, -2.2),
        (-2.0, 1.5, -3.0, -3.0),
    ],
)
def test_the_six_regions_of_the_clip(advantage, ratio, value, gradient):
    """Value min(rA, clip(r, .8, 1.2)A); gradient in the log-probability rA where unclipped, else 0."""
    logps = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    old = torch.zeros(1, 1, dtype=torch.float64)
    surrogate = clipped_surrogate(logps, old, torch.tensor([advantage], dtype=torch.float64))
    surrogate.sum().backward()
    assert surrogate.item() == pytest.approx(value)
    assert logps.grad.item() == pytest.approx(gradient)


def test_kl_by_hand():
    # reference twice as likely: 2 - ln 2 - 1; half as likely: 1/2 + ln 2 - 1; equal: 0
    logps, ref = torch.log(torch.tensor([[0.2, 0.2, 0.2]])), torch.log(torch.tensor([[0.4, 0.1, 0.2]]))
    expected = torch.tensor([[1 - math.log(2), math.log(2) - 0.5, 0.0]])
    torch.testing.assert_close(kl_to_reference(logps, ref), expected)


@given(st.lists(st.tuples(st.floats(-8, 0), st.floats(-8, 0)), min_size=1, max_size=6))
def test_kl_estimate_is_never_negative(pairs):
    logps, ref = torch.tensor(pairs, dtype=torch.float64).T[:, None]
    assert (kl_to_reference(logps, ref) >= -1e-12).all()


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_kl_estimate_is_unbiased(policy_logits, reference_logits):
    """Its expectation over three outcomes drawn from the policy is the divergence itself."""
    policy, reference = (
        torch.tensor([x], dtype=torch.float64).log_softmax(1) for x in (policy_logits, reference_logits)
    )
    expected = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * kl_to_reference(policy, reference)).sum(), expected)


# Two completions of 3 and 1 tokens at ratio 1 except one clipped token, advantages 2 and -1.
# Surrogates: row 1: control 2, then ratio 1.5 clipped to 1.2: 2.4, then 2; row 2: control -1.
RATIO = torch.tensor([[1.0, 1.5, 1.0], [1.0, 9.0, 9.0]])
MASK = torch.tensor([[1.0, 1, 1], [1, 0, 0]])
ADVANTAGES = torch.tensor([2.0, -1.0])
# KL of 1 - ln 2 on the last token of row 1 only, of ln 2 - 1/2 on the only token of row 2
REF_RATIO = torch.tensor([[1.0, 1.0, 2.0], [0.5, 7.0, 7.0]])


def by_hand(name, **settings):
    logps = RATIO.log()
    return loss_of(name, logps, torch.zeros(2, 3), ADVANTAGES, MASK, **settings).item()


def test_grpo_loss_by_hand():
    # (2 + 2.4 + 2)/3 and -1; mean (6.4/3 - 1)/2; the loss is its negative
    assert by_hand("grpo") == pytest.approx(-(6.4 / 3 - 1) / 2)


def test_degrpo_loss_by_hand():
    # 0.1*2 + (2.4 + 2)/2 = 2.4 and 0.1*(-1) + nothing = -0.1; mean 1.15
    assert by_hand("degrpo", alpha=0.1) == pytest.approx(-1.15)


@pytest.mark.parametrize(("name", "policy"), [("grpo", -(6.4 / 3 - 1) / 2), ("degrpo", -1.15)])
def test_kl_term_by_hand(name, policy):
    # rows: (1 - ln 2)/3 over three tokens, ln 2 - 1/2 over one; both losses average it alike
    ref = RATIO.log() + REF_RATIO.log()
    divergence = ((1 - math.log(2)) / 3 + math.log(2) - 0.5) / 2
    loss = by_hand(name, ref_logps=ref, beta=0.25, **settings_of(name, 0.1))
    assert loss == pytest.approx(policy + 0.25 * divergence, rel=1e-5)


def test_epsilon_is_an_argument():
    # at eps 0.6 the ratio 1.5 is not clipped: 0.1*2 + (3 + 2)/2 = 2.7 and -0.1; mean 1.3
    assert by_hand("degrpo", alpha=0.1, epsilon=0.6) == pytest.approx(-1.3)


@st.composite
def batches(draw):
    """Random (logps, old, advantages, mask), about a third of the tokens outside the clip range."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).double()
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    logps = -torch.rand(mask.shape, generator=generator, dtype=torch.float64) * 3
    old = logps + 0.25 * torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    return logps, old, torch.randn(len(lengths), generator=generator, dtype=torch.float64), mask


def sequence_mean_of_weighted(logps, old, weighted, mask):
    """TRL's "grpo" reduction on token advantages, written out."""
    ratio = (logps - old).exp()
    surrogate = torch.minimum(ratio * weighted, ratio.clamp(0.8, 1.2) * weighted)
    return -((surrogate * mask).sum(1) / mask.sum(1)).mean()


@both
@given(batches(), st.floats(1e-3, 2))
def test_losses_are_the_weights_under_thesequence_mean(name, batch, alpha):
    """Value and gradient: what the trainer relies on."""
    logps, old, advantages, mask = batch
    ours, theirs = logps.clone().requires_grad_(), logps.clone().requires_grad_()
    loss = loss_of(name, ours, old, advantages, mask, **settings_of(name, alpha))
    weighted = token_advantages(advantages, mask, name, alpha=alpha)
    expected = sequence_mean_of_weighted(theirs, old, weighted, mask)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@both
@given(batches())
def test_gradient_on_policy_is_the_policy_gradient(name, batch):
    """At ratio 1 the gradient of each log-probability is -A times its weight: 1/(B T) for GRPO;
    alpha/B on the control token and 1/(B (T-1)) on the others for DeGRPO."""
    logps, _, advantages, mask = batch
    logps = logps.clone().requires_grad_()
    loss_of(name, logps, logps.detach(), advantages, mask, **settings_of(name)).backward()
    length = mask.sum(1, keepdim=True)
    weight = mask / length if name == "grpo" else mask / (length - 1).clamp(min=1)
    if name == "degrpo":
        weight[:, 0] = 0.3
    torch.testing.assert_close(logps.grad, -advantages[:, None] * weight / len(mask))


@both
@given(batches(), st.integers(1, 3), st.floats(-3, 3))
def test_padding_changes_nothing(name, batch, extra, junk):
    """Whatever stands in the padding: here, a ratio of exp(junk)."""
    logps, old, advantages, mask = batch
    long, long_old, long_mask = (
        torch.nn.functional.pad(x, (0, extra), value=value)
        for x, value in ((logps, junk), (old, 0.0), (mask, 0.0))
    )
    settings = settings_of(name)
    padded = loss_of(name, long, long_old, advantages, long_mask, ref_logps=long_old, beta=0.1, **settings)
    torch.testing.assert_close(padded, loss_of(name, *batch, ref_logps=old, beta=0.1, **settings))


@both
@given(batches(), st.randoms(use_true_random=False))
def test_row_order_changes_nothing(name, batch, rng):
    logps, old, advantages, mask = batch
    order = list(range(len(mask)))
    rng.shuffle(order)
    moved = loss_of(name, logps[order], old[order], advantages[order], mask[order], **settings_of(name))
    torch.testing.assert_close(moved, loss_of(name, *batch, **settings_of(name)))


@both
@given(batches(), st.data())
def test_micro_batches_add_up(name, batch, data):
    size = len(batch[3])
    cut = data.draw(st.integers(1, size))
    parts = [[x[s] for x in batch] for s in (slice(cut), slice(cut, None))]
    total = sum(loss_of(name, *part, **settings_of(name)) * len(part[0]) for part in parts if len(part[0]))
    torch.testing.assert_close(total / size, loss_of(name, *batch, **settings_of(name)))


@both
@given(batches())
def test_zero_advantages_leave_only_the_kl(name, batch):
    logps, old, advantages, mask = batch
    none = torch.zeros_like(advantages)
    assert loss_of(name, logps, old, none, mask, **settings_of(name)) == 0
    with_kl = loss_of(name, logps, old, none, mask, ref_logps=old, beta=0.5, **settings_of(name))
    mean = (losses.kl_to_reference(logps, old) * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(with_kl, 0.5 * mean.mean())


@both
def test_a_row_without_tokens_adds_nothing(name):
    """It still counts as a sequence, as in TRL, so the mean over two rows halves the other's loss."""
    one = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.1, -1.9]])
    alone = loss_of(name, *one, torch.tensor([1.0]), torch.ones(1, 2), **settings_of(name))
    rows = [torch.cat([x, torch.full((1, 2), -3.0)]) for x in one]
    mask = torch.tensor([[1.0, 1], [0, 0]])
    torch.testing.assert_close(
        loss_of(name, *rows, torch.tensor([1.0, 4.0]), mask, **settings_of(name)), alone / 2
    )


@both
def test_a_kl_weight_without_a_reference_is_refused(name):
    with pytest.raises(ValueError, match=r"beta=0.1 asks for a KL term: pass ref_logps"):
        by_hand(name, beta=0.1, **settings_of(name))


@both
def test_integer_masks_are_fine(name):
    args = RATIO.log(), torch.zeros(2, 3), ADVANTAGES
    settings = settings_of(name)
    assert loss_of(name, *args, MASK.long(), **settings) == loss_of(name, *args, MASK, **settings)
