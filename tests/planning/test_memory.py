"""Proves memory formulas by hand and against torch's memory tracker on the real architecture.

The tracker follows every tensor of a pass through fake tensors, which have sizes and no content, so the
paper's model at its full width costs no memory.

Run: python -m pytest tests/planning/test_memory.py
"""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoModel, Qwen2Config

from thinkless.planning.hardware import GB, QWEN2, Shape, shape_of
from thinkless.planning.memory import (
    SAVED,
    activations,
    gathered,
    logits,
    rl_memory,
    states,
    training_memory,
)
from thinkless.runs.profiles import load_profile
from thinkless.runs.settings import Launch

NAME = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
R1 = shape_of(NAME)
RL = load_profile("h100x4").rl
TOKENS = 24_576
DDP = Launch(processes=4, precision="bfloat16", gradient_checkpointing=True)
FSDP2 = DDP.model_copy(update={"sharding": "fsdp2"})


def test_states_by_hand():
    """1.777 B parameters: 7.1 GB of weights, 7.1 of gradients, 14.2 of Adam."""
    one = states(R1, Launch())
    assert {name: round(size / GB, 1) for name, size in one.items()} == {
        "weights": 7.1,
        "gradients": 7.1,
        "Adam": 14.2,
    }
    assert sum(one.values()) / GB == pytest.approx(28.4, abs=0.05)
    assert sum(states(R1, DDP).values()) / GB == pytest.approx(28.4 + 7.1, abs=0.05)  # and DDP's buckets
    assert sum(states(R1, FSDP2).values()) / GB == pytest.approx(28.4 / 4, abs=0.05)


def test_activations_by_hand():
    """24,576 tokens x 1536 x 2 bytes x 28 layers of checkpoints in bfloat16; twice that under autocast."""
    sharded, whole = (activations(R1, launch, 1, 1, TOKENS) for launch in (FSDP2, DDP))
    assert sharded["checkpoints of the layers"] == TOKENS * 1536 * 2 * 28
    assert sharded["checkpoints of the layers"] / GB == pytest.approx(2.1, abs=0.05)
    assert whole["checkpoints of the layers"] == 2 * sharded["checkpoints of the layers"]
    plain = activations(R1, FSDP2.model_copy(update={"gradient_checkpointing": False}), 1, 1, TOKENS)
    assert plain["activations of the layers"] == 28 * sharded["one layer, recomputed"]
    assert plain["activations of the layers"] / GB == pytest.approx(75, abs=5)  # 2.7 GB a layer
    assert "attention mask" not in plain


def test_parts_of_a_micro_batch_are_recomputed_apart_and_kept_together():
    one, parted = (activations(R1, FSDP2, 8, parts, 1000) for parts in (1, 4))
    assert parted["checkpoints of the layers"] == one["checkpoints of the layers"]
    assert parted["one layer, recomputed"] == one["one layer, recomputed"] / 4
    assert one["attention mask"] == 3 * 8 * 1000 * 1000
    flash = FSDP2.model_copy(update={"attention": "flash_attention_2"})
    assert "attention mask" not in activations(R1, flash, 8, 1, 1000)


def test_logits_are_a_tile_and_not_the_whole():
    """0.27 GB of tile, 0.93 of the head's gradient, 0.45 of hidden states; all logits would be 14.9 GB."""
    assert logits(R1, TOKENS) / GB == pytest.approx(0.27 + 0.93 + 0.45, abs=0.01)


def test_phases_of_a_step():
    phases = rl_memory(R1, FSDP2, RL, TOKENS, 80 * GB)
    assert "gradients" not in phases["RL: rollout"]
    assert "gradients" not in phases["RL: scoring"]
    assert {"gradients", "Adam", "reference", "logits"} <= set(phases["RL: update"])
    assert phases["RL: rollout"]["vLLM"] == 0.35 * 80 * GB
    assert phases["RL: update"]["reference"] == R1.parameters  # 4 bytes over 4 processes
    assert phases["RL: scoring"]["gathered weights"] == 2 * R1.parameters  # the reference, in one piece
    without = rl_memory(R1, FSDP2, RL.model_copy(update={"beta": 0.0}), TOKENS, 80 * GB)
    assert "reference" not in without["RL: update"]


