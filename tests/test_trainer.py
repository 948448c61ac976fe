"""Proves that the trainer's loss and gradients are those of `losses.py` and of each objective's formula.

Run: python -m pytest tests/test_trainer.py

The reference sees every sequence alone and unpadded, takes a log-softmax of all logits, and knows
nothing of TRL. It has to be met to 1e-5 on clipped tokens, a KL term, a completion of one token, with
and without length buckets, in micro-batches, and (this file run as a script by torchrun) by two
processes. Then real trainings of two steps.
"""

import copy
import math
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import TINY, both_ways, learn
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

from thinkless.generation import TransformersGenerator
from thinkless.losses import clipped_surrogate, degrpo_loss, grpo_loss, kl_to_reference
from thinkless.models import build_model
from thinkless.modes import Mode
from thinkless.objectives import OBJECTIVES, group_advantages, token_advantages
from thinkless.problems import chain
from thinkless.rewards import ModeReward
from thinkless.trainer import DeGRPOConfig, DeGRPOTrainer

ALPHA, BETA, LONGEST = 0.3, 0.2, 10

COMPLETIONS = ["<short>8", "<think>", "<think>3+5=8;8", "<short>3+5=8<eos>", "<think>8<eos>", "<short>3<eos>"]
PROMPTS = ["3+5=", "3+5*2-7=", "1+1=", "3+5=", "9*9*9=", "0-1="]
ADVANTAGES = [1.5, -0.5, 0.75, -1.25, 0.0, 2.0]
LENGTHS = [2, 1, 8, 7, 3, 3]


def config(folder, **settings):
    defaults = {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "per_device_train_batch_size": 6,
        "num_generations": 2,
        "max_completion_length": LONGEST,
        "alpha": ALPHA,
        "beta": BETA,
    }
    return DeGRPOConfig(**{**defaults, **settings})


def build(folder, cls=DeGRPOTrainer, train_dataset=None, reward_funcs=None, arguments=None, **settings):
    """A real trainer on the model saved in `folder`; the reference model is read from there too."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    return cls(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=config(folder, **settings),
        train_dataset=train_dataset
        or chain.draw_problems(chain.ChainWorld(), 8, seed=0).rename_column("question", "prompt"),
        processing_class=tokenizer,
        reward_funcs=reward_funcs or ModeReward(tokenizer, gamma=0.5),
        **(arguments or {}),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("trainer")
    build_model(tokenizer, **TINY).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


GUARDED = """
What this test guards: TRL's `GRPOTrainer._compute_loss` takes advantages of shape (batch, tokens) from a
subclass and multiplies each into the loss of its own token. `DeGRPOTrainer` rests on that. Upstream says
that it works (huggingface/trl#4525), and that fine-grained advantages are "not on the roadmap"
(huggingface/trl#7331). With another TRL than that of requirements.txt: stay on that one, and look at what
`DeGRPOTrainer._compute_loss` hands over. With that one the fault is ours: there, in `objectives.py` or in
`losses.py`."""


@contextmanager
def guarded():
    """Whatever goes wrong, a wrong number or an error of TRL's, is followed by what is at stake."""
    try:
        yield
    except Exception as error:
        error.add_note(GUARDED)
        raise


# The reference


def own_logps(model, prompts, completions):
    """Log-probability of each completion's tokens, every sequence alone: a list of (T_b,)."""
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0])
    return rows


