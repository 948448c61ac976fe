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
        with torch.random.fork_rng(), torch.inference_mode(), self.products():
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
        )
        # (B, P) both: P the longest prompt, shorter ones padded on the left so that all end together
        ids, attention = encoded.input_ids.to(self.model.device), encoded.attention_mask.to(self.model.device)
        known = has_modes(self.tokenizer)
        probabilities = self._think_probabilities(ids, attention) if known else [math.nan] * len(prompts)
        # The mode is decided at the first new position: forced, tilted, or left to the model.
        processors = LogitsProcessorList()
        if sampling.mode is not None:
            processors.append(_FirstToken(ids.shape[1], only=control_id(sampling.mode, self.tokenizer)))
        elif sampling.mode_bias:
            think = control_id(Mode.THINK, self.tokenizer)
            processors.append(_FirstToken(ids.shape[1], tilt=think, bias=sampling.mode_bias))
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
            output = self.model.generate(
                input_ids=ids,
                attention_mask=attention,
                max_new_tokens=sampling.max_tokens,
                logits_processor=processors,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=end_ids(self.tokenizer),
                streamer=self.streamer,
                **draw,
            )
        new_ids = output[:, ids.shape[1] :].tolist()  # (B, P + T) -> T new ids a row
        return [completion_of(row, self.tokenizer, p) for row, p in zip(new_ids, probabilities, strict=True)]

    def _think_probabilities(self, ids: torch.Tensor, attention: torch.Tensor) -> list[float]:
        # (B, V): the last position only, where the control token belongs; float32, or small shares round to 0
        logits = self.model(input_ids=ids, attention_mask=attention, logits_to_keep=1).logits[:, -1].float()
        pair = logits[:, [control_id(Mode.THINK, self.tokenizer), control_id(Mode.SHORT, self.tokenizer)]]
        return pair.softmax(dim=1)[:, 0].tolist()


@contextmanager
def _only_what_is_asked(model: PreTrainedModel) -> Iterator[None]:
    """Without the folder's sampling defaults, by which Transformers fills in what was not said."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


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
