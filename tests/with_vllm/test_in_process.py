"""Proves vLLM in this process against the Transformers engine, on a tied and on an untied model.

Run: make test-vllm, or in an environment with vLLM: python -m pytest tests/with_vllm
"""

import math
from types import SimpleNamespace

import pytest
import torch

from thinkless.generation import VLLMGenerator
from thinkless.models import build_tokenizer
from thinkless.modes import Mode, control_id
from with_vllm import needs_vllm
from with_vllm.conftest import BUILD, ENGINE

pytestmark = needs_vllm

PROMPTS = [f"{a}+{b}*{c}=" for a in range(3) for b in (2, 5, 9) for c in (4, 7)]
LONG = ["+".join(str((seed * k) % 10) for k in range(50)) + "=" for seed in (3, 7)]
COUNT = 1500


@pytest.fixture(scope="module", params=list(BUILD))
def both(request, saved, tokenizer):
    """The same model in both engines. In a process only one vLLM engine can live, so this one is closed."""
    model = saved(request.param)
    engine = VLLMGenerator(model.folder, tokenizer, **ENGINE)
    yield SimpleNamespace(engine=engine, local=model.local, name=request.param, folder=model.folder)
    engine.close()


def assert_same(answers, expected):
    """Equal token by token; P(think) within 1e-4."""
    for got, true in zip(answers, expected, strict=True):
        for a, b in zip(got, true, strict=True):
            assert (a.token_ids, a.text, a.mode, a.finish_reason) == (
                b.token_ids,
                b.text,
                b.mode,
                b.finish_reason,
            )
            assert a.think_probability == pytest.approx(b.think_probability, abs=1e-4)
            assert a.tokens == b.tokens


def own_logps(local, prompt, ids):
    """Log-probabilities of `ids` after `prompt`, by Transformers: (T,)."""
    start = local.tokenizer(prompt, add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = local.model(torch.tensor([start + list(ids)])).logits[0, len(start) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(list(ids))[:, None])[:, 0]


def read_logps(engine, prompt, ids):
    """The same by vLLM, which reads prompt and answer as one prompt."""
    from vllm import SamplingParams

    start = engine.tokenizer(prompt, add_special_tokens=False).input_ids
    params = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    [output] = engine.llm.generate([{"prompt_token_ids": [*start, *ids]}], params, use_tqdm=False)
    rows = output.prompt_logprobs[len(start) :]
    return torch.tensor([row[token].logprob for row, token in zip(rows, ids, strict=True)])


def first_logits(local, prompt):
    ids = local.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        return local.model(ids).logits[0, -1]


def assert_drawn_from(engine, expected, **settings):
    """Every token's share among many first tokens within 4.5 standard deviations of its probability."""
    answers = engine.generate([PROMPTS[0]], n=COUNT, max_tokens=1, **settings)[0]
    first = torch.tensor([completion.token_ids[0] for completion in answers])
    shares = torch.bincount(first, minlength=len(expected)) / COUNT
    assert ((shares - expected).abs() <= 4.5 * (expected * (1 - expected) / COUNT).sqrt() + 1e-6).all()


# The same answers


@pytest.mark.parametrize("mode", [None, *Mode])
def test_greedy_answers_are_those_of_the_transformers_engine(both, mode):
    settings = {"max_tokens": 16, "temperature": 0, "mode": mode, "n": 2}
    expected = both.local.generate(PROMPTS + LONG, **settings)
    assert_same(both.engine.generate(PROMPTS + LONG, **settings), expected)
    assert len({completions[0].token_ids for completions in expected}) > 4
    assert {completions[0].finish_reason for completions in expected} == {"stop", "length"}


def test_log_probabilities_are_those_of_transformers(both):
    for prompt in PROMPTS + LONG:
        [[answer]] = both.local.generate([prompt], max_tokens=12, seed=4)
        read = read_logps(both.engine, prompt, answer.token_ids)
        assert torch.allclose(read, own_logps(both.local, prompt, answer.token_ids), atol=1e-4)


def test_a_completion_ends_at_its_end_token_or_at_the_limit(both, tokenizer):
    answers = both.engine.generate(PROMPTS, n=20, max_tokens=6)
    reasons = set()
    for completion in (completion for answer in answers for completion in answer):
        ids, finished = list(completion.token_ids), completion.finish_reason == "stop"
        assert tokenizer.eos_token_id not in ids[:-1]
        assert (ids[-1] == tokenizer.eos_token_id) is finished
        assert finished or len(ids) == 6
        reasons.add(completion.finish_reason)
    assert reasons == {"stop", "length"}


# Modes


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.3, "top_p": 0.5}, {"mode": Mode.SHORT}, {"mode_bias": 4.0}, {"temperature": 0}],
    ids=str,
)
def test_think_probability_is_measured_before_temperature_force_and_bias(both, settings):
    expected = [c[0].think_probability for c in both.local.generate(PROMPTS, max_tokens=1)]
    answers = both.engine.generate(PROMPTS, max_tokens=2, **settings)
    assert [c[0].think_probability for c in answers] == pytest.approx(expected, abs=1e-4, rel=1e-3)
    assert max(expected) - min(expected) > 0.2


