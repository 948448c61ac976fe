"""The two modes and the control tokens that name them.

A completion's mode is decided by the id of its first token and by nothing else: text can be decoded
in several ways, an id cannot. `<think>` and `<short>` are ordinary tokens, not special ones, so that
decoding with ``skip_special_tokens=True`` (as TRL does) keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # grading workers import this module and must start fast
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_OF_THINKING = "</think>"


class Mode(Enum):
    """The way a question is answered; the value is the control token's text."""

    THINK = "<think>"
    SHORT = "<short>"

    @property
    def label(self) -> str:
        """The bare word ``"think"`` or ``"short"``, for tables and file names."""
        return self.value.strip("<>")


CONTROL_TOKENS = (Mode.THINK.value, END_OF_THINKING, Mode.SHORT.value)

MEANT = {
    Mode.THINK.value: "First, think step by step",
    END_OF_THINKING: " Therefore done",
    Mode.SHORT.value: "Short answer",
}
"""What each control token is to mean, in words that a language model knows. See `fill_rows`."""


def control_id(mode: Mode, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the mode's control token.

    Raises ValueError if the tokenizer does not have the token as one id.
    """
    token_id = _id(mode.value, tokenizer)
    if token_id is None:
        raise ValueError(
            f"the tokenizer has no {mode.value} token: call add_control_tokens(tokenizer, model) first"
        )
    return token_id


def mode_of(completion_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Mode | None:
    """The mode of a completion, read from its first token id; None if that is no control token."""
    if len(completion_ids) == 0:
        return None
    first = int(completion_ids[0])
    return next((mode for mode in Mode if _id(mode.value, tokenizer) == first), None)


def _id(token: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    # not from get_vocab: it builds a dictionary of the whole vocabulary, here for every completion
    found = tokenizer.convert_tokens_to_ids(token)
    known = found is not None and tokenizer.convert_ids_to_tokens(found) == token
    return found if known else None


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends an answer: the tokenizer's end token, then the others of its model's folder.

    `models.load_tokenizer` has read those and left them at the tokenizer.
    """
    return list(dict.fromkeys([tokenizer.eos_token_id, *getattr(tokenizer, "more_ends", ())]))


def add_control_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> list[str]:
    """Make `<think>`, `</think>` and `<short>` ordinary single tokens; returns the ones that were missing.

    Tokens the tokenizer already has keep their ids, and stop being special if they were: special ones
    vanish when a completion is decoded. A missing one gets the next free id. Qwen models and the R1
    distillations of them have 151,936 embedding rows for 151,665 tokens, so nothing is resized; a model
    without spare rows grows. The released code renames `<|quad_start|>` (id 151,650) instead: the same
    kind of row, never trained, at the price of editing every tokenizer file. Its checkpoints have
    `<short>` already and are taken as they are.

    Raises ValueError if the tokenizer cuts one of them into pieces all the same, wherever it stands.

    Rows that come into use are filled, see `fill_rows`. Only where a model without chat template grows, as
    the laptop's does, are they Transformers' own, near the mean of the others. Save model
    and tokenizer to disk before training: TRL reloads the reference model from there.
    """
    from tokenizers import AddedToken

    vocabulary = tokenizer.get_vocab()
    missing = [token for token in CONTROL_TOKENS if token not in vocabulary]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in missing], special_tokens=False)
    make_ordinary(tokenizer, CONTROL_TOKENS)
    _check_whole(tokenizer)
    if model is None:
        return missing
    grows = len(tokenizer) > model.get_input_embeddings().num_embeddings
    if grows:
        model.resize_token_embeddings(len(tokenizer))
    if missing and not (grows and tokenizer.chat_template is None):
        fill_rows(model, tokenizer, missing)
    return missing


def make_ordinary(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]):
    """Take the special mark off `tokens`, in the tokenizer at hand and in what it will save.

    So with `normalized`, by which a tokenizer that rewrites spaces would no longer find them in its text.
    The tokenizers library can set these marks on a token but not take them off, hence its JSON.
    """
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content in tokens]
    if any(token.special or token.normalized for token in added):
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        for token in state["added_tokens"]:
            token["special"] &= token["content"] not in tokens
            token["normalized"] &= token["content"] not in tokens
        tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))
    tokenizer.extra_special_tokens = [t for t in tokenizer.extra_special_tokens if str(t) not in tokens]


def _check_whole(tokenizer: PreTrainedTokenizerBase):
    for token in CONTROL_TOKENS:
        for text in (token, f"3{token}3", f"3 {token} 3", f"\n{token}\n"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if ids.count(tokenizer.get_vocab()[token]) != 1:
                pieces = tokenizer.convert_ids_to_tokens(ids)
                raise ValueError(f"the tokenizer reads {token} in {text!r} as {pieces}, not as one token")


def fill_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]):
    """Embedding rows to start from, for control tokens whose rows were never trained.

    They become the mean of the base vocabulary's, except the output rows of the modes: those are copies
    of the one row that is likely where they belong, `<think>`'s if the model knows it, else that of the
    token with which it begins an answer. Both modes are then equally likely from the first update on. With
    any other row `<short>` stays all but impossible for hundreds of updates, and what training takes from
    the likely token leaks into unused ones. The input row is not copied: a `<short>` that reads like
    `<think>` has to unlearn thinking.

    Tied embeddings have one row for both uses, and a copy would make the modes read alike. There a row is
    the mean row of the words in `MEANT`, and a mode's is moved along the hidden state at an answer's first
    position, to be as likely there as the likely token: chosen and different from the first update on.
    """
    ids, base = tokenizer.convert_tokens_to_ids(list(tokens)), slice(tokenizer.vocab_size)
    inputs, outputs = (e.weight.data for e in (model.get_input_embeddings(), model.get_output_embeddings()))
    hidden = _before_answer(model, tokenizer)  # (H,)
    likely = None if Mode.THINK.value in tokens else control_id(Mode.THINK, tokenizer)
    if likely is None and hidden is not None:
        likely = int((outputs[base] @ hidden).argmax())
    # (V, H) each; where they are tied, the second line overwrites the first
    inputs[ids] = inputs[base].mean(dim=0)
    outputs[ids] = outputs[base].mean(dim=0)
    tied = hidden is not None and inputs.data_ptr() == outputs.data_ptr()
    for token, row in zip(tokens, ids, strict=True) if tied else ():
        words = tokenizer(MEANT[token], add_special_tokens=False).input_ids
        inputs[row] = inputs[words].mean(dim=0)
    for row in [control_id(mode, tokenizer) for mode in Mode if mode.value in tokens and likely is not None]:
        if tied and hidden is not None:
            inputs[row] += (inputs[likely] - inputs[row]) @ hidden / (hidden @ hidden) * hidden
        else:
            outputs[row] = outputs[likely].clone()


def _before_answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor | None:
    """The last hidden state (H,) where an answer begins; None without a chat template to ask with."""
    if tokenizer.chat_template is None:
        return None
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    batch = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    return (
        model(batch["input_ids"].to(model.device), output_hidden_states=True)
        .hidden_states[-1][0, -1]
        .detach()
    )
