"""One interface to generate completions: `Generator`. Here, the Transformers engine.

`generate` takes plain string prompts and returns one list of `Completion` per prompt. The mode may
be left to the model, forced, or tilted: `mode_bias` is added to the logit of `<think>` at the first
position, which is the user's tolerance for waiting (large: think more; small: think less).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from thinkless.modes import Mode, control_id, mode_of


@dataclass(frozen=True)
class Completion:
    """What a model answered to one prompt."""

    token_ids: tuple[int, ...]
    """Control token first, end token last (if it came); padding removed."""
    text: str
    """The decoded tokens, control token included, end token not."""
    mode: Mode | None
    think_probability: float
    """P(think) / (P(think) + P(short)) at the first position, before any bias; NaN if the tokenizer
    has no control tokens."""
    finish_reason: str
    """`"stop"` (the end token came) or `"length"` (the limit came first)."""


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


class TransformersGenerator:
    """`Generator` on a Transformers model in this process, on whatever device the model is."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 256):
        if tokenizer.padding_side != "left":
            raise ValueError(
                "the tokenizer pads on the right: set tokenizer.padding_side = 'left' to generate"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size

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
        """See `Generator.generate`. Prompts of similar length share a batch."""
        if n < 1 or max_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
            raise ValueError(
                f"n={n}, max_tokens={max_tokens}, temperature={temperature}, top_p={top_p}: "
                "expected n >= 1, max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1"
            )
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        rows.sort(key=lambda row: len(prompts[row]))
        answers: list[list[Completion]] = [[] for _ in prompts]
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                texts = [prompts[row] for row in batch]
                completions = self._complete(texts, max_tokens, temperature, top_p, mode, mode_bias)
                for row, completion in zip(batch, completions, strict=True):
                    answers[row].append(completion)
        return answers

    def _complete(self, prompts, max_tokens, temperature, top_p, mode, mode_bias) -> list[Completion]:
        encoded = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids, attention = encoded.input_ids.to(self.model.device), encoded.attention_mask.to(self.model.device)
        vocabulary = self.tokenizer.get_vocab()
        has_modes = all(m.value in vocabulary for m in Mode)
        probabilities = self._think_probabilities(ids, attention) if has_modes else [math.nan] * len(prompts)
        processors = LogitsProcessorList()
        if mode is not None:
            processors.append(_FirstToken(ids.shape[1], only=control_id(mode, self.tokenizer)))
        elif mode_bias:
            processors.append(
                _FirstToken(ids.shape[1], tilt=control_id(Mode.THINK, self.tokenizer), bias=mode_bias)
            )
        sampling = (
            {"do_sample": False}
            if temperature == 0
            else {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": top_p}
        )
        output = self.model.generate(
            input_ids=ids,
            attention_mask=attention,
            max_new_tokens=max_tokens,
            logits_processor=processors,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            **sampling,
        )
        new_ids = output[:, ids.shape[1] :].tolist()
        return [self._completion(row, p) for row, p in zip(new_ids, probabilities, strict=True)]

    def _think_probabilities(self, ids, attention) -> list[float]:
        logits = self.model(input_ids=ids, attention_mask=attention, logits_to_keep=1).logits[:, -1].float()
        pair = logits[:, [control_id(Mode.THINK, self.tokenizer), control_id(Mode.SHORT, self.tokenizer)]]
        return pair.softmax(dim=1)[:, 0].tolist()

    def _completion(self, ids: list[int], think_probability: float) -> Completion:
        eos = self.tokenizer.eos_token_id
        finished = eos in ids
        ids = ids[: ids.index(eos) + 1] if finished else ids
        return Completion(
            token_ids=tuple(ids),
            text=self.tokenizer.decode(ids[:-1] if finished else ids),
            mode=mode_of(ids, self.tokenizer),
            think_probability=think_probability,
            finish_reason="stop" if finished else "length",
        )


class _FirstToken(LogitsProcessor):
    """Changes the logits of the first new position only: allow one token, or tilt one."""

    def __init__(
        self, prompt_length: int, *, only: int | None = None, tilt: int | None = None, bias: float = 0.0
    ):
        self.prompt_length, self.only, self.tilt, self.bias = prompt_length, only, tilt, bias

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] != self.prompt_length:
            return scores
        if self.only is not None:
            forced = torch.full_like(scores, -math.inf)
            forced[:, self.only] = 0.0
            return forced
        scores = scores.clone()
        scores[:, self.tilt] += self.bias
        return scores