def padded(rows, value=0.0):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def hand_made(model, tokenizer):
    """The batch as TRL would hand it over, on `model` and on a policy and reference a little off it."""
    prompts, completions = (
        [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        for texts in (PROMPTS, COMPLETIONS)
    )
    assert [len(completion) for completion in completions] == LENGTHS
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        logps = padded(own_logps(model, prompts, completions))
    old, ref = (logps + 0.3 * torch.randn(logps.shape, generator=generator) for _ in range(2))
    left = max(map(len, prompts))
    return {
        "prompt_ids": torch.tensor([[0] * (left - len(p)) + p for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (left - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": padded([torch.tensor(c) for c in completions], 0),
        "completion_mask": padded([torch.ones(len(c), dtype=torch.long) for c in completions], 0),
        "advantages": torch.tensor(ADVANTAGES),
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": torch.tensor(sum(LENGTHS)),
        "mean_length": torch.tensor(sum(LENGTHS) / len(LENGTHS)),
    }


def formula(objective, logps, batch, beta=BETA):
    """The loss of each objective, from `losses.py` where it is there, else written out."""
    mask = batch["completion_mask"].float()
    old, ref, advantages = (batch[k] for k in ("old_per_token_logps", "ref_per_token_logps", "advantages"))
    if objective == "grpo":
        return grpo_loss(logps, old, advantages, mask, ref_logps=ref, beta=beta)
    if objective == "degrpo":
        return degrpo_loss(logps, old, advantages, mask, alpha=ALPHA, ref_logps=ref, beta=beta)
    surrogate = clipped_surrogate(logps, old, advantages) * mask
    kl = ((kl_to_reference(logps, ref) * mask).sum(1) / mask.sum(1)).mean()
    if objective == "dr_grpo":
        policy = surrogate.sum() / (len(mask) * LONGEST)
    elif objective == "token_mean":
        policy = surrogate.sum() / mask.sum()
    else:
        policy = ALPHA * surrogate[:, 0].mean() + surrogate[:, 1:].sum() / mask[:, 1:].sum()
    return beta * kl - policy


def reference(model, tokenizer, objective, batch, beta=BETA):
    """(loss, gradients) on a copy of the model."""
    model = copy.deepcopy(model).eval()
    prompts, completions = (
        [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        for texts in (PROMPTS, COMPLETIONS)
    )
    loss = formula(objective, padded(own_logps(model, prompts, completions)), batch, beta)
    loss.backward()
    return loss.item(), gradients(model)


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(got, expected):
    """To 1e-5 of the largest entry, for every parameter."""
    assert got.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert largest > 0.01
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-5 * largest, msg=name)


def part(batch, rows):
    return {key: value[rows] if value.ndim else value for key, value in batch.items()}


@pytest.fixture(scope="module")
def plain(folder):
    """The saved model, a batch made for it, its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return model, hand_made(model, tokenizer), tokenizer


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


# One process


@pytest.mark.parametrize("buckets", [1, 3])
@pytest.mark.parametrize("objective", OBJECTIVES)
@guarded()
def test_loss_and_gradients_are_the_formulas(objective, buckets, folder, plain):
    model, batch, tokenizer = plain
    trainer = build(folder, objective=objective, length_buckets=buckets)
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model.train(), batch)
    loss.backward()
    expected, expected_gradients = reference(model, tokenizer, objective, batch)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert_same_gradients(gradients(trainer.model), expected_gradients)


@pytest.mark.parametrize("sizes", [[2, 2, 2], [1] * 6])
@pytest.mark.parametrize("objective", OBJECTIVES)
@guarded()
def test_micro_batches_add_up_to_the_whole(objective, sizes, folder, plain):
    model, batch, tokenizer = plain
    trainer = build(folder, objective=objective, length_buckets=2, gradient_accumulation_steps=len(sizes))
    trainer.current_gradient_accumulation_steps = len(sizes)  # as TRL sets it in every step
    total = 0.0
    for rows in torch.arange(6).split(sizes):
        loss = trainer._compute_loss(trainer.model.train(), part(batch, rows))
        loss.backward()
        total += loss.item()
    expected, expected_gradients = reference(model, tokenizer, objective, batch)
    assert total == pytest.approx(expected, abs=1e-5)
    assert_same_gradients(gradients(trainer.model), expected_gradients)


def test_on_policy_without_kl(folder, plain):
    """No old log-probabilities: TRL takes the policy's own, detached, and nothing is clipped."""
    model, batch, tokenizer = plain
    trainer = build(folder, beta=0.0)
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


def test_evaluation_ignores_gradient_accumulation(folder, plain):
    model, batch, tokenizer = plain
    trainer = build(folder)
    trainer.current_gradient_accumulation_steps = 4
    with torch.no_grad():
        loss = trainer._compute_loss(trainer.model.eval(), batch)
    assert loss.item() == pytest.approx(reference(model, tokenizer, "degrpo", batch)[0], abs=1e-5)
    assert len(trainer._metrics["eval"]["control_share"]) == 1
    assert "control_share" not in trainer._metrics["train"]


def test_control_share_is_logged_only_where_something_is_learned(folder, plain):
    """DeGRPO: alpha |A| on the control token, |A| on the response of rows that have one.

    Sum of |A| 6, of which 0.5 is the row of one token: 6 alpha / (6 alpha + 5.5).
    """
    _, batch, _ = plain
    trainer = build(folder)
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model.train(), batch)
    trainer._compute_loss(trainer.model, {**batch, "advantages": torch.zeros(6)})
    assert trainer._metrics["train"]["control_share"] == [pytest.approx(6 * ALPHA / (6 * ALPHA + 5.5))]


@pytest.mark.parametrize("buckets", [1, 2, 4, 99])
def test_trimming_changes_no_value(buckets, folder, plain):
    """Against TRL's own method, on a shuffled batch with a row that has no completion at all."""
    _, batch, _ = plain
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)[order]
    completion_mask = batch["completion_mask"][order].clone()
    completion_mask[2] = 0
    attention = torch.cat([batch["prompt_mask"][order], completion_mask], dim=1)
    trainer = build(folder, length_buckets=buckets, beta=0.0)
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


# Two processes


@pytest.fixture(scope="module")
def ranks(folder):
    """What two gloo processes found, each on its half of the batch: one file of results per rank."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


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


# Real trainings


@pytest.fixture(scope="module")
def learner(tmp_path_factory, tokenizer):
    """A folder with a model that answers three questions in either mode, sometimes wrongly, as `model/`."""
    folder = tmp_path_factory.mktemp("learner")
    learn(tokenizer, both_ways()).model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


QUESTIONS = Dataset.from_list(
    [
        {"prompt": "3+5=", "answer": "8", "level": 1},
        {"prompt": "9-4=", "answer": "5", "level": 1},
        {"prompt": "3+5*2=", "answer": "6", "level": 2},
    ]
    * 8
)


class Recorder(DeGRPOTrainer):
    """The trainer, keeping the inputs of every micro-batch and the gradient steps taken."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def _compute_loss(self, model, inputs):
        self.seen.append((model.training, inputs))
        return super()._compute_loss(model, inputs)


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


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rejected_groups_count_for_nothing(objective, folder):
    """The terms of a step with rejected groups are those of the other groups alone."""
    advantages, lengths = torch.tensor([0, 0, 1.5, -1.5, 0.5, -0.5]), torch.tensor([9, 9, 2, 4, 8, 6])
    mask = (torch.arange(LONGEST) < lengths[:, None]).int()
    output = {"advantages": advantages, "completion_mask": mask, "mean_length": torch.tensor(38 / 6)}
    build(folder, objective=objective, beta=0.0, reject_equal_groups=True)._reject_equal_groups(output)
    assert output["mean_length"] == 5.0

    def terms(advantages, mask, **counts):  # of the per-sequence mean
        weights = token_advantages(advantages, mask, objective, alpha=ALPHA, max_length=LONGEST, **counts)
        return weights / mask.sum(dim=1, keepdim=True) / len(mask)

    got = terms(output["advantages"], mask, mean_length=output["mean_length"])
    assert not got[:2].any()
    torch.testing.assert_close(got[2:], terms(advantages[2:], mask[2:]))


@pytest.mark.parametrize("scale", ["none", "group"])
def test_equal_rewards_are_rejected_whatever_they_are(scale, folder):
    """The mean of eight equal rewards is rounded, so that their advantages are not exactly 0."""
    groups = {"num_generations": 8, "per_device_train_batch_size": 8, "scale_rewards": scale}
    trainer = build(folder, beta=0.0, reject_equal_groups=True, **groups)
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


# What upstream has to go on doing


@guarded()
def test_trl_accepts_token_advantages(folder, plain):
    """`advantages` of shape (B, T) in `GRPOTrainer._compute_loss` ("To support subclasses that provide
    advantages with shape (B, T)"): the same as (B,) when constant along T, linear per token otherwise."""
    _, batch, _ = plain
    trainer = build(folder, GRPOTrainer)
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


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
