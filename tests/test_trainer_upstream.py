"""Proves that TRL still does what the trainer rests on.

Run: python -m pytest tests/test_trainer_upstream.py
"""

import pytest
import torch
from trainers import LENGTHS, build, guarded, plain_batch
from trl import GRPOTrainer
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict


@pytest.fixture(scope="module")
def plain(untrained):
    return plain_batch(untrained)


@guarded()
def test_trl_accepts_token_advantages(untrained, plain):
    """`advantages` of shape (B, T) in `GRPOTrainer._compute_loss` ("To support subclasses that provide
    advantages with shape (B, T)"): the same as (B,) when constant along T, linear per token otherwise."""
    _, batch, _ = plain
    trainer = build(untrained, GRPOTrainer)
    trainer.current_gradient_accumulation_steps = 1

    def loss(advantages):
        return trainer._compute_loss(trainer.model.train(), {**batch, "advantages": advantages}).item()

    rows = batch["advantages"]
    grid = rows[:, None].expand(-1, max(LENGTHS))
    assert loss(grid) == pytest.approx(loss(rows), abs=1e-6)
    control = torch.zeros(max(LENGTHS))
    control[0] = 1
    without = loss(torch.zeros(6))  # the KL alone
    parts = [loss(grid * control), loss(grid * (1 - control))]
    assert all(abs(value - without) > 0.01 for value in parts)
    assert sum(parts) - without == pytest.approx(loss(rows), abs=1e-6)
    assert loss(3 * grid) - without == pytest.approx(3 * (loss(rows) - without), abs=1e-5)


def test_trl_passes_scalars_through_its_buffer():
    """`mean_length` rides along as a 0-d tensor."""
    batch = {"rows": torch.arange(4), "mean_length": torch.tensor(2.5)}
    assert shuffle_sequence_dict(batch)["mean_length"] == 2.5
    assert [chunk["mean_length"] for chunk in split_tensor_dict(batch, 2)] == [2.5, 2.5]
