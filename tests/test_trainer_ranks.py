"""Proves that two processes find the loss and gradients of one, and that neither waits for the other in vain.

Run: python -m pytest tests/test_trainer_ranks.py

Two gloo processes run this very file as a script, each on its half of the batch.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainers import (
    ALPHA,
    assert_same_gradients,
    build,
    gradients,
    guarded,
    hand_made,
    part,
    plain_batch,
    reference,
)
from transformers import AutoTokenizer

from thinkless.objectives import OBJECTIVES


@pytest.fixture(scope="module")
def plain(untrained):
    return plain_batch(untrained)


@pytest.fixture(scope="module")
def ranks(untrained):
    """What two gloo processes found, each on its half of the batch: one file of results per rank."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    result = subprocess.run([*command, str(untrained)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(untrained / f"rank{rank}.pt") for rank in (0, 1)]


def one_rank(folder: Path):
    """What torchrun runs: three rows for each rank, one by one, then together in two buckets."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    results = {}
    for objective in OBJECTIVES:
        trainer = build(
            folder,
            objective=objective,
            length_buckets=2,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=3,
        )
        rank, model = (
            trainer.accelerator.process_index,
            trainer.accelerator.prepare_model(trainer.model).train(),
        )
        assert isinstance(model, torch.nn.parallel.DistributedDataParallel)
        batch = hand_made(trainer.model, tokenizer)
        trainer.current_gradient_accumulation_steps = 3
        losses = []
        for micro in range(3):  # of one row each
            rows = torch.tensor([3 * rank + micro])
            model.require_backward_grad_sync = micro == 2
            loss = trainer._compute_loss(model, part(batch, rows))
            loss.backward()
            losses.append(loss.item())
        results[objective] = (
            sum(losses),
            gradients(trainer.model),
            list(trainer._metrics["train"]["control_share"]),
        )
        trainer.current_gradient_accumulation_steps = 1
        whole = part(batch, torch.arange(3 * rank, 3 * rank + 3))
        loss = trainer._compute_loss(model, whole)  # several forward passes, one for each bucket
        loss.backward()
        results[f"{objective} in buckets"] = (loss.item(), gradients(trainer.model), None)
    torch.save(results, folder / f"rank{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["", " in buckets"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@guarded()
def test_two_processes_are_one(objective, way, ranks, plain):
    """DDP averages gradients over ranks; so do the losses, since the counts span all of them."""
    model, batch, tokenizer = plain
    expected, expected_gradients = reference(model, tokenizer, objective, batch)
    losses = [rank[objective + way][0] for rank in ranks]
    assert sum(losses) / 2 == pytest.approx(expected, abs=1e-5)
    for rank in ranks:
        assert_same_gradients(rank[objective + way][1], expected_gradients)


@pytest.mark.slow
def test_a_rank_without_advantages_waits_for_no_one(ranks):
    """Row 4 has advantage 0 and row 1 has not: the second micro-batch teaches rank 0 only.

    Both ranks log the same shares: alpha/(1 + alpha), except that row 1 is one control token and no more.
    """
    usual = ALPHA / (1 + ALPHA)
    for rank in ranks:
        assert rank["degrpo"][2] == pytest.approx([usual, 1.0, usual])


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