def test_the_bias_is_added_to_the_logit_of_think(both, tokenizer):
    """Greedy: think wins exactly when its logit plus the bias passes the largest other logit."""
    think = control_id(Mode.THINK, tokenizer)
    for prompt in PROMPTS[:6]:
        logits = first_logits(both.local, prompt)
        others = logits.clone()
        others[think] = -math.inf
        gap = (others.max() - logits[think]).item()
        for bias, wins in ((gap + 0.01, True), (gap - 0.01, False)):
            settings = {"max_tokens": 8, "temperature": 0, "mode_bias": bias}
            answers = both.engine.generate([prompt], **settings)
            assert (answers[0][0].mode is Mode.THINK) is wins
            assert_same(answers, both.local.generate([prompt], **settings))


def test_the_bias_tilts_the_sampled_share_and_the_first_token_only(both, tokenizer):
    think = control_id(Mode.THINK, tokenizer)
    tilted = first_logits(both.local, PROMPTS[0])
    tilted[think] += 2.0
    assert_drawn_from(both.engine, tilted.softmax(0), mode_bias=2.0)
    answers = both.engine.generate([PROMPTS[0]], n=300, max_tokens=2, mode_bias=90.0)[0]
    assert all(completion.token_ids[0] == think for completion in answers)
    assert sum(completion.token_ids[1:2] == (think,) for completion in answers) < 200


def test_after_the_tilted_token_the_model_goes_on_by_itself(both, tokenizer):
    """The second token is distributed as after the same token in a prompt, not coupled to the first draw."""
    think = control_id(Mode.THINK, tokenizer)
    answers = both.engine.generate([PROMPTS[0]], n=COUNT, max_tokens=2, mode_bias=90.0)[0]
    second = torch.tensor([completion.token_ids[1] for completion in answers])
    expected = first_logits(both.local, PROMPTS[0] + Mode.THINK.value).softmax(0)
    shares = torch.bincount(second, minlength=len(expected)) / COUNT
    assert ((shares - expected).abs() <= 4.5 * (expected * (1 - expected) / COUNT).sqrt() + 1e-6).all()
    assert answers[0].token_ids[0] == think


def test_a_limit_of_one_token_leaves_no_room_after_the_control_token(both):
    for settings in ({"mode": Mode.SHORT}, {"mode_bias": 90.0}):
        [[completion]] = both.engine.generate([PROMPTS[0]], max_tokens=1, **settings)
        assert completion.mode in Mode
        assert (completion.tokens, completion.finish_reason) == (1, "length")


# Sampling


