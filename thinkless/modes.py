"""The two modes and the control tokens that name them.

A completion's mode is decided by the id of its first token and by nothing else: text can be decoded
in several ways, an id cannot. `<think>` and `<short>` are ordinary tokens, not special ones, so that
decoding with ``skip_special_tokens=True`` (as TRL does) keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # grading workers import this module and must start fast
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_OF_THINKING = "</think>"


class Mode(Enum):
    """How a question is answered; the value is the control token's text."""

    THINK = "<think>"
    SHORT = "<short>"

    @property
    def label(self) -> str:
        """The bare word, for tables and file names: ``"think"`` or ``"short"``."""
        return self.value.strip("<>")


def control_id(mode: Mode, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the mode's control token.

    Raises ValueError if the tokenizer does not have the token as one id.
    """
    token_id = tokenizer.get_vocab().get(mode.value)
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
    return next((mode for mode in Mode if tokenizer.get_vocab().get(mode.value) == first), None)


def add_control_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> list[str]:
    """Make `<think>`, `</think>` and `<short>` single tokens; returns the ones that were missing.

    Tokens the tokenizer already has keep their ids. The model's embeddings grow only if they have no
    spare rows left: the R1 distillations of Qwen have hundreds. Save model and tokenizer to disk
    before training: TRL reloads the reference model from there.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [t for t in (Mode.THINK.value, END_OF_THINKING, Mode.SHORT.value) if t not in vocabulary]
    tokenizer.add_tokens(missing, special_tokens=False)
    if model is not None and len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return missing
