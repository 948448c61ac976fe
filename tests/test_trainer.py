"""Proves that the trainer's loss and gradients are those of `losses.py` and of each objective's formula.

Run: python -m pytest tests/test_trainer.py

The reference of `trainers.py` has to be met to 1e-5 on clipped tokens, a KL term, a completion of one
token, with and without length buckets, and in micro-batches.
"""

import pytest
import torch
from trainers import (
    ALPHA,
    COMPLETIONS,
    PROMPTS,
    assert_meets_the_reference,
    assert_same_gradients,
    build,
    gradients,
    guarded,
    own_logps,
    padded,
    part,
    plain_batch,
    reference,
)
from trl import GRPOTrainer

from thinkless.objectives import OBJECTIVES
from thinkless.trainer import DeGRPOConfig


@pytest.fixture(scope="module")
def plain(untrained):
    return plain_batch(untrained)


def test_the_batch_has_what_it_should_have(plain):
    """Tokens clipped above with A > 0 and below with A < 0, padding on both sides, a one-token row."""
    model, batch, tokenizer = plain
    with torch.no_grad():
        logps = padded(own_logps(model, *[[tokenizer.encode(t) for t in x] for x in (PROMPTS, COMPLETIONS)]))
    ratio = (logps - batch["old_per_token_logps"]).exp()
    mask, advantages = batch["completion_mask"].bool(), batch["advantages"][:, None]
    assert ((ratio > 1.2) & (advantages > 0) & mask).sum() >= 2
    assert ((ratio < 0.8) & (advantages < 0) & mask).sum() >= 2
    assert batch["completion_mask"].sum(1).min() == 1
    assert 0 in batch["prompt_mask"]


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("objective", OBJECTIVES)
@guarded()
def test_loss_and_gradients_are_the_formulas(objective, buckets, untrained, plain):
    trainer = build(untrained, objective=objective, length_buckets=buckets)
    assert_meets_the_reference(trainer, objective, plain)


@pytest.mark.parametrize("sizes", [[2, 2, 2], [1] * 6])
@pytest.mark.parametrize("objective", OBJECTIVES)
@guarded()
def test_micro_batches_add_up_to_the_whole(objective, sizes, untrained, plain):
    model, batch, tokenizer = plain
    trainer = build(untrained, objective=objective, length_buckets=2, gradient_accumulation_steps=len(sizes))
    trainer.current_gradient_accumulation_steps = len(sizes)  # as TRL sets it in every step
    total = 0.0
    for rows in torch.arange(6).split(sizes):
        loss = trainer._compute_loss(trainer.model.train(), part(batch, rows))
        loss.backward()
        total += loss.item()
    expected, expected_gradients = reference(model, tokenizer, objective, batch)
    assert total == pytest.approx(expected, abs=1e-5)
    assert_same_gradients(gradients(trainer.model), expected_gradients)


@pytest.mark.parametrize("objective", ["grpo", "degrpo"])
def test_kl_may_leave_the_control_token_alone(objective, untrained, plain):
    """As if the policy itself were the reference there: no KL, and none of its gradient."""
    model, batch, tokenizer = plain
    with torch.no_grad():
        logps = padded(own_logps(model, *[[tokenizer.encode(t) for t in x] for x in (PROMPTS, COMPLETIONS)]))
    anchored = torch.cat([logps[:, :1], batch["ref_per_token_logps"][:, 1:]], dim=1)
    trainer = build(untrained, objective=objective, length_buckets=2, kl_on_control_token=False)
    trainer.current_gradient_accumulation_steps = 1
    given = batch["ref_per_token_logps"].clone()
    loss = trainer._compute_loss(trainer.model.train(), batch)
    loss.backward()
    expected = reference(model, tokenizer, objective, {**batch, "ref_per_token_logps": anchored})
    assert loss.item() == pytest.approx(expected[0], abs=1e-5)
    assert_same_gradients(gradients(trainer.model), expected[1])
    assert torch.equal(batch["ref_per_token_logps"], given)  # a second update needs them


@pytest.mark.parametrize("buckets", [1, 3])
def test_an_entropy_bonus_is_the_mean_entropy_of_the_tokens(buckets, untrained, plain):
    """It reaches TRL through the parts that the trainer cuts a batch into."""
    model, batch, tokenizer = plain
    losses = []
    for weight in (0.0, 0.5):
        trainer = build(untrained, length_buckets=buckets, entropy_coef=weight)
        trainer.current_gradient_accumulation_steps = 1
        losses.append(trainer._compute_loss(trainer.model.train(), batch).item())
    found = []
    for texts in zip(PROMPTS, COMPLETIONS, strict=True):
        prompt, completion = (tokenizer.encode(text) for text in texts)
        logps = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found.append(-(logps.exp() * logps).sum(dim=-1))  # (T_b,)
    assert losses[0] - losses[1] == pytest.approx(0.5 * torch.cat(found).mean().item(), abs=1e-5)