def test_samples_follow_temperature_and_top_p(both):
    logits = first_logits(both.local, PROMPTS[0])
    assert_drawn_from(both.engine, (logits / 1.7).softmax(0), temperature=1.7)
    p, order = logits.softmax(0).sort(descending=True)
    kept = (p.cumsum(0) - p) < 0.7
    assert 1 < kept.sum() < len(p)
    expected = torch.zeros_like(p)
    expected[order[kept]] = p[kept] / p[kept].sum()
    assert_drawn_from(both.engine, expected, top_p=0.7)


def test_seeds(both):
    """The same again, whatever the neighbours; different for another seed, sample, or copy of a prompt."""
    settings = {"max_tokens": 8, "n": 3}
    for tilt in ({}, {"mode_bias": 1.0}):
        whole = both.engine.generate(PROMPTS, **settings, **tilt, seed=1)
        assert both.engine.generate(PROMPTS, **settings, **tilt, seed=1) == whole
        assert both.engine.generate(PROMPTS, **settings, **tilt, seed=2) != whole
        some = both.engine.generate(PROMPTS[::-2], **settings, **tilt, seed=1)
        assert [[c.token_ids for c in row] for row in some] == [
            [c.token_ids for c in row] for row in whole[::-2]
        ]
        assert any(len({c.token_ids for c in row}) == 3 for row in whole)
        twins = both.engine.generate(PROMPTS[:1] * 2, **settings, **tilt, seed=1)
        assert twins[0] != twins[1]


# New weights


def test_new_weights_are_the_ones_that_answer(both, saved):
    """After a reload nothing of the old model is left: not in a packed head, not in a cached prompt."""
    other = saved(both.name, seed=1)
    settings = {"max_tokens": 12, "temperature": 0}
    before = both.engine.generate(PROMPTS + LONG, **settings)
    try:
        both.engine.reload_weights(other.folder)
        after = both.engine.generate(PROMPTS + LONG, **settings)
        assert_same(after, other.local.generate(PROMPTS + LONG, **settings))
        for prompt, [answer] in zip(PROMPTS + LONG, after, strict=True):
            read = read_logps(both.engine, prompt, answer.token_ids)
            assert torch.allclose(read, own_logps(other.local, prompt, answer.token_ids), atol=1e-4)
    finally:
        both.engine.reload_weights(both.folder)
    assert_same(both.engine.generate(PROMPTS + LONG, **settings), before)
    assert [a[0].token_ids for a in after] != [b[0].token_ids for b in before]


# Edges


def test_a_tokenizer_without_control_tokens_has_no_modes(both):
    plain = build_tokenizer("0123456789=")
    known, both.engine.tokenizer = both.engine.tokenizer, plain
    try:
        [[completion]] = both.engine.generate(["12="], max_tokens=3)
        assert completion.mode is None
        assert math.isnan(completion.think_probability)
        with pytest.raises(ValueError, match="no <think> token"):
            both.engine.generate(["12="], max_tokens=3, mode=Mode.THINK)
    finally:
        both.engine.tokenizer = known


def test_a_prompt_that_leaves_no_room_costs_itself_alone(both):
    """The engine has 256 positions, and vLLM refuses a whole call for one prompt that is too long."""
    settings = {"max_tokens": 2, "temperature": 0, "n": 2}
    short, long, full = both.engine.generate([PROMPTS[0], "1" * 255, "1" * 254], **settings)
    assert [(c.finish_reason, c.tokens, c.text) for c in long] == [("too_long", 0, "")] * 2
    assert [c.tokens for c in full] == [2, 2]
    assert_same([short], both.engine.generate([PROMPTS[0]], **settings))
    assert [c.finish_reason for c in both.engine.generate(["1" * 255], max_tokens=2)[0]] == ["too_long"]


def test_no_prompts_and_impossible_settings(both):
    assert both.engine.generate([], max_tokens=3) == []
    with pytest.raises(ValueError, match="expected n >= 1"):
        both.engine.generate(PROMPTS, max_tokens=0)
