"""`generate` of a Transformers model, where each prompt is read once and nothing is copied to be read.

- Rows of the same prompt, such as the group of a question, share one reading of it.
- Rows that have ended need not wait for the longest: once they are half of a batch, the others go on alone.
- With a mask, Transformers' SDPA writes all keys and values once for each head that shares them (grouped
  queries), at every token of every layer: on a processor most of the time of an answer. But heads that share
  keys may as well be positions of one head, since a new token sees all there is; then nothing is copied.

The distribution of the answers is the same, and greedy ones are the same up to rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Cache,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"
"""What Transformers calls `grouped_sdpa_forward`."""


def generate(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    leave: bool = False,
    **settings: Any,
) -> torch.Tensor:
    """What `model.generate` returns, (B, P + T); the prompts and their mask (B, P) are padded on the left.

    With `leave` rows that have ended leave the batch, which changes what the others draw, but not from what.
    Under `torch.no_grad`, not `inference_mode`, in which autocast rounds each weight again for every token.
    """
    # the class's own: `reading_once` may have put this function in its place
    write = partial(type(model).generate, model)
    with grouped_attention(model):
        cache = _read(model, input_ids, attention_mask)
        if leave:
            return _write_leaving(write, model, input_ids, attention_mask, cache, settings)
        return write(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, **settings)


@contextmanager
def reading_once(model: PreTrainedModel) -> Iterator[None]:
    """Within this context `model.generate` is `generate`, whoever calls it."""
    # processes that share a model have to take its layers together, so nobody leaves
    alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
    model.generate = partial(generate, model, leave=alone)
    try:
        yield
    finally:
        del model.generate


class _HalfHaveEnded(StoppingCriteria):
    """Stops all rows of a batch once half of them have an end token behind the prompt."""

    def __init__(self, prompt: int, ends: torch.Tensor):
        self.prompt, self.ends = prompt, ends

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        ended = _ended(input_ids[:, self.prompt :], self.ends)
        return (ended.float().mean() >= 0.5).expand(len(ended))


def _ended(written: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Whether a row (B, T) has an end token, (B,)."""
    return torch.isin(written, ends).any(dim=1)


def _write_leaving(
    write: Callable[..., Any],
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    cache: Cache | None,
    settings: dict[str, Any],
) -> torch.Tensor:
    """`write`, again and again, each time without the rows that have ended."""
    config = settings.get("generation_config") or model.generation_config
    limit, end, pad = (
        settings.get(name, getattr(config, name))
        for name in ("max_new_tokens", "eos_token_id", "pad_token_id")
    )
    ends = torch.tensor([] if end is None else end, device=ids.device, dtype=ids.dtype).view(-1)
    start, rows = ids.shape[1], torch.arange(len(ids), device=ids.device)
    whole = ids.new_full((len(ids), start + limit), pad)
    while True:
        found = write(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            stopping_criteria=StoppingCriteriaList([_HalfHaveEnded(start, ends)]),
            return_dict_in_generate=True,
            **{**settings, "max_new_tokens": start + limit - ids.shape[1]},
        )
        before, ids, cache = ids.shape[1], found.sequences, found.past_key_values
        whole[rows, : ids.shape[1]] = ids
        going = (~_ended(ids[:, start:], ends)).nonzero()[:, 0]
        if len(going) == 0 or ids.shape[1] == start + limit:
            return whole[:, : ids.shape[1]]
        rows, ids = rows[going], ids[going]
        mask = F.pad(mask[going], (0, ids.shape[1] - before), value=1)
        cache.reorder_cache(going)


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
    read = F.scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], -1, size),
        key,
        value,
        attn_mask=attention_mask,
        scale=settings.get("scaling"),
    )
    return read.reshape(batch, 1, heads, -1), None


AttentionInterface.register(NAME, grouped_sdpa_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
