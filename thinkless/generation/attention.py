"""Attention of one new token where several heads share keys and values (grouped queries).

With a mask, Transformers' SDPA writes a copy of all keys and values for each head, at every token of every
layer: on a processor most of the time of an answer. Heads that share keys may as well be positions of one
head, since a new token sees all there is; then nothing is copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"
"""What Transformers calls `grouped_sdpa_forward`."""


@contextmanager
def grouped_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within this context a model that attends by SDPA does it this way; others are left alone."""
    usual = model.config._attn_implementation
    if usual == "sdpa":
        model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        if usual == "sdpa":
            model.set_attn_implementation(usual)


def grouped_sdpa_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' `sdpa_attention_forward`: of `query` (B, H, T, D), `key` and `value` (B, G, S, D).

    Returns (B, T, H, D). Left to Transformers unless T = 1, G < H and the mask is the same for every head.
    """
    batch, heads, positions, size = query.shape
    one_mask = attention_mask is None or attention_mask.shape[1] == 1
    if positions > 1 or heads == key.shape[1] or not one_mask or settings.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    read = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], -1, size),
        key,
        value,
        attn_mask=attention_mask,
        scale=settings.get("scaling"),
    )
    return read.reshape(batch, 1, heads, -1), None


AttentionInterface.register(NAME, grouped_sdpa_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
