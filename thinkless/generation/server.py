"""The engine that asks a server: vLLM, SGLang, llama.cpp, a paid service; whatever speaks OpenAI's protocol.

What a completion tells depends on what the server tells. vLLM adds the token ids and chosen
log-probabilities to the protocol (`extensions`): then a completion is as exact as that of an engine in
this process. A plain server sends text and a count: then `token_ids` is that text encoded again, or
empty without a tokenizer, `reported_tokens` is the count, and `think_probability` is NaN.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from thinkless.generation.interface import Completion, Sampling, has_modes, request_seeds, think_share
from thinkless.generation.protocol import (
    OptionalFields,
    answer_text,
    finish_reason,
    is_doubtful,
    reason_of,
    refusal,
    refuse_garbage,
    reported_tokens,
)
from thinkless.modes import Mode, control_id, mode_of

EXTENSIONS = {
    "add_special_tokens": False,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "return_token_ids": True,
    "skip_special_tokens": False,
    "top_k": 0,
}
"""vLLM's own fields: the ids back, the prompt as it stands, and none of the sampling defaults that it reads
from the model's folder (Qwen's cut to the 20 likeliest tokens)."""


DOUBTFUL = 2
"""Prompts that may fail for good, each in all its attempts, before it is the server that has failed."""


@dataclass(frozen=True)
class _Reply:
    """A piece of a completion. `ids` is None where they are unknown; `prompt` leads up to its end."""

    prompt: str | list[int]
    text: str = ""
    ids: tuple[int, ...] | None = ()
    tokens: int | None = 0
    finish_reason: str = "length"

    def then(self, more: "_Reply") -> "_Reply":
        both = None if self.ids is None or more.ids is None else self.ids + more.ids
        tokens = None if self.tokens is None or more.tokens is None else self.tokens + more.tokens
        return replace(more, text=self.text + more.text, ids=both, tokens=tokens)


@dataclass
class _Pending:
    """The requests for one prompt that are under way."""

    index: int
    draws: list[Future] = field(default_factory=list)
    measure: Future | None = None
    """Measures P(think), where the server can say it."""

    @property
    def jobs(self) -> list[Future]:
        return [*self.draws, *([self.measure] if self.measure else [])]

    @property
    def answered(self) -> bool:
        """Whether every request has its answer."""
        return all(job.done() and not job.cancelled() and not job.exception() for job in self.jobs)

    def completions(self) -> list[Completion]:
        probability = self.measure.result() if self.measure else math.nan
        return [replace(draw.result(), think_probability=probability) for draw in self.draws]


def _refused(reason: str) -> list[Completion]:
    return [Completion((), reason, None, math.nan, "refused", 0)]


class ServerGenerator:
    """`Generator` on an OpenAI-compatible server, `in_flight` requests at a time, one per answer.

    Args:
        base_url: where the protocol starts, such as ``"http://localhost:8000/v1"``.
        model: the name under which the server knows the model.
        tokenizer: the served model's own. Without it modes can be forced but neither tilted nor read.
        chat: ask the chat endpoint, which puts the prompt into the model's template. A prompt that opens
            the answer (forced and tilted modes) needs the plain one.
        extensions: send `EXTENSIONS`; False for a server that refuses fields which it does not know.
        api_key: the environment's ``OPENAI_API_KEY`` if None.
        retries: how often a request is sent again after 408, 409, 429, 5xx, a timeout, a broken
            connection or a body that is no answer; waits double from 0.5 s to 8 s, or are the server's own.
            A request of which a field of `FALLBACKS` is refused is sent again without it, as all later ones.
        timeout: seconds that one answer may take. A long answer from a busy server takes many minutes.

    Raises RuntimeError, from `generate` and `complete`, when the server refuses whoever asks (no key, no such
    model) or has failed `retries` + 1 times with more than `DOUBTFUL` prompts, or with all; from `generate`
    also when it refuses one of the prompts.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        chat: bool = False,
        extensions: bool = True,
        api_key: str | None = None,
        in_flight: int = 64,
        retries: int = 8,
        timeout: float = 1800.0,
    ):
        from openai import DefaultHttpxClient, OpenAI, Timeout

        self.base_url, self.model, self.tokenizer = base_url, model, tokenizer
        self.chat, self.extensions, self.in_flight, self.retries = chat, extensions, in_flight, retries
        self._fields = OptionalFields(base_url)
        self.client = OpenAI(
            base_url=base_url,
            api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=retries,
            timeout=Timeout(timeout, connect=10.0),
            http_client=DefaultHttpxClient(event_hooks={"response": [refuse_garbage]}),
        )

    def generate(self, prompts: Sequence[str], **settings: Any) -> list[list[Completion]]:
        """See `Generator.generate`."""
        answers: list[list[Completion]] = [[] for _ in prompts]
        for index, completions in self.complete(prompts, **settings):
            if reasons := [answer.text for answer in completions if answer.finish_reason == "refused"]:
                raise RuntimeError(f"{self.base_url} refuses prompt {index}: {reasons[0]}{self._hint}")
            answers[index] = completions
        return answers

    def complete(self, prompts: Sequence[str], **settings: Any) -> Iterator[tuple[int, list[Completion]]]:
        """(place of the prompt, its completions) as they arrive: store each, and nothing paid for is lost.

        Takes the arguments of `generate`. A prompt that is refused, too long for one, has completions with
        the finish reason "refused". After a failure nothing new is asked, what is in flight still arrives,
        and then the error is raised.
        """
        sampling = Sampling(**settings)
        if sampling.mode is not None or sampling.mode_bias:
            if self.chat:
                raise ValueError("a mode opens the answer, which chat=True cannot: use chat=False")
            if sampling.mode is None and self.tokenizer is None:
                raise ValueError("mode_bias needs the id of <think>: give the served model's tokenizer")
        return self._arrivals(prompts, sampling)

    def _arrivals(self, prompts: Sequence[str], sampling: Sampling) -> Iterator[tuple[int, list[Completion]]]:
        from openai import OpenAIError

        draws = sampling.n if sampling.temperature else 1  # greedy answers are all the same
        known = self.tokenizer is not None and has_modes(self.tokenizer)
        measures = known and self.extensions and not self.chat
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="completion")
        pending: dict[Future, _Pending] = {}
        failures: list[tuple[int, BaseException]] = []
        doubtful: dict[int, BaseException] = {}
        answered = False
        try:
            for index, seeds in enumerate(request_seeds(prompts, draws, sampling.seed)):
                prompt, asked = prompts[index], _Pending(index)
                # one request per draw, so that each has its own seed, and one more that measures P(think)
                asked.draws = [pool.submit(self._answer, prompt, sampling, seed) for seed in seeds]
                asked.measure = pool.submit(self._think_probability, prompt) if measures else None
                pending |= dict.fromkeys(asked.jobs, asked)
            for job in as_completed(pending):
                if job not in pending:
                    continue
                asked = pending.pop(job)  # what has been handed out is not kept
                if job.cancelled():
                    continue
                error = job.exception()
                reason, is_open = refusal(error), len(doubtful) < DOUBTFUL and is_doubtful(error)
                if reason or is_open:
                    for other in set(asked.jobs) & pending.keys():  # would fail, too
                        other.cancel()
                        del pending[other]
                if reason:
                    yield asked.index, _refused(reason) * sampling.n
                elif error and is_open:
                    doubtful[asked.index] = error
                elif error:
                    if not isinstance(error, OpenAIError):
                        raise error
                    failures.append((asked.index, error))
                    for other in pending:  # nothing new is asked; what is in flight still arrives
                        other.cancel()
                elif asked.answered:
                    answered = True
                    yield asked.index, asked.completions() * (sampling.n // draws)
                    yield from self._set_aside(doubtful, sampling.n)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if answered and not failures:
            yield from self._set_aside(doubtful, sampling.n)
        if failures := [*doubtful.items(), *failures]:
            index, cause = failures[0]
            raise RuntimeError(self._explain(index, cause)) from cause

    def _set_aside(
        self, doubtful: dict[int, BaseException], n: int
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Give the prompts back as refused, for the server has answered others."""
        while doubtful:
            index, error = doubtful.popitem()
            reason = f"no answer in {self.retries + 1} attempts, while others had one: {reason_of(error)}"
            yield index, _refused(reason) * n

    def _answer(self, prompt: str, sampling: Sampling, seed: int) -> Completion:
        start, left = _Reply(prompt), sampling.max_tokens
        if sampling.mode is not None:
            word = sampling.mode.value
            ids = (control_id(sampling.mode, self.tokenizer),) if self.tokenizer is not None else None
            start, left = _Reply(prompt + word, word, ids, 1), left - 1
        elif sampling.mode_bias and self.tokenizer is not None:
            # A bias holds for every token of a request: the first is drawn alone, the rest without it.
            bias = {str(control_id(Mode.THINK, self.tokenizer)): sampling.mode_bias}
            start, left = self._ask(prompt, sampling, 1, seed, logit_bias=bias), left - 1
            seed ^= 1  # or the second token would meet the random numbers of the first
        if left and start.finish_reason == "length":
            start = start.then(self._ask(start.prompt, sampling, left, seed))
        return self._completion(start, sampling.mode)

    def _completion(self, reply: _Reply, mode: Mode | None) -> Completion:
        ids, reported = reply.ids, None
        if ids is None:
            ids, reported = (), reply.tokens
            if self.tokenizer is not None:
                end = [self.tokenizer.eos_token_id] if reply.finish_reason == "stop" else []
                ids = (*self.tokenizer(reply.text, add_special_tokens=False).input_ids, *end)
                if reported is not None and 2 * reported < len(ids):  # no two tokenizers differ so much
                    reported = None
        if self.tokenizer is not None:
            mode = mode_of(ids, self.tokenizer)
        return Completion(ids, reply.text, mode, math.nan, reply.finish_reason, reported)

    def _think_probability(self, prompt: str) -> float:
        """One token at temperature 1, for the log-probabilities of both control tokens before it."""
        pair = [control_id(mode, self.tokenizer) for mode in (Mode.THINK, Mode.SHORT)]
        fields = {**EXTENSIONS, "logprob_token_ids": pair, "return_tokens_as_token_ids": True}
        response = self._request(prompt, Sampling(max_tokens=1), 1, 0, logprobs=2, extra_body=fields)
        logprobs = response.choices[0].logprobs
        table = logprobs.top_logprobs[0] if logprobs and logprobs.top_logprobs else {}
        return think_share(*(table.get(f"token_id:{token}", math.nan) for token in pair))

    def _ask(
        self, prompt: str | list[int], sampling: Sampling, max_tokens: int, seed: int, **fields: Any
    ) -> _Reply:
        extra = {"extra_body": EXTENSIONS} if self.extensions else {}
        response = self._request(prompt, sampling, max_tokens, seed, **extra, **fields)
        choice = response.choices[0]
        text = answer_text(choice, self.chat)
        ids = getattr(choice, "token_ids", None)
        before = getattr(choice, "prompt_token_ids", None)
        return _Reply(
            prompt=f"{prompt}{text}" if ids is None or before is None else [*before, *ids],
            text=text,
            ids=None if ids is None else tuple(ids),
            tokens=reported_tokens(response.usage),
            finish_reason=finish_reason(getattr(choice, "finish_reason", None)),
        )

    def _request(self, prompt, sampling: Sampling, max_tokens: int, seed: int, **fields: Any) -> Any:
        asked = {"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}
        endpoint: Any = self.client.chat.completions if self.chat else self.client.completions
        optional = {"max_tokens": max_tokens, "temperature": sampling.temperature}
        optional |= {"top_p": sampling.top_p, "seed": seed}
        return self._fields.send(endpoint.create, optional, model=self.model, **asked, **fields)

    @property
    def _hint(self) -> str:
        return "; extensions=False leaves out what only vLLM knows" if self.extensions else ""

    def _explain(self, index: int, error: BaseException) -> str:
        response, reason = getattr(error, "response", None), reason_of(error)
        if response is None or response.status_code in (408, 409, 429) or response.status_code >= 500:
            return (
                f"{self.base_url} gave no answer to prompt {index} in {self.retries + 1} attempts: {reason}; "
                "see that the server runs, then run again"
            )
        return f"{self.base_url} refuses prompt {index}: {reason}{self._hint}"
