"""A tolerance for thinking, request by request, on a vLLM server.

    vllm serve MODEL --logits-processors thinkless.generation.vllm_plugin:ModeBias

A request then leaves the mode to the model (say nothing), forces it
(``"chat_template_kwargs": {"mode": "short"}``, see `chat_template`) or tilts it
(``"vllm_xargs": {"mode_bias": 1.5}``): the bias, in nats, is added to the logit of `<think>` at the first
output position, before temperature, and nowhere else. It means what `Generator.generate` means by it.

vLLM has two interfaces for such a class, an older one that its CPU build uses and a newer one that is the
default on GPUs; both ask for a base class of theirs. `ModeBias` is both.
"""

from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.sample.logits_processor import BatchUpdate, process_dict_updates
from vllm.v1.sample.logits_processor import LogitsProcessor as LogitsProcessorV1
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

from thinkless.modes import Mode, control_id

LIMIT = 100.0
"""Largest bias, in nats: what OpenAI's `logit_bias` allows, and far past certainty."""


def mode_bias(params: SamplingParams) -> float:
    """The request's bias, 0 if it has none. Raises ValueError, which becomes a 400, if it is no number."""
    bias = (params.extra_args or {}).get("mode_bias", 0.0)
    if not isinstance(bias, int | float) or not abs(bias) <= LIMIT:
        raise ValueError(f"mode_bias={bias!r}: expected a number of nats between -{LIMIT:g} and {LIMIT:g}")
    return float(bias)


class ModeBias(LogitsProcessorV1, LogitsProcessorV2):
    """Adds a request's `mode_bias` to the logit of `<think>` at the first output position.

    A prompt that ends with a control token has its mode already: no bias is added behind it.
    """

    def __init__(self, vllm_config: VllmConfig, *arguments: Any):
        """Called with (device, pin_memory) by the older interface, with the request state by the newer."""
        tokenizer = cached_tokenizer_from_config(vllm_config.model_config)
        self.controls = [control_id(mode, tokenizer) for mode in Mode]
        self.think = control_id(Mode.THINK, tokenizer)
        self.waiting: dict[int, tuple[float, list[int]]] = {}
        if isinstance(arguments[0], LogitsProcRequestState):
            self.prompt_lengths = arguments[0].prompt_len
            self.biases = torch.zeros(arguments[0].max_num_reqs, device=arguments[0].device)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams):
        mode_bias(sampling_params)

    def is_argmax_invariant(self) -> bool:
        return False

    # The older interface: one row per request; rows come, go and move from step to step.

    def update_state(self, batch_update: BatchUpdate | None):
        process_dict_updates(self.waiting, batch_update, self._wait)
        self.waiting = {row: entry for row, entry in self.waiting.items() if not entry[1]}

    def _wait(self, params: SamplingParams, prompt: list[int] | None, output: list[int]):
        has_mode = prompt is not None and prompt[-1] in self.controls
        return None if has_mode or not mode_bias(params) else (mode_bias(params), output)

    # The newer interface: state per slot; a step's rows say which slot and position they are.

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self.biases[req_idx] = mode_bias(sampling_params)
        return mode_bias(sampling_params) != 0

    def apply(self, logits: torch.Tensor, context: LogitsContext | None = None) -> torch.Tensor:
        """`logits` (rows, V), changed in place; `context` comes with the newer interface only."""
        if context is not None:
            slots = context.expanded_idx_mapping.long()
            first = context.pos + 1 == self.prompt_lengths.gpu[slots]
            for control in self.controls:
                first &= context.input_ids != control
            logits[:, self.think] += self.biases[slots] * first
        elif self.waiting:
            rows = torch.tensor(list(self.waiting), device=logits.device)
            biases = [bias for bias, _ in self.waiting.values()]
            logits[rows, self.think] += torch.tensor(biases, device=logits.device, dtype=logits.dtype)
        return logits