def test_on_policy_without_kl(untrained, plain):
    """No old log-probabilities: TRL takes the policy's own, detached, and nothing is clipped."""
    model, batch, tokenizer = plain
    trainer = build(untrained, beta=0.0)
    assert trainer.ref_model is None
    trainer.current_gradient_accumulation_steps = 1
    given = {
        key: value
        for key, value in batch.items()
        if key not in ("old_per_token_logps", "ref_per_token_logps")
    }
    trainer._compute_loss(trainer.model.train(), given).backward()
    with torch.no_grad():
        logps = padded(own_logps(model, *[[tokenizer.encode(t) for t in x] for x in (PROMPTS, COMPLETIONS)]))
    _, expected = reference(model, tokenizer, "degrpo", {**batch, "old_per_token_logps": logps}, beta=0.0)
    assert_same_gradients(gradients(trainer.model), expected)


def test_evaluation_ignores_gradient_accumulation(untrained, plain):
    model, batch, tokenizer = plain
    trainer = build(untrained)
    trainer.current_gradient_accumulation_steps = 4
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model.eval(), batch)
    assert loss.item() == pytest.approx(reference(model, tokenizer, "degrpo", batch)[0], abs=1e-5)
    assert len(trainer._metrics["eval"]["control_share"]) == 1
    assert "control_share" not in trainer._metrics["train"]


def test_control_share_is_logged_only_where_something_is_learned(untrained, plain):
    """DeGRPO: alpha |A| on the control token, |A| on the response of rows that have one.

    Sum of |A| 6, of which 0.5 is the row of one token: 6 alpha / (6 alpha + 5.5).
    """
    _, batch, _ = plain
    trainer = build(untrained)
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model.train(), batch)
    trainer._compute_loss(trainer.model, {**batch, "advantages": torch.zeros(6)})
    assert trainer._metrics["train"]["control_share"] == [pytest.approx(6 * ALPHA / (6 * ALPHA + 5.5))]


@pytest.mark.parametrize("buckets", [1, 2, 4, 99])
def test_trimming_changes_no_value(buckets, untrained, plain):
    """Against TRL's own method, on a shuffled batch with a row that has no completion at all."""
    _, batch, _ = plain
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)[order]
    completion_mask = batch["completion_mask"][order].clone()
    completion_mask[2] = 0
    attention = torch.cat([batch["prompt_mask"][order], completion_mask], dim=1)
    trainer = build(untrained, length_buckets=buckets, beta=0.0)
    arguments = trainer.model.eval(), ids, attention, completion_mask.shape[1]
    with torch.no_grad():
        logps, entropies, _ = trainer._get_per_token_logps_and_entropies(*arguments, compute_entropy=True)
        theirs, their_entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            trainer, *arguments, compute_entropy=True
        )
        without_entropy = trainer._get_per_token_logps_and_entropies(*arguments, batch_size=2)
    assert logps.shape == entropies.shape == theirs.shape
    torch.testing.assert_close(logps * completion_mask, theirs * completion_mask)
    torch.testing.assert_close(entropies * completion_mask, their_entropies * completion_mask)
    assert without_entropy[1] is None
    torch.testing.assert_close(without_entropy[0] * completion_mask, theirs * completion_mask)


# The configuration


def test_defaults_are_the_papers(tmp_path):
    settings = DeGRPOConfig(output_dir=str(tmp_path), use_cpu=True)
    assert (settings.objective, settings.alpha, settings.loss_type) == ("degrpo", 1e-3, "grpo")
    assert (settings.scale_rewards, settings.use_bias_correction_kl) == ("none", False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"objective": "drgrpo"}, "objective='drgrpo': expected one of grpo, dr_grpo"),
        ({"alpha": 0.0}, "alpha=0.0: expected a positive weight"),
        ({"length_buckets": 0}, "length_buckets=0: expected at least 1"),
        ({"generation_parts": 0}, "generation_parts=0: expected at least 1"),
        ({"reject_equal_groups": True, "beta": 0.1}, "reject_equal_groups needs beta=0, got 0.1"),
        (
            {"loss_type": "dapo"},
            "loss_type='dapo': leave it at 'grpo' and choose the normalisation with objective=",
        ),
    ],
)
def test_an_impossible_configuration_is_refused(setting, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        DeGRPOConfig(output_dir=str(tmp_path), use_cpu=True, **setting)
