"""What several test files share: the laptop world's tokenizer and a model of a few thousand weights.

Everything is built in process; no test needs the network. Run all with ``python -m pytest``.
"""

import gc
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import of transformers: a look-up is a mistake
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only lose by threads

import pytest
from hypothesis import settings

gc.set_threshold(100_000)  # as in the command line

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what ends in &: children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")

TINY = {
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.4,  # large, so that the untrained model has strong opinions
    "context": 256,
    "seed": 3,
}
SMALLEST = {
    "problems": {"held_out_per_level": 4},
    "base": {"rows": 1920, "batch_size": 16},
    "distill": {"questions": 32},
    "sft": {"batch_size": 8},
}
"""Overrides of `smoke`: a whole pipeline in seconds, whose model knows how answers look and little more."""


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker begins with a long one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tokenizer():
    """The world's character tokenizer with the control tokens added. Not to be changed by a test."""
    from thinkless.models import build_tokenizer
    from thinkless.modes import add_control_tokens
    from thinkless.problems import chain

    tokenizer = build_tokenizer(chain.VOCABULARY)
    add_control_tokens(tokenizer)
    return tokenizer


@pytest.fixture
def model(tokenizer):
    """A fresh, untrained Qwen3 of two layers."""
    from thinkless.models import build_model

    return build_model(tokenizer, **TINY)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory, tokenizer):
    """A folder with an untrained model and its tokenizer, as `model/`."""
    from thinkless.models import build_model

    folder = tmp_path_factory.mktemp("untrained")
    build_model(tokenizer, **TINY).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="session")
def learner(tmp_path_factory, tokenizer):
    """A folder with a model that answers three questions in either mode, sometimes wrongly, as `model/`."""
    folder = tmp_path_factory.mktemp("learner")
    learn(tokenizer, both_ways()).model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def learn(tokenizer, lines, **shape):
    """A generator on a tiny model trained here, in a second or two, on (prompt, completion) pairs.

    Where a prompt has several completions, greedy decoding gives the most frequent one. `shape` changes
    the model's.
    """
    import torch

    from thinkless.generation import TransformersGenerator
    from thinkless.models import build_model

    model = build_model(tokenizer, **{**TINY, "hidden_size": 32, "initializer_range": 0.15, **shape})
    texts = [prompt + completion for prompt, completion in lines]
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
    )
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return TransformersGenerator(model, tokenizer)


def both_ways():
    """(prompt, completion) pairs: three questions in either mode, each answered once right and once wrong."""
    from thinkless.problems import chain

    pairs = []
    for question, right, wrong in (("3+5", 8, 7), ("9-4", 5, 6), ("3+5*2", 6, 4)):
        steps = "".join(f"{step};" for step in chain.solve(question))
        for answer in (right, wrong):
            pairs.append((f"{question}=", f"<short>{answer}<eos>"))
            pairs.append((f"{question}=", f"<think>{steps}</think>{answer}<eos>"))
    return pairs
