"""Proves that shapes are those of the published models, counted on the real architecture.

Run: python -m pytest tests/planning/test_hardware.py
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen2Config

from thinkless.planning.hardware import QWEN2, PlanError, Shape, shape_of
from thinkless.runs.profiles import load_profile

R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
TINY = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}


def test_the_paper_model_by_hand():
    shape = shape_of(R1)
    h, f, kv, v, n = 1536, 8960, 2 * 128, 151_936, 28
    matrices = 2 * h * h + 2 * h * kv + 3 * h * f  # queries and output, keys and values, three of the MLP
    layer = matrices + (h + 2 * kv) + 2 * h  # biases of queries, keys, values; two norms
    assert shape.layer == layer == 46_797_824
    assert shape.parameters == n * layer + 2 * v * h + h == 1_777_088_000
    assert shape.matmul == n * matrices + v * h
    assert shape.kv_bytes == 28 * 2 * 256 * 2 == 28_672
    assert shape.context == 131_072


@pytest.mark.parametrize(
    ("path", "billions", "without_embeddings"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.49, 0.36),
        ("Qwen/Qwen2.5-Math-1.5B-Instruct", 1.54, 1.31),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62, 6.53),
    ],
)
def test_published_sizes(path, billions, without_embeddings):
    """As on the models' cards; the distilled 7 B has 640 vocabulary entries fewer than its base, 7.61 B."""
    shape = shape_of(path)
    assert round(shape.parameters / 1e9, 2) == billions
    embeddings = shape.vocabulary * shape.hidden * (1 if QWEN2[path].tie_word_embeddings else 2)
    assert round((shape.parameters - embeddings) / 1e9, 2) == without_embeddings


def test_every_model_that_a_profile_names_needs_no_network():
    for name in ("gpu", "h100x4", "cluster"):
        profile = load_profile(name)
        teachers = (profile.distill.think, profile.distill.short)
        named = {profile.model.path} | {one.path for one in teachers if one.kind == "model"}
        assert named <= set(QWEN2)


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_those_that_torch_counts(tied):
    """Eager attention multiplies all pairs of positions; a causal kernel skips half of them."""
    config = Qwen2Config(
        **TINY, intermediate_size=160, vocab_size=200, tie_word_embeddings=tied, max_position_embeddings=128
    )
    shape, tokens = Shape.of(config, "tiny"), 96
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        ids = torch.zeros(1, tokens, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(ids)
    masked_half = 2 * shape.layers * shape.attention * tokens**2
    rotary = counter.get_total_flops() - masked_half - shape.forward_flops(tokens, tokens**2)
    assert rotary == 2 * tokens * (64 // 4) // 2  # positions times frequencies, one small product


def test_a_local_folder_wins_over_the_table(tmp_path):
    Qwen2Config(**TINY, intermediate_size=160, vocab_size=200).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)).hidden == 64


def test_an_unknown_model_is_one_line_that_names_it():
    with pytest.raises(PlanError, match="no shape for the model 'no/such'") as error:
        shape_of("no/such")
    assert "\n" not in str(error.value)
