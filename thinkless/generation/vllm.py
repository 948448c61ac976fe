"""The engine for real models: vLLM in this process (0.31.0, the newest release that TRL 1.16 takes).

The tilt of the mode (`mode_bias`) is a request of its own: vLLM adds a `logit_bias` to every token of a
request, so the first token is drawn alone and the rest without the bias. The other way, a logits
processor in the engine, would be one request, but vLLM has two interfaces for those (its model runners V1
and V2, chosen by the hardware), no server has it unless it was started with it, and a server that lacks it
ignores the bias in silence. The second request finds the prompt in the prefix cache.
"""

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from thinkless.generation.interface import (
    TOO_LONG,
    Completion,
    Sampling,
    completion_of,
    has_modes,
    has_room,
    request_seeds,
    think_share,
)
from thinkless.modes import Mode, control_id, end_ids

if TYPE_CHECKING:
    from vllm import SamplingParams


class VLLMGenerator:
    """`Generator` on vLLM in this process.

    Args:
        model_path: a folder with a model in the Transformers format, or a name on the hub.
        tokenizer: its tokenizer. vLLM itself gets and returns token ids only.
        **engine: arguments of `vllm.LLM`, such as `max_model_len` and `gpu_memory_utilization`. Mind that
            vLLM turns a float32 checkpoint into bfloat16 unless `dtype` says otherwise.

    Not every temperature is possible: vLLM's limit is 2. In one process only one engine can live: `close`
    it before the next is made.
    """

    def __init__(self, model_path: str | Path, tokenizer: PreTrainedTokenizerBase, **engine: Any):
        from vllm import LLM

        self.tokenizer = tokenizer
        self.llm = LLM(
            model=str(model_path),
            **{
                "skip_tokenizer_init": True,
                "load_format": "safetensors",  # no pickles
                "generation_config": "vllm",  # none of the model folder's own sampling defaults
                "worker_extension_cls": f"{__name__}.{WorkerExtension.__name__}",
                **engine,
            },
        )

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[list[Completion]]:
        """See `Generator.generate`."""
        sampling = Sampling(**settings)
        if not prompts:
            return []
        every = self.tokenizer(list(prompts), add_special_tokens=False).input_ids
        # one prompt that is too long, and vLLM refuses all
        fit = [has_room(len(row), self.llm.llm_engine.model_config.max_model_len) for row in every]
        ids = [row for row, room in zip(every, fit, strict=True) if room]
        probabilities = self._think_probabilities(ids)
        draws = sampling.n if sampling.temperature else 1  # greedy answers are all the same
        seeds_of = zip(fit, request_seeds(prompts, draws, sampling.seed), strict=True)
        seeds = [seed for room, row in seeds_of if room for seed in row]
        answers = self._draw([row for row in ids for _ in range(draws)], seeds, sampling)
        completions = [
            completion_of(answer, self.tokenizer, probabilities[number // draws])
            for number, answer in enumerate(answers)
        ]
        drawn = (
            completions[start : start + draws] * (sampling.n // draws)
            for start in range(0, len(completions), draws)
        )
        return [next(drawn) if room else [TOO_LONG] * sampling.n for room in fit]

    def _draw(self, prompts: list[list[int]], seeds: list[int], sampling: Sampling) -> list[list[int]]:
        heads: list[list[int]] = [[] for _ in prompts]
        if sampling.mode is not None:
            heads = [[control_id(sampling.mode, self.tokenizer)] for _ in prompts]
        elif sampling.mode_bias:
            bias = {control_id(Mode.THINK, self.tokenizer): sampling.mode_bias}
            heads = self._run(prompts, [self._params(sampling, 1, seed, logit_bias=bias) for seed in seeds])
            seeds = [seed ^ 1 for seed in seeds]  # or the second token would meet the first's random numbers
        ends = set(end_ids(self.tokenizer))
        going = [
            row
            for row, head in enumerate(heads)
            if len(head) < sampling.max_tokens and not ends.intersection(head[-1:])
        ]
        rests = self._run(
            [prompts[row] + heads[row] for row in going],
            [self._params(sampling, sampling.max_tokens - len(heads[row]), seeds[row]) for row in going],
        )
        for row, rest in zip(going, rests, strict=True):
            heads[row] = heads[row] + rest
        return heads

    def _params(self, sampling: Sampling, max_tokens: int, seed: int, **more: Any) -> "SamplingParams":
        from vllm import SamplingParams

        return SamplingParams(
            max_tokens=max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            stop_token_ids=end_ids(self.tokenizer),
            detokenize=False,
            **more,
        )

    def _run(self, prompts: list[list[int]], params: "list[SamplingParams]") -> list[list[int]]:
        return [list(output.outputs[0].token_ids) for output in self._outputs(prompts, params)]

    def _outputs(self, prompts: list[list[int]], params: "list[SamplingParams]") -> list[Any]:
        if not prompts:
            return []
        return self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)

    def _think_probabilities(self, prompts: list[list[int]]) -> list[float]:
        """One token each at temperature 1, for the log-probabilities of both control tokens before it."""
        if not has_modes(self.tokenizer):
            return [math.nan] * len(prompts)
        think, short = (control_id(mode, self.tokenizer) for mode in (Mode.THINK, Mode.SHORT))
        params = self._params(Sampling(max_tokens=1), 1, 0, logprob_token_ids=[think, short])
        tables = [output.outputs[0].logprobs[0] for output in self._outputs(prompts, [params] * len(prompts))]
        return [think_share(table[think].logprob, table[short].logprob) for table in tables]

    def reload_weights(self, model_path: str | Path) -> None:
        """Take the weights of another checkpoint of the same model, and forget every cached prompt."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(Path(model_path).resolve())})
        self.llm.collective_rpc("refresh_head")
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        """Stop the engine and free its memory; the generator cannot be used afterwards."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()


class WorkerExtension:
    """Adds a method to each vLLM worker; a server takes it by ``--worker-extension-cls``."""

    model_runner: Any

    def refresh_head(self) -> None:
        """vLLM 0.31 on CPU computes logits from a packed copy of the output head, and a reload leaves the
        copy of a head that is tied to the embeddings as it was. Pack it again."""
        from vllm.platforms import current_platform

        head: Any = getattr(self.model_runner.get_model(), "lm_head", None)
        if current_platform.is_cpu() and head is not None:
            head.quant_method.process_weights_after_loading(head)
