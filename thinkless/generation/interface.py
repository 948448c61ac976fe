"""What every engine takes and returns: `Generator`, `Sampling` and `Completion`.

`generate` takes plain string prompts and returns one list of `Completion` per prompt. The mode may
be left to the model, forced, or tilted: `mode_bias` is added to the logit of `<think>` at the first
position, which is the user's tolerance for waiting (large: think more; small: think less).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from thinkless.modes import Mode, end_ids, mode_of


@dataclass(frozen=True)
class Completion:
    """One answer of a model to one prompt."""

    token_ids: tuple[int, ...]
    """Control token first, end token last (if it came); padding removed. Empty if a server sent none
    and there is no tokenizer to encode its text again."""
    text: str
    """The decoded tokens, control token included, end token not."""
    mode: Mode | None
    think_probability: float
    """P(think) / (P(think) + P(short)) at the first position, at temperature 1 and before any bias; NaN
    where it is unknown: no control tokens, or a server that does not tell."""
    finish_reason: str
    """`"stop"` (the end token came), `"length"` (the limit came first) or `"too_long"` (the prompt left no
    room). A server may also say `"filtered"`, `"broken"` or `"refused"`: then the text is its reason."""
    reported_tokens: int | None = None
    """The count that a server reports, where it did not send the tokens themselves."""

    @property
    def tokens(self) -> int:
        """Length in tokens with control and end token, without the prompt, which is what an answer costs."""
        return len(self.token_ids) if self.reported_tokens is None else self.reported_tokens


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The keyword arguments of `Generator.generate`. Raises ValueError for impossible ones."""

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    mode: Mode | None = None
    mode_bias: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.n < 1 or self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"n={self.n}, max_tokens={self.max_tokens}, temperature={self.temperature}, "
                f"top_p={self.top_p}: expected n >= 1, max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1"
            )
        if not -100 <= self.mode_bias <= 100:
            raise ValueError(
                f"mode_bias={self.mode_bias}: expected -100 to 100 nats, the range that servers take"
            )


class Generator(Protocol):
    """Anything that completes prompts. Engines differ in speed, not in meaning."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        mode: Mode | None = None,
        mode_bias: float = 0.0,
        seed: int = 0,
    ) -> list[list[Completion]]:
        """`n` completions for each prompt, of at most `max_tokens` tokens, control token included.

        `temperature=0` is greedy. `mode` forces the control token; `mode_bias` (nats) tilts it.
        The same arguments give the same completions on the same machine.
        """
        ...


TOO_LONG = Completion((), "", None, math.nan, "too_long")
"""What an engine says to a prompt that leaves no room for an answer."""


def has_room(prompt: int, positions: float) -> bool:
    """Whether a prompt of so many tokens leaves the two of the shortest answer, control and end token."""
    return prompt + 2 <= positions


def has_modes(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer knows both control tokens."""
    vocabulary = tokenizer.get_vocab()
    return all(mode.value in vocabulary for mode in Mode)


def think_share(think: float, short: float) -> float:
    """P(think) / (P(think) + P(short)) from the two log-probabilities; neither needs the whole softmax."""
    return 1 / (1 + math.exp(min(short - think, 700.0)))  # beyond 709 exp overflows


def completion_of(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, think_probability: float
) -> Completion:
    """The completion that these token ids make; what stands behind an end token is padding."""
    ids, ends = list(ids), end_ids(tokenizer)
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    finished = end is not None
    ids = ids if end is None else ids[: end + 1]
    return Completion(
        token_ids=tuple(ids),
        text=tokenizer.decode(ids[:-1] if finished else ids),
        mode=mode_of(ids, tokenizer),
        think_probability=think_probability,
        finish_reason="stop" if finished else "length",
    )


def request_seeds(prompts: Sequence[str], n: int, seed: int) -> list[list[int]]:
    """A 31-bit seed for each of `n` answers to each prompt, for engines that seed every request.

    One seed for all would draw the same random numbers for every prompt. These depend on the prompt's
    text and on how often it came before, not on its place: what is left of an interrupted run is drawn
    as the whole run would have drawn it.
    """
    copies: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        numbers = range(copies[prompt] * n, (copies[prompt] + 1) * n)
        copies[prompt] += 1
        digests = [hashlib.blake2b(f"{seed} {k} {prompt}".encode(), digest_size=4).digest() for k in numbers]
        seeds.append([int.from_bytes(digest) >> 1 for digest in digests])
    return seeds
