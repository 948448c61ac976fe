"""Proves the engine that asks a server on a real vLLM server: with its additions, it is as exact as any.

Run: make test-vllm, or in an environment with vLLM: python -m pytest tests/with_vllm
"""

import json
import math

import pytest
import torch
from servers import free_port, serving

from thinkless.generation import ServerGenerator
from thinkless.modes import Mode, control_id
from with_vllm import ENVIRONMENT, needs_vllm
from with_vllm.test_in_process import LONG, PROMPTS, assert_same, first_logits

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def model(saved):
    """With a chat template, and with sampling defaults in its folder that no request may fall back on."""
    model = saved("qwen3, tied")
    (model.folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    defaults = {"top_k": 1, "top_p": 0.1, "min_p": 0.9, "temperature": 0.1, "repetition_penalty": 3.0}
    (model.folder / "generation_config.json").write_text(json.dumps(defaults))
    return model


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    port = free_port()
    command = ["vllm.entrypoints.openai.api_server", "--model", str(model.folder), "--served-model-name"]
    command += ["tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "256", "--kv-cache-memory-bytes", str(64 << 20)]
    command += ["--reasoning-parser", "deepseek_r1"]
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(command, port, log, **ENVIRONMENT) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def generator(address, tokenizer):
    return ServerGenerator(address, "tiny", tokenizer, retries=0)


@pytest.mark.parametrize("mode", [None, *Mode])
def test_greedy_answers_are_those_of_the_transformers_engine(generator, model, mode):
    settings = {"max_tokens": 16, "temperature": 0, "mode": mode, "n": 2}
    expected = model.local.generate(PROMPTS + LONG, **settings)
    assert_same(generator.generate(PROMPTS + LONG, **settings), expected)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.3, "top_p": 0.5}, {"mode": Mode.SHORT}, {"mode_bias": 4.0}], ids=str
)
def test_think_probability_is_measured_before_temperature_force_and_bias(generator, model, settings):
    expected = [c[0].think_probability for c in model.local.generate(PROMPTS, max_tokens=1)]
    answers = generator.generate(PROMPTS, max_tokens=2, **settings)
    assert [c[0].think_probability for c in answers] == pytest.approx(expected, abs=1e-4, rel=1e-3)


def test_the_bias_is_added_to_the_logit_of_think(generator, model, tokenizer):
    think = control_id(Mode.THINK, tokenizer)
    for prompt in PROMPTS[:4]:
        logits = first_logits(model.local, prompt)
        others = logits.clone()
        others[think] = -math.inf
        gap = (others.max() - logits[think]).item()
        for bias, wins in ((gap + 0.01, True), (gap - 0.01, False)):
            settings = {"max_tokens": 8, "temperature": 0, "mode_bias": bias}
            answers = generator.generate([prompt], **settings)
            assert (answers[0][0].mode is Mode.THINK) is wins
            assert_same(answers, model.local.generate([prompt], **settings))


def test_the_bias_is_gone_after_the_first_token(generator, tokenizer):
    think = control_id(Mode.THINK, tokenizer)
    answers = generator.generate([PROMPTS[0]], n=60, max_tokens=2, mode_bias=90.0)[0]
    assert all(completion.token_ids[0] == think for completion in answers)
    assert sum(completion.token_ids[1:2] == (think,) for completion in answers) < 40


def test_seeds(generator):
    """The same again, whatever is in flight beside; different for another seed, sample, or copy."""
    settings = {"max_tokens": 8, "n": 3}
    for tilt in ({}, {"mode_bias": 1.0}):
        whole = generator.generate(PROMPTS, **settings, **tilt, seed=1)
        ids = [[c.token_ids for c in row] for row in whole]
        some = generator.generate(PROMPTS[::-2], **settings, **tilt, seed=1)
        assert [[c.token_ids for c in row] for row in some] == ids[::-2]
        assert [[c.token_ids for c in row] for row in generator.generate(PROMPTS, **settings, seed=2)] != ids
        assert any(len(set(row)) == 3 for row in ids)


def test_without_a_tokenizer_the_ids_still_come(address, model):
    """What the server tells is used; only what needs the control tokens' ids is missing."""
    answers = ServerGenerator(address, "tiny").generate(PROMPTS, max_tokens=10, temperature=0)
    expected = model.local.generate(PROMPTS, max_tokens=10, temperature=0)
    for [answer], [true] in zip(answers, expected, strict=True):
        assert (answer.token_ids, answer.text) == (true.token_ids, true.text)
        assert (answer.mode, answer.reported_tokens) == (None, None)
        assert math.isnan(answer.think_probability)


def test_samples_follow_the_model_and_not_its_folders_defaults(generator, model):
    expected = first_logits(model.local, PROMPTS[0]).softmax(0)
    answers = generator.generate([PROMPTS[0]], n=400, max_tokens=1)[0]
    first = torch.tensor([completion.token_ids[0] for completion in answers])
    shares = torch.bincount(first, minlength=len(expected)) / 400
    assert ((shares - expected).abs() <= 4.5 * (expected * (1 - expected) / 400).sqrt() + 1e-6).all()


def test_a_chat_answer_is_put_together_again(address, model, tokenizer):
    """The parser of R1 takes all up to `</think>` for thinking, and this model never closes it."""
    chat = ServerGenerator(address, "tiny", tokenizer, chat=True, retries=0)
    answers = chat.generate(PROMPTS, max_tokens=10, temperature=0)
    expected = model.local.generate(PROMPTS, max_tokens=10, temperature=0)
    assert [a.token_ids for [a] in answers] == [b.token_ids for [b] in expected]
    plain = [(a.text, b.text) for [a], [b] in zip(answers, expected, strict=True) if "think>" not in b.text]
    assert len(plain) > 5
    assert all(got == Mode.THINK.value + text for got, text in plain)


def test_a_prompt_that_does_not_fit_is_refused(generator):
    with pytest.raises(RuntimeError, match=r"refuses prompt 1: HTTP 400 .*256"):
        generator.generate([PROMPTS[0], "1+" * 200], max_tokens=10)
