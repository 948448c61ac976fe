"""Small models that vLLM can run, saved to disk, and the same ones in the Transformers engine."""

from types import SimpleNamespace

import pytest

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "kv_cache_memory_bytes": 64 << 20,
    "max_model_len": 256,
    "block_size": 32,  # a prompt of 100 tokens then fills cached blocks
}


def build_qwen3(tokenizer, seed):
    """The laptop world's architecture; its output head is tied to the embeddings."""
    from conftest import TINY

    from thinkless.models import build_model

    shape = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.3, "seed": seed}
    return build_model(tokenizer, **{**TINY, **shape})


def build_qwen2(tokenizer, seed):
    """The architecture of DeepSeek-R1-Distill-Qwen-1.5B, whose output head is its own."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


BUILD = {"qwen3, tied": build_qwen3, "qwen2, untied": build_qwen2}


@pytest.fixture(scope="session")
def saved(tokenizer, tmp_path_factory):
    """A maker of (folder, Transformers engine) by architecture and seed."""
    from thinkless.generation import TransformersGenerator

    def make(name: str, seed: int = 0):
        folder = tmp_path_factory.mktemp("model")
        model = BUILD[name](tokenizer, seed)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return SimpleNamespace(folder=folder, local=TransformersGenerator(model, tokenizer))

    return make
