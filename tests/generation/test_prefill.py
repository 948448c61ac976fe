"""Proves that attention without copies of shared keys is Transformers' own, in every case that it takes over.

Run: python -m pytest tests/generation/test_prefill.py
"""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import sdpa_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from thinkless.generation import TransformersGenerator
from thinkless.generation.prefill import NAME, generate, grouped_sdpa_forward, reading_once

PROMPTS = ["3+5*2-7=", "1+1=", "9*9*9="]


def llama(tokenizer, attention="sdpa"):
    """Six heads, three of which share keys and values."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.4,
    )
    model = LlamaForCausalLM(config).eval()
    model.set_attn_implementation(attention)
    return model


@pytest.mark.parametrize("heads", [2, 4, 6])
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("mask", [None, "hidden", "added", "by head"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_what_is_read_is_what_transformers_reads(heads, positions, mask, scaling):
    torch.manual_seed(0)
    query = torch.randn(3, heads, positions, 8)
    key, value = torch.randn(2, 3, 2, 5, 8)
    masks = {
        None: None,
        "hidden": torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()[:, None, None],
        "added": torch.randn(3, 1, 1, 5),
        "by head": torch.randn(3, heads, 1, 5),
    }
    module = SimpleNamespace(num_key_value_groups=heads // 2, is_causal=True)
    arguments = (module, query, key, value, masks[mask])
    expected, _ = sdpa_attention_forward(*arguments, scaling=scaling)
    read, _ = grouped_sdpa_forward(*arguments, scaling=scaling)
    assert read.shape == (3, positions, heads, 8)
    torch.testing.assert_close(read, expected)


def test_answers_are_the_same_and_the_model_is_as_it_was(tokenizer):
    model = llama(tokenizer)
    generator = TransformersGenerator(model, tokenizer)
    settings = {"n": 4, "max_tokens": 20, "seed": 3}
    answers = generator.generate(PROMPTS, **settings)
    assert model.config._attn_implementation == "sdpa"
    eager = TransformersGenerator(llama(tokenizer, "eager"), tokenizer).generate(PROMPTS, **settings)
    assert [[c.token_ids for c in some] for some in answers] == [
        [c.token_ids for c in some] for some in eager
    ]


def test_keys_are_copied_for_the_prompts_alone(tokenizer, monkeypatch):
    copied = []
    copy = sdpa_attention.repeat_kv
    monkeypatch.setattr(sdpa_attention, "repeat_kv", lambda *of: copied.append(of[0].shape[2]) or copy(*of))
    model = llama(tokenizer)
    TransformersGenerator(model, tokenizer).generate(PROMPTS, max_tokens=5, temperature=0)
    assert copied == [max(map(len, PROMPTS))] * 4  # keys and values of two layers


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_failure_leaves_the_model_as_it_was(tokenizer, attention, monkeypatch):
    seen = []

    def fail(model, **_):
        seen.append(model.config._attn_implementation)
        raise KeyError

    model = llama(tokenizer, attention)
    monkeypatch.setattr(LlamaForCausalLM, "generate", fail)
    with pytest.raises(KeyError):
        TransformersGenerator(model, tokenizer).generate(PROMPTS, max_tokens=2)
    assert seen == [NAME if attention == "sdpa" else attention]
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("ends", ["one", "several", "none"])
def test_who_has_ended_leaves_and_the_others_write_what_they_would_have(tokenizer, ends):
    """Greedy answers. The end tokens are such as some rows write, at different places, and others never."""
    model, rows = llama(tokenizer), []
    prompts = [*PROMPTS, "2+2=", "7-1*4=", "8*8-8="] * 2
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    ids, mask = encoded.input_ids, encoded.attention_mask
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    with torch.no_grad():
        free = generate(model, ids, mask, **settings, eos_token_id=None)[:, ids.shape[1] :]
        written = {token: (free == token).any(dim=1).sum().item() for token in free.unique().tolist()}
        some = sorted((token for token in written if written[token] < len(ids)), key=written.get)
        chosen = {"one": some[-1], "several": some[-2:], "none": None}[ends]
        expected = generate(model, ids, mask, **settings, eos_token_id=chosen)
        model.model.register_forward_hook(lambda *of: rows.append(len(of[2].last_hidden_state)))
        with reading_once(model):
            found = model.generate(input_ids=ids, attention_mask=mask, **settings, eos_token_id=chosen)
    assert torch.equal(found, expected)
    assert (rows[-1] <= len(ids) / 2) == (ends != "none")
    assert model.generate.__func__ is type(model).generate
