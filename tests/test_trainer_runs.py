"""Proves that real trainings of a few steps count, log and move as they should.

Run: python -m pytest tests/test_trainer_runs.py
"""

import math

import pytest
import torch
from trainers import ALPHA, QUESTIONS, Recorder, build
from transformers import AutoTokenizer, TrainerCallback

from thinkless.modes import Mode
from thinkless.rewards import ModeReward


def test_two_steps_of_training(learner):
    trainer = build(
        learner,
        Recorder,
        QUESTIONS,
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=8,
        gradient_accumulation_steps=4,
        max_completion_length=16,
        length_buckets=3,
        beta=0.0,
        learning_rate=1e-2,
        logging_steps=1,
        shuffle_dataset=False,
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert all(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())

    history = [row for row in trainer.state.log_history if "reward" in row]
    assert [row["step"] for row in history] == [1, 2]
    for row in history:
        for name in (
            "think_rate",
            "correct",
            "correct/short",
            "correct/think",
            "correct/level1",
            "correct/level2",
        ):
            assert 0 <= row[name] <= 1, name
        for name in ("no_control_token", "never_ends", "thinks_in_short"):
            assert 0 <= row[f"fault/{name}"] <= 1, name
        assert 3 <= row["length/short"] <= row["length/think"] <= 16
        # every completion is right (1 or 0.5) or wrong (-1), so the mean reward follows from the rest
        assert row["reward"] == pytest.approx(row["rewards/mode_reward/mean"])
        assert 0.5 * row["correct"] - (1 - row["correct"]) <= row["reward"] <= 2 * row["correct"] - 1
        # all completions have a response, so alpha |A| and |A| per sequence
        assert row["control_share"] == pytest.approx(ALPHA / (1 + ALPHA), abs=1e-4)
        assert math.isfinite(row["loss"])
        assert row["grad_norm"] > 0

    assert len(trainer.seen) == 2 * 4
    for step in (trainer.seen[:4], trainer.seen[4:]):
        masks = [inputs["completion_mask"] for training, inputs in step]
        tokens, sequences = sum(m.sum() for m in masks), sum(len(m) for m in masks)
        assert sequences == 32
        for _, inputs in step:  # counted over the whole step, not over the micro-batch
            assert inputs["mean_length"].item() == pytest.approx(tokens.item() / sequences)
        assert len({mask.sum().item() for mask in masks}) > 1


def test_the_mode_answers_to_the_reward(learner):
    """Reward for one mode only: the first position moves towards it."""
    tokenizer = AutoTokenizer.from_pretrained(learner / "model", padding_side="left")
    think = tokenizer.convert_tokens_to_ids(Mode.THINK.value)

    def only_thinking(completion_ids, **_):
        return [1.0 if ids[0] == think else 0.0 for ids in completion_ids]

    trainer = build(
        learner,
        train_dataset=QUESTIONS,
        reward_funcs=only_thinking,
        max_steps=4,
        per_device_train_batch_size=32,
        num_generations=8,
        max_completion_length=12,
        beta=0.0,
        alpha=1.0,
        learning_rate=3e-3,
    )

    def p_think():
        with torch.no_grad():
            logits = trainer.model(tokenizer("3+5=", return_tensors="pt").input_ids).logits[0, -1]
        return logits.softmax(-1)[think].item()

    before = p_think()
    trainer.train()
    assert before == pytest.approx(0.5, abs=0.1)
    assert p_think() > before + 0.1


class Steps(TrainerCallback):
    def __init__(self):
        self.count = 0

    def on_step_end(self, args, state, control, **_):
        self.count += 1


def test_it_takes_what_the_grpo_trainer_takes(learner):
    """Two rewards and their weights, evaluation, a callback, two updates per rollout, KL, masking."""

    def shortness(completion_ids, **_):
        return [-float(len(ids)) for ids in completion_ids]

    tokenizer = AutoTokenizer.from_pretrained(learner / "model", padding_side="left")
    steps = Steps()
    trainer = build(
        learner,
        Recorder,
        QUESTIONS,
        [ModeReward(tokenizer, gamma=0.5), shortness],
        {"eval_dataset": QUESTIONS.select(range(4)), "callbacks": [steps]},
        reward_weights=[1.0, 0.01],
        max_steps=2,
        num_iterations=2,
        per_device_train_batch_size=16,
        num_generations=8,
        per_device_eval_batch_size=8,
        max_completion_length=6,  # too short for thinking: those are cut off, and masked
        mask_truncated_completions=True,
        epsilon_high=0.28,
        eval_strategy="steps",
        eval_steps=2,
        logging_steps=1,
    )
    trainer.train()
    assert steps.count == 2
    rows = {key: value for row in trainer.state.log_history for key, value in row.items()}
    assert {"rewards/mode_reward/mean", "rewards/shortness/mean", "kl", "eval_reward", "eval_loss"} <= set(
        rows
    )
    assert math.isfinite(rows["eval_loss"])
    assert rows["fault/never_ends"] > 0

    training = [inputs for is_training, inputs in trainer.seen if is_training]
    lengths = training[0]["completion_mask"].sum(1)
    assert 0 in lengths
    assert training[0]["mean_length"].item() == pytest.approx(lengths[lengths > 0].float().mean().item())
    assert training[0]["old_per_token_logps"] is not None  # the second update of a rollout is off-policy
    assert torch.equal(training[0]["completion_ids"].sort(0)[0], training[1]["completion_ids"].sort(0)[0])
    assert [is_training for is_training, _ in trainer.seen].count(False) == 4