def test_cache_of_answers_that_transformers_generates():
    """256 answers of four processes, a quarter each."""
    few = RL.model_copy(update={"engine": "transformers", "prompts_per_step": 32})
    phases = rl_memory(R1, FSDP2, few, 100, 80 * GB)
    assert phases["RL: rollout"]["cache of all answers"] == 64 * 100 * R1.kv_bytes


# Properties


@given(
    processes=st.integers(2, 64),
    factor=st.integers(1, 8),
    length=st.integers(64, 32_768),
    longer=st.integers(0, 32_768),
    checkpointing=st.booleans(),
    sharding=st.sampled_from(["none", "fsdp2"]),
)
def test_more_gpus_never_need_more_each_and_longer_answers_never_less(
    processes, factor, length, longer, checkpointing, sharding
):
    def peak(processes, length):
        launch = Launch(processes=processes, gradient_checkpointing=checkpointing, sharding=sharding)
        phases = [training_memory(R1, launch, 1, length)]
        phases += rl_memory(R1, launch, RL, length, 80 * GB).values()
        return [sum(parts.values()) for parts in phases]

    few = peak(processes, length)
    assert all(b <= a for a, b in zip(few, peak(processes * factor, length), strict=True))
    assert all(b >= a for a, b in zip(few, peak(processes, length + longer), strict=True))


# Against the tracker


def r1_config(**changes: int) -> Qwen2Config:
    """The paper's model with these changes; layers are of one kind, so their list has to be made again."""
    config = QWEN2[NAME].to_dict() | changes
    return Qwen2Config(**{name: value for name, value in config.items() if name != "layer_types"})


def tracked(sharding: str, layers: int, tokens: int, *, checkpointing: bool, passes: int = 1, **shape: int):
    """(bytes alive after the forward pass, bytes at the peak) beside the parameters, by torch's tracker.

    Without sharding the weights are float32 under autocast; FSDP2 gathers them in bfloat16.
    """
    config = r1_config(vocab_size=64, num_hidden_layers=layers, **shape)
    dtype = torch.bfloat16 if sharding == "fsdp2" else torch.float32
    with FakeTensorMode():
        model = AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa").train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            for _ in range(passes):
                ids = torch.zeros(1, tokens, dtype=torch.long)
                # no mask: fake tensors hide that there is no padding, for which sdpa needs none
                arguments = {"use_cache": False, "attention_mask": {"full_attention": None}}
                with torch.autocast("cpu", torch.bfloat16) if sharding == "none" else nullcontext():
                    hidden = model(ids, **arguments).last_hidden_state
                alive = tracker.get_tracker_snapshot("current")[torch.device("cpu")]["Total"]
                hidden.sum().backward()
                tracker.reset_mod_stats()
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return alive - weights, peak - weights


@pytest.mark.parametrize("sharding", SAVED)
@pytest.mark.parametrize("shape", [{}, {"intermediate_size": 4096}, {"num_key_value_heads": 6}])
def test_a_layer_saves_what_the_formula_says(sharding, shape):
    """The difference of two layers and one; autocast's bfloat16 copies of the weights are counted apart."""
    tokens = 1024
    config = r1_config(**shape)
    two, one = (tracked(sharding, n, tokens, checkpointing=False, **shape)[0] for n in (2, 1))
    matrices = 2 * 1536**2 + 2 * 1536 * 128 * config.num_key_value_heads + 3 * 1536 * config.intermediate_size
    copies = 2 * matrices if sharding == "none" else 0
    h, f, k = SAVED[sharding]
    expected = h * 1536 + f * config.intermediate_size + k * 128 * config.num_key_value_heads
    per_token = (two - one - copies) / tokens
    assert 0 <= per_token - expected <= 64  # and a few numbers per head


@pytest.mark.parametrize("sharding", SAVED)
def test_the_peak_with_checkpointing_stays_below_the_formula_and_near_it(sharding):
    """Two micro-batches, so that the gradients of the first are there during the second."""
    layers, tokens = 3, 16_384
    _, peak = tracked(sharding, layers, tokens, checkpointing=True, passes=2)
    shape = Shape.of(r1_config(vocab_size=64, num_hidden_layers=layers), "three layers")
    processes, number = {"none": (1, 4), "fsdp2": (2, 2)}[sharding]
    launch = Launch(processes=processes, sharding=sharding, gradient_checkpointing=True)
    expected = number * shape.layers * shape.layer + sum(activations(shape, launch, 1, 1, tokens).values())
    if sharding == "none":
        expected += gathered(shape, launch)
    assert 0.8 * expected < peak <= expected
