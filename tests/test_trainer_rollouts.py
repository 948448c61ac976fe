"""Proves what becomes of rollouts before the loss: made in parts, and groups of equal rewards left out.

Run: python -m pytest tests/test_trainer_rollouts.py
"""

import pytest
import torch
from trainers import ALPHA, LONGEST, QUESTIONS, Recorder, build
from trl import GRPOTrainer

from thinkless.generation import TransformersGenerator
from thinkless.objectives import OBJECTIVES, group_advantages, token_advantages


@pytest.mark.parametrize("parts", [1, 2, 3, 99])
def test_rollouts_in_parts_give_every_question_its_own_answer(parts, learner, monkeypatch):
    """Greedy answers do not depend on the parts, and a part holds prompts of similar length only."""
    batches = []
    generate = GRPOTrainer._generate_single_turn

    def watched(self, prompt_ids, *args, **kwargs):
        batches.append([len(ids) for ids in prompt_ids])
        return generate(self, prompt_ids, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", watched)
    questions = QUESTIONS.select(range(6))
    trainer = build(
        learner, train_dataset=questions, generation_parts=parts, top_k=1, max_completion_length=40
    )
    tokenizer = trainer.processing_class
    prompts = [tokenizer(prompt).input_ids for prompt in questions["prompt"]]
    texts = tokenizer.batch_decode(trainer._generate_single_turn(prompts, None, {}, 1)[0])

    alone = TransformersGenerator(trainer.model, tokenizer)
    expected = alone.generate(questions["prompt"], max_tokens=40, temperature=0)
    assert [text.split("</think>")[-1].removesuffix("<eos>") for text in texts] == [
        completion.text.split("</think>")[-1] for (completion,) in expected
    ]
    assert len(set(texts)) == 3
    assert len(batches) == min(parts, 6)
    assert [n for batch in batches for n in batch] == (
        sorted(map(len, prompts)) if parts > 1 else [*map(len, prompts)]
    )


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("bf16", [False, True])
def test_rollouts_are_generated_in_the_training_s_precision(parts, bf16, learner):
    """With float32 weights either way."""
    trainer = build(learner, bf16=bf16, generation_parts=parts)
    computed, layer = [], trainer.model.model.layers[0].self_attn.q_proj
    layer.register_forward_hook(lambda module, inputs, output: computed.append(output.dtype))
    prompts = [trainer.processing_class(prompt).input_ids for prompt in QUESTIONS["prompt"][:4]]
    trainer._generate_single_turn(prompts, None, {}, 1)
    assert set(computed) == {torch.bfloat16 if bf16 else torch.float32}
    assert layer.weight.dtype == torch.float32


def test_padded_passes_have_few_shapes_and_the_same_values(untrained, monkeypatch):
    """Prompts of 4 to 8 tokens and answers of up to 10: a pass is 8 or 16 wide on both sides of the seam."""
    widths, score = [], GRPOTrainer._get_per_token_logps_and_entropies

    def watched(self, model, ids, mask, keep, *args, **kwargs):
        widths.append((ids.shape[1] - keep, keep))
        return score(self, model, ids, mask, keep, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", watched)
    rewards = {}
    for padding in (None, 8):
        trainer = build(untrained, cls=Recorder, pad_to_multiple_of=padding, length_buckets=3, max_steps=2)
        trainer.train()
        rewards[padding] = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        shapes, widths = set(widths), []
        assert all(side in (8, 16) for shape in shapes for side in shape) == (padding == 8)
    assert rewards[8] == pytest.approx(rewards[None], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_no_pass_over_a_rollout_computes_padding(micro_batch, untrained, monkeypatch):
    """Old and reference log-probabilities are of a whole rollout, of which one answer may be ten times as
    long as the others."""
    seen = {"scored": [], "trained": []}
    score, generate = GRPOTrainer._get_per_token_logps_and_entropies, GRPOTrainer._generate_single_turn

    def watched(self, model, ids, mask, *args, compute_entropy=False, **kwargs):
        seen["trained" if compute_entropy else "scored"].append((mask.numel(), int(mask.sum())))
        return score(self, model, ids, mask, *args, compute_entropy=compute_entropy, **kwargs)

    def lengths(self, prompt_ids, *args, **kwargs):
        answers, _ = generate(self, prompt_ids, *args, **kwargs)
        return [(ids * 80)[: 100 if row == 5 else 8 + row % 2] for row, ids in enumerate(answers)], None

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", watched)
    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", lengths)
    step = {"steps_per_generation": 24 // micro_batch, "gradient_accumulation_steps": 12 // micro_batch}
    settings = {"per_device_train_batch_size": micro_batch, "length_buckets": micro_batch, "max_steps": 2}
    build(untrained, num_generations=4, max_completion_length=100, **step, **settings).train()
    for passes, rows in ((seen["scored"], 2 * 24), (seen["trained"], 24)):
        computed, real = (sum(counts) for counts in zip(*passes, strict=True))
        assert real > rows * 8
        assert computed <= 1.05 * real


@pytest.mark.parametrize(("updates", "beta", "passes"), [(1, 0.0, 0), (1, 0.1, 1), (2, 0.0, 1), (2, 0.1, 2)])
def test_nothing_is_scored_that_nobody_needs(updates, beta, passes, untrained, monkeypatch):
    """The old policy's log-probabilities are those of the update itself where a rollout serves one update.

    With vLLM they are needed to correct for its rounding, and TRL makes a pass of their own for them.
    """
    score, scored = GRPOTrainer._get_per_token_logps_and_entropies, []

    def watched(self, model, ids, *args, compute_entropy=False, **kwargs):
        scored.extend([] if compute_entropy else ids)
        return score(self, model, ids, *args, compute_entropy=compute_entropy, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", watched)
    step = {"steps_per_generation": 4, "gradient_accumulation_steps": 4 // updates, "max_steps": updates}
    build(untrained, num_generations=2, beta=beta, **step).train()
    assert len(scored) == passes * 4 * 6


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_rows_of_an_update_come_by_length_and_teach_the_same(micro_batch, untrained, monkeypatch):
    """So that several processes have long rows at the same time; each update keeps its own rows."""
    generate = GRPOTrainer._generate_single_turn

    def lengths(self, prompt_ids, *args, **kwargs):
        answers, _ = generate(self, prompt_ids, *args, **kwargs)
        return [(ids * 80)[: 5 + 7 * row % 31] for row, ids in enumerate(answers)], None

    def reward(completion_ids, **_):
        return [len(ids) % 4 / 4 for ids in completion_ids]

    class AsTheyCome(Recorder):
        def _by_length(self, batches):
            return batches

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", lengths)
    step = {"steps_per_generation": 24 // micro_batch, "gradient_accumulation_steps": 12 // micro_batch}
    settings = {"per_device_train_batch_size": micro_batch, "max_steps": 2, "learning_rate": 1e-1}
    settings["optim"] = "sgd"  # Adam makes a full step of a rounding error
    found = {}
    for kind in (Recorder, AsTheyCome):
        sizes = {"num_generations": 4, "max_completion_length": 100}
        trainer = build(untrained, kind, reward_funcs=reward, **sizes, **step, **settings)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        assert any(not torch.allclose(p, b) for p, b in zip(trainer.model.parameters(), before, strict=True))
        rows = [inputs["completion_mask"].sum(dim=1) for _, inputs in trainer.seen]
        updates = torch.cat(rows).view(2, 12)
        found[kind] = updates, [p.detach().clone() for p in trainer.model.parameters()]
    (ordered, after), (random, expected) = found.values()
    assert torch.equal(ordered, ordered.sort(dim=1, descending=True).values)
    assert not torch.equal(random, ordered)
    assert torch.equal(random.sort(dim=1, descending=True).values, ordered)
    for one, other in zip(after, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rejected_groups_count_for_nothing(objective, untrained):
    """The terms of a step with rejected groups are those of the other groups alone."""
    advantages, lengths = torch.tensor([0, 0, 1.5, -1.5, 0.5, -0.5]), torch.tensor([9, 9, 2, 4, 8, 6])
    mask = (torch.arange(LONGEST) < lengths[:, None]).int()
    output = {"advantages": advantages, "completion_mask": mask, "mean_length": torch.tensor(38 / 6)}
    build(untrained, objective=objective, beta=0.0, reject_equal_groups=True)._reject_equal_groups(output)
    assert output["mean_length"] == 5.0

    def terms(advantages, mask, **counts):  # of the per-sequence mean
        weights = token_advantages(advantages, mask, objective, alpha=ALPHA, max_length=LONGEST, **counts)
        return weights / mask.sum(dim=1, keepdim=True) / len(mask)

    got = terms(output["advantages"], mask, mean_length=output["mean_length"])
    assert not got[:2].any()
    torch.testing.assert_close(got[2:], terms(advantages[2:], mask[2:]))


@pytest.mark.parametrize("scale", ["none", "group"])
def test_equal_rewards_are_rejected_whatever_they_are(scale, untrained):
    """The mean of eight equal rewards is rounded, so that their advantages are not exactly 0."""
    groups = {"num_generations": 8, "per_device_train_batch_size": 8, "scale_rewards": scale}
    trainer = build(untrained, beta=0.0, reject_equal_groups=True, **groups)
    for gamma in (0.1, 0.3, 0.5, 0.7, 0.9):
        mixed = torch.tensor([1.0, -1, -1, -1, -1, -1, -1, -1])
        rewards = torch.cat([torch.full((8,), 1 - gamma), torch.full((8,), -1.0), mixed])
        advantages = group_advantages(rewards, 8, scale)
        output = {"advantages": advantages, "completion_mask": torch.ones(24, 3)}
        trainer._reject_equal_groups(output)
        torch.testing.assert_close(output["advantages"], 3 * advantages)


def test_groups_are_rejected_while_training(learner):
    def scored(prompts, completion_ids, **_):  # all equal for the first question
        return [0.0 if p == "3+5=" else len(ids) for p, ids in zip(prompts, completion_ids, strict=True)]

    settings = {"per_device_train_batch_size": 24, "num_generations": 8, "beta": 0.0, "max_steps": 1}
    trainer = build(
        learner, Recorder, QUESTIONS, scored, reject_equal_groups=True, shuffle_dataset=False, **settings
    )
    trainer.train()
    ((_, inputs),) = trainer.seen
    lengths, differ = inputs["completion_mask"].sum(dim=1).float(), inputs["advantages"] != 0
    asked = trainer.processing_class.batch_decode(inputs["prompt_ids"], skip_special_tokens=True)
    assert {prompt for prompt, live in zip(asked, differ, strict=True) if live} == {"9-4=", "3+5*2="}
    others = torch.tensor([prompt != "3+5=" for prompt in asked])
    assert inputs["mean_length"] == pytest.approx(lengths[others].mean().item())
    assert inputs["mean_length"] != pytest.approx(lengths.mean().item())
