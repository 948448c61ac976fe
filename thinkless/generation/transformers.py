"""The engine that needs nothing else: `generate` of a Transformers model in this process."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation import BaseStreamer

from thinkless.generation.interface import TOO_LONG, Completion, Sampling, completion_of, has_modes, has_room
from thinkless.generation.prefill import generate
from thinkless.modes import Mode, control_id, end_ids


class TransformersGenerator:
    """`Generator` on a Transformers model in this process, on whatever device the model is."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 256,
        streamer: BaseStreamer | None = None,
        *,
        precision: str = "float32",
        padding: int = 1,
    ):
        """`streamer` is given each token as it is written; it needs one prompt and one answer at a time.

        With `precision` "bfloat16" products are computed in it, whatever the weights are. Prompts are padded
        to multiples of `padding` tokens.
        """
        if tokenizer.padding_side != "left":
            raise ValueError(
                "the tokenizer pads on the right: set tokenizer.padding_side = 'left' to generate"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.streamer = streamer
        self.precision = precision
        self.padding = padding

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[list[Completion]]:
        """See `Generator.generate`. Prompts of similar length share a batch."""
        sampling = Sampling(**settings)
        ids = self.tokenizer(list(prompts), add_special_tokens=False).input_ids if prompts else []
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", math.inf)
        fit = [has_room(len(prompt), positions) for prompt in ids]
        rows = [row for row in range(len(prompts)) if fit[row] for _ in range(sampling.n)]
        rows.sort(key=lambda row: len(prompts[row]))  # a batch is as slow as its longest prompt
        answers = [[] if room else [TOO_LONG] * sampling.n for room in fit]
        with torch.random.fork_rng(), torch.no_grad(), self.products():
            torch.manual_seed(sampling.seed)
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                completions = self._complete([prompts[row] for row in batch], sampling)
                for row, completion in zip(batch, completions, strict=True):
                    answers[row].append(completion)
        return answers

    def products(self) -> torch.autocast:
        """The context in which the model computes in `precision`."""
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def close(self):
        """Nothing to end: the model goes with its last reference. Other engines have processes."""

    def _complete(self, prompts: list[str], sampling: Sampling) -> list[Completion]:
        encoded = self.tokenizer(
            prompts,
            return_tensors="pt",
            padding=True,
            pad_to_multiple_of=self.padding if self.padding > 1 else None,
            add_special_tokens=False,
        ).to(self.model.device)
        # (B, P) both: P the longest prompt, shorter ones padded on the left so that all end together
        ids, attention = encoded.input_ids, encoded.attention_mask
        first = _FirstToken(ids.shape[1], sampling, self.tokenizer)
        draw = (
            {"do_sample": False}
            if sampling.temperature == 0
            else {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": 0,
                "top_p": sampling.top_p,
            }
        )
        with _only_what_is_asked(self.model):
            output = generate(
                self.model,
                ids,
                attention,
                max_new_tokens=sampling.max_tokens,
                logits_processor=LogitsProcessorList([first]),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=end_ids(self.tokenizer),
                streamer=self.streamer,
                **draw,
            )
        new_ids = output[:, ids.shape[1] :].tolist()  # (B, P + T) -> T new ids a row
        return [
            completion_of(row, self.tokenizer, probability)
            for row, probability in zip(new_ids, first.think_probabilities, strict=True)
        ]


@contextmanager
def _only_what_is_asked(model: PreTrainedModel) -> Iterator[None]:
    """Without the folder's sampling defaults, by which Transformers fills in what was not said."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class _FirstToken(LogitsProcessor):
    """Decides the mode at the first new position: forced, tilted, or left to the model.

    `think_probabilities` (B,) are the model's own at that position; NaN where a tokenizer has no modes.
    """

    def __init__(self, prompt_length: int, sampling: Sampling, tokenizer: PreTrainedTokenizerBase):
        self.prompt_length, self.bias = prompt_length, sampling.mode_bias
        self.forced = None if sampling.mode is None else control_id(sampling.mode, tokenizer)
        self.tilted = control_id(Mode.THINK, tokenizer) if sampling.mode_bias else None
        self.modes = [control_id(mode, tokenizer) for mode in Mode] if has_modes(tokenizer) else None
        self.think_probabilities: list[float] = []

    def __call__(self, input_ids, scores):
        """See `LogitsProcessor`; `scores` (B, V) are logits in float32, or small shares would round to 0."""
        if input_ids.shape[1] != self.prompt_length:
            return scores
        pair = scores[:, self.modes] if self.modes else scores.new_full((len(scores), 1), math.nan)
        self.think_probabilities = pair.softmax(dim=1)[:, 0].tolist()
        if self.forced is not None:
            forced = torch.full_like(scores, -math.inf)
            forced[:, self.forced] = 0.0
            return forced
        if self.tilted is not None:
            scores = scores.clone()
            scores[:, self.tilted] += self.bias
        return scores
