"""Proves that reading a prompt once for all its answers changes neither loss nor gradients.

Run: python -m pytest tests/training/test_shared_prompts.py
"""

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trainers import Recorder, assert_meets_the_reference, build, part, plain_batch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig
from trl.trainer import utils as trl_utils

from thinkless.generation import prefill
from thinkless.objectives import OBJECTIVES
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import Launch
from thinkless.training import train_supervised
from thinkless.training.rows import UNLEARNED
from thinkless.training.shared_prompts import SharedPromptCollator, SharedPrompts, SharedPromptTrainer
from thinkless.training.train import SupervisedTrainer


def test_a_row_is_a_prompt_and_all_its_answers():
    prompts = [torch.tensor(ids) for ids in ([1, 2, 3], [4], [1, 2, 3])]
    answers = [torch.tensor(ids) for ids in ([7, 8], [9], [6])]
    shared = SharedPrompts.of(prompts, answers, multiple=4)
    assert shared.input_ids.tolist() == [[1, 2, 3, 7, 3, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]]
    assert shared.position_ids.tolist()[0][:5] == [0, 1, 2, 3, 2]
    assert shared.labels.tolist()[0][:5] == [UNLEARNED, UNLEARNED, 7, 8, 6]
    assert shared.labels[1, 0] == 9
    seen = [row.nonzero().flatten().tolist() for row in shared.attention_mask[0, 0]]
    assert seen[:5] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
    mask = torch.tensor([[1, 1], [1, 0], [1, 0]])
    back = shared.back(shared.labels.float(), mask)
    assert back.tolist() == [[7, 8], [9, 0], [6, 0]]


def test_an_answer_that_was_dropped_stays_empty():
    prompt = torch.tensor([1, 2])
    shared = SharedPrompts.of([prompt] * 3, [torch.tensor(ids, dtype=torch.long) for ids in ([5], [], [6])])
    back = shared.back(shared.labels.float(), torch.tensor([[1, 0], [0, 0], [1, 0]]))
    assert back.tolist() == [[5, 0], [0, 0], [6, 0]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_and_gradients_are_the_formulas(objective, untrained):
    trainer = build(untrained, SharedPromptTrainer, objective=objective, pad_to_multiple_of=8)
    assert_meets_the_reference(trainer, objective, plain_batch(untrained))


def test_rows_come_in_any_order_and_in_parts(untrained):
    _, batch, _ = plain_batch(untrained)
    trainer = build(untrained, SharedPromptTrainer)
    rows = torch.tensor([5, 3, 1, 0, 4, 2])
    keys = ("prompt_ids", "completion_ids"), ("prompt_mask", "completion_mask")
    found = []
    for one in (batch, part(batch, rows)):
        ids, mask = (torch.cat([one[key] for key in pair], dim=1) for pair in keys)
        width = one["completion_ids"].shape[1]
        with torch.no_grad():
            found.append(
                trainer._get_per_token_logps_and_entropies(
                    trainer.model, ids, mask, width, 4, compute_entropy=True
                )
            )
    for one, other in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(one[rows], other)
    assert (found[0][1][batch["completion_mask"] == 1] > 0).all()


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_warm_up_ends_where_rows_apart_end(accumulated, untrained, tmp_path):
    """With paddings and questions of several lengths; the second question has one answer only."""
    tokenizer = AutoTokenizer.from_pretrained(untrained / "model")
    pairs = [("3+5=", "<think>3+5=8;8"), ("3+5=", "<short>8"), ("3+5*2-7=", "<short>9"), ("1+1=", "<short>2")]
    rows = []
    for prompt, answer in pairs * 4:
        asked, said = (
            tokenizer.encode(text, add_special_tokens=False) for text in (prompt, answer + "<eos>")
        )
        rows.append({"input_ids": asked + said, "labels": [UNLEARNED] * len(asked) + said})
    size = {"per_device_train_batch_size": 4 // accumulated, "gradient_accumulation_steps": accumulated}
    after = []
    for collator in (None, SharedPromptCollator(8)):
        config = SFTConfig(
            **size,
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            learning_rate=1e-1,
            optim="sgd",
            max_grad_norm=0.0,
            max_steps=3,
        )
        model = AutoModelForCausalLM.from_pretrained(untrained / "model", dtype=torch.float32)
        start = [p.detach().clone() for p in model.parameters()]
        data = Dataset.from_list(rows)
        SupervisedTrainer(
            model=model, args=config, train_dataset=data, processing_class=tokenizer, data_collator=collator
        ).train()
        after.append([p.detach() - s for p, s in zip(model.parameters(), start, strict=True)])
    assert max(step.abs().max() for step in after[0]) > 1e-3
    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_textbook_has_no_prompts_to_share(untrained, tmp_path):
    """The base model's training is none of those that `launch.shared_prompts` is for."""
    settings = load_profile("smoke", {"base": {"rows": 32, "batch_size": 8}}).base
    ids = [[3 + (row + place) % 9 for place in range(5 + row % 3)] for row in range(32)]
    rows = Dataset.from_dict({"input_ids": ids, "labels": ids})
    found = []
    for shared in (False, True):
        folder = tmp_path / str(shared)
        launch = Launch(shared_prompts=shared)
        train_supervised(untrained / "model", rows, settings, folder, launch=launch, seed=0)
        found.append(load_file(folder / "model/model.safetensors"))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(weights, found[1][name]) for name, weights in found[0].items())


class SharedRecorder(SharedPromptTrainer, Recorder):
    """Keeps the inputs of every micro-batch."""


def test_a_training_ends_where_rows_apart_end_and_groups_stay_together(untrained):
    def reward(completion_ids, **_):
        return [sum(ids) % 5 / 4 for ids in completion_ids]

    settings = {"num_generations": 4, "per_device_train_batch_size": 4, "steps_per_generation": 6}
    settings |= {"gradient_accumulation_steps": 6, "max_steps": 2, "learning_rate": 1e-1, "optim": "sgd"}
    after = []
    for kind in (Recorder, SharedRecorder):
        trainer = build(untrained, kind, reward_funcs=reward, beta=0.0, **settings)
        start = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        after.append([p.detach() - s for p, s in zip(trainer.model.parameters(), start, strict=True)])
    assert max(step.abs().max() for step in after[0]) > 1e-4
    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    for _, inputs in trainer.seen:
        assert len(torch.unique(inputs["prompt_ids"], dim=0)) == 1


def test_a_rollout_reads_each_prompt_once(untrained, monkeypatch):
    read, kept = prefill._read, []

    def watch(model, ids, mask):
        cache = read(model, ids, mask)
        kept.append((len(ids), cache is not None))
        return cache

    monkeypatch.setattr(prefill, "_read", watch)
    trainer = build(untrained, SharedRecorder, num_generations=4, per_device_train_batch_size=8, max_steps=1)
    trainer.train()
    assert kept == [(8, True)]
    assert "generate" not in vars(trainer.model)


def test_positions_without_labels_are_not_scored(untrained, monkeypatch):
    """Of a model's head, whose product is the largest of a small model."""
    apply, scored = trl_utils._ChunkedLogProbFunction.apply, []

    def watch(hidden, *arguments):
        scored.append(len(hidden))
        return apply(hidden, *arguments)

    monkeypatch.setattr(trl_utils._ChunkedLogProbFunction, "apply", watch)
    rows = {"num_generations": 4, "per_device_train_batch_size": 8}
    trainer = build(untrained, SharedRecorder, beta=0.0, max_steps=1, **rows)
    trainer.train()
    assert scored == [int(inputs["completion_mask"].sum()) for _, inputs in trainer.seen]
