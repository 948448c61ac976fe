"""`generate` of a Transformers model, where each prompt is read once and nothing is copied to be read.

- Rows of the same prompt, such as the group of a question, share one reading of it.
- With a mask, Transformers' SDPA writes all keys and values once for each head that shares them (grouped
  queries), at every token of every layer: on a processor most of the time of an answer. But heads that share
  keys may as well be positions of one head, since a new token sees all there is; then nothing is copied.

The distribution of the answers is the same, and greedy ones are the same up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"
"""What Transformers calls `grouped_sdpa_forward`."""


def generate(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any
) -> Any:
    """What `model.generate` returns; `input_ids` and `attention_mask` (B, P) are padded on the left.

    Under `torch.no_grad`, not `inference_mode`, in which autocast rounds each weight again for every token.
    """
    with grouped_attention(model):
        # the class's own: `reading_once` may have put this function in its place
        return type(model).generate(
            model,
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=_read(model, input_ids, attention_mask),
            **settings,
        )


@contextmanager
def reading_once(model: PreTrainedModel) -> Iterator[None]:
    """Within this context `model.generate` is `generate`, whoever calls it."""
    model.generate = partial(generate, model)
    try:
        yield
    finally:
        del model.generate


def _read(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> Cache | None:
    """What the model keeps of all tokens of the prompts (B, P) but the last, where some are the same.

    None if all differ or are of one token, or if the model keeps nothing that could be copied.
    """
    known = ids.masked_fill(mask == 0, -1)
    different, rows = known.unique(dim=0, return_inverse=True)  # (U, P), (B,)
    if len(different) == len(ids) or ids.shape[1] == 1:
        return None
    seen = (different[:, :-1] >= 0).long()
    read = model(
        input_ids=different[:, :-1].clamp(min=0),
        attention_mask=seen,
        position_ids=(seen.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    cache = getattr(read, "past_key_values", None)
    if cache is not None:
        cache.reorder_cache(rows)
    return cache


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
