"""The trainer under test, a batch made by hand, and the loss and gradients that it has to meet.

The reference sees every sequence alone and unpadded, takes a log-softmax of all logits, and knows nothing
of TRL. `test_trainer.py` and the files that begin as it does use this.
"""

import copy
from contextlib import contextmanager

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkless.losses import clipped_surrogate, degrpo_loss, grpo_loss, kl_to_reference
from thinkless.rewards import ModeReward
from thinkless.trainer import DeGRPOConfig, DeGRPOTrainer

ALPHA, BETA, LONGEST = 0.3, 0.2, 10

COMPLETIONS = ["<short>8", "<think>", "<think>3+5=8;8", "<short>3+5=8<eos>", "<think>8<eos>", "<short>3<eos>"]
PROMPTS = ["3+5=", "3+5*2-7=", "1+1=", "3+5=", "9*9*9=", "0-1="]
ADVANTAGES = [1.5, -0.5, 0.75, -1.25, 0.0, 2.0]
LENGTHS = [2, 1, 8, 7, 3, 3]

QUESTIONS = Dataset.from_list(
    [
        {"prompt": "3+5=", "answer": "8", "level": 1},
        {"prompt": "9-4=", "answer": "5", "level": 1},
        {"prompt": "3+5*2=", "answer": "6", "level": 2},
    ]
    * 8
)


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
        train_dataset=train_dataset or QUESTIONS,
        processing_class=tokenizer,
        reward_funcs=reward_funcs or ModeReward(tokenizer, gamma=0.5),
        **(arguments or {}),
    )


class Recorder(DeGRPOTrainer):
    """The trainer, keeping the inputs of every micro-batch and the gradient steps taken."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def _compute_loss(self, model, inputs):
        self.seen.append((model.training, inputs))
        return super()._compute_loss(model, inputs)


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


def assert_meets_the_reference(trainer, objective, plain):
    """Loss to 1e-5, and gradients, of one whole update on `plain_batch`."""
    model, batch, tokenizer = plain
    trainer.current_gradient_accumulation_steps = 1  # as TRL sets it in every step
    loss = trainer._compute_loss(trainer.model.train(), batch)
    loss.backward()
    expected, expected_gradients = reference(model, tokenizer, objective, batch)
    assert abs(loss.item() - expected) <= 1e-5
    assert_same_gradients(gradients(trainer.model), expected_gradients)


def part(batch, rows):
    return {key: value[rows] if value.ndim else value for key, value in batch.items()}


def plain_batch(folder):
    """The model saved in `folder`, a batch made for it, its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return model, hand_made(model, tokenizer), tokenizer
