"""Proves the Transformers engine: modes forced, tilted and measured; batching and seeds; what stops it.

Run: python -m pytest tests/generation/test_engines.py
"""

import math

import pytest
import torch
from conftest import TINY
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from thinkless.generation import Completion, TransformersGenerator
from thinkless.models import build_model, build_tokenizer
from thinkless.modes import Mode, control_id

PROMPTS = ["3+5*2-7=", "1+1=", "9*9*9=", "0-1="]


@pytest.fixture
def generator(model, tokenizer):
    return TransformersGenerator(model, tokenizer)


def first_logits(generator, prompt):
    ids = generator.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        return generator.model(ids).logits[0, -1]


def first_ids(answers):
    return torch.tensor([completion.token_ids[0] for completion in answers])


def share_of_first(generator, prompt, count=3000, **settings):
    """How often each token comes first, over many samples of one token: (V,)."""
    answers = generator.generate([prompt], n=count, max_tokens=1, **settings)[0]
    return torch.bincount(first_ids(answers), minlength=len(generator.tokenizer)) / count


def assert_drawn_from(shares, expected, count=3000):
    """Every share within 4.5 standard deviations of its probability."""
    assert ((shares - expected).abs() <= 4.5 * (expected * (1 - expected) / count).sqrt() + 1e-6).all()


# Modes


@pytest.mark.parametrize("mode", list(Mode))
def test_a_forced_mode_comes_first(generator, mode, tokenizer):
    for answers in generator.generate(PROMPTS, n=3, max_tokens=4, mode=mode):
        assert len(answers) == 3
        for completion in answers:
            assert completion.mode is mode
            assert completion.token_ids[0] == control_id(mode, tokenizer)
            assert completion.text.startswith(mode.value)


def test_forcing_changes_the_first_token_only(generator, tokenizer):
    """After it the model continues greedily by itself."""
    ids = tokenizer(PROMPTS[0] + "<short>", return_tensors="pt", add_special_tokens=False).input_ids
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, generator.model(ids).logits[:, -1:].argmax(-1)], dim=1)
    expected = ids[0, len(PROMPTS[0]) :].tolist()
    [[completion]] = generator.generate([PROMPTS[0]], max_tokens=6, temperature=0, mode=Mode.SHORT)
    assert list(completion.token_ids) == expected[: len(completion.token_ids)]
    assert len(completion.token_ids) == 6 or completion.finish_reason == "stop"


def test_think_probability_is_the_models_own(generator, tokenizer):
    """P(think) / (P(think) + P(short)) before any bias or force, for every prompt of a padded batch."""
    think, short = (control_id(mode, tokenizer) for mode in Mode)
    expected = []
    for prompt in PROMPTS:
        p = first_logits(generator, prompt).softmax(0)
        expected.append((p[think] / (p[think] + p[short])).item())
    for settings in ({}, {"mode": Mode.SHORT}, {"mode_bias": 3.0}, {"temperature": 0}, {"temperature": 2.0}):
        answers = generator.generate(PROMPTS, max_tokens=1, **settings)
        assert [a[0].think_probability for a in answers] == pytest.approx(expected, rel=1e-4)


def test_the_bias_is_added_to_the_logit_of_think(generator, tokenizer):
    """Greedy: think wins exactly when its logit plus the bias passes the largest other logit."""
    think = control_id(Mode.THINK, tokenizer)
    logits = first_logits(generator, PROMPTS[0])
    others = logits.clone()
    others[think] = -math.inf
    gap = (others.max() - logits[think]).item()
    for bias, wins in ((gap + 0.01, True), (gap - 0.01, False)):
        [[completion]] = generator.generate([PROMPTS[0]], max_tokens=1, temperature=0, mode_bias=bias)
        assert (completion.mode is Mode.THINK) is wins


def test_the_bias_tilts_the_sampled_share_and_the_first_token_only(generator, tokenizer):
    think = control_id(Mode.THINK, tokenizer)
    logits = first_logits(generator, PROMPTS[0])
    tilted = logits.clone()
    tilted[think] += 2.0
    assert_drawn_from(share_of_first(generator, PROMPTS[0], mode_bias=2.0), tilted.softmax(0))
    second = logits.new_zeros(len(tokenizer))
    for completion in generator.generate([PROMPTS[0]], n=500, max_tokens=2, mode_bias=50.0)[0]:
        second[completion.token_ids[1]] += 1 / 500
    assert second[think] < 0.5  # the bias of 50 would make it 1


def test_a_tokenizer_without_control_tokens_has_no_modes():
    tokenizer = build_tokenizer("0123456789=")
    generator = TransformersGenerator(build_model(tokenizer, **TINY), tokenizer)
    [[completion]] = generator.generate(["12="], max_tokens=3)
    assert completion.mode is None
    assert math.isnan(completion.think_probability)
    with pytest.raises(ValueError, match="no <think> token"):
        generator.generate(["12="], max_tokens=3, mode=Mode.THINK)


# Sampling


def test_samples_follow_the_temperature(generator):
    for temperature in (1.0, 3.0):
        expected = (first_logits(generator, PROMPTS[1]) / temperature).softmax(0)
        assert_drawn_from(share_of_first(generator, PROMPTS[1], temperature=temperature), expected)


def test_top_p_keeps_the_smallest_set_that_reaches_it(generator):
    """Of tokens in order of probability, those before which less than top_p has been collected."""
    p, order = first_logits(generator, PROMPTS[1]).softmax(0).sort(descending=True)
    kept = (p.cumsum(0) - p) < 0.7
    assert 1 < kept.sum() < len(p)
    expected = torch.zeros_like(p)
    expected[order[kept]] = p[kept] / p[kept].sum()
    assert_drawn_from(share_of_first(generator, PROMPTS[1], top_p=0.7), expected)


def test_the_models_own_sampling_defaults_are_left_alone(generator):
    expected = generator.generate(PROMPTS, max_tokens=8, seed=1)
    defaults = generator.model.generation_config
    defaults.top_k, defaults.top_p, defaults.temperature, defaults.repetition_penalty = 1, 0.1, 0.1, 3.0
    defaults.min_p, defaults.typical_p, defaults.epsilon_cutoff = 0.99, 0.2, 0.1
    defaults.no_repeat_ngram_size, defaults.min_new_tokens, defaults.num_beams = 1, 7, 2
    defaults.suppress_tokens = list(range(10))
    assert generator.generate(PROMPTS, max_tokens=8, seed=1) == expected
    assert generator.model.generation_config is defaults


def test_a_prompt_that_leaves_no_room_costs_itself_alone(generator):
    """The model has 256 positions; control and end token want two."""
    prompts = [PROMPTS[0], "1" * 255, PROMPTS[1], "1" * 254]
    short, long, other, full = generator.generate(prompts, max_tokens=2, temperature=0, n=2)
    assert [(c.finish_reason, c.tokens, c.text) for c in long] == [("too_long", 0, "")] * 2
    assert [c.tokens for c in full] == [2, 2]
    alone = generator.generate([PROMPTS[0], PROMPTS[1]], max_tokens=2, temperature=0, n=2)
    assert [[c.token_ids for c in row] for row in (short, other)] == [
        [c.token_ids for c in row] for row in alone
    ]


def test_the_same_seed_gives_the_same_completions(generator):
    first, again, other = (generator.generate(PROMPTS, max_tokens=8, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_generation_leaves_the_global_random_state_alone(generator):
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    generator.generate(PROMPTS, max_tokens=3, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


# Batching


def test_answers_come_back_in_the_order_of_the_prompts(model, tokenizer):
    """Greedy answers do not depend on padding, on neighbours or on the size of a batch."""
    alone = [
        TransformersGenerator(model, tokenizer).generate([prompt], max_tokens=8, temperature=0)[0][0]
        for prompt in PROMPTS
    ]
    assert len({completion.token_ids for completion in alone}) > 1
    for batch_size in (1, 3, 256):
        together = TransformersGenerator(model, tokenizer, batch_size).generate(
            PROMPTS, n=2, max_tokens=8, temperature=0
        )
        for expected, answers in zip(alone, together, strict=True):
            assert [answer.token_ids for answer in answers] == [expected.token_ids] * 2


def test_a_completion_ends_at_its_end_token_or_at_the_limit(generator, tokenizer):
    answers = generator.generate(PROMPTS, n=50, max_tokens=6)
    reasons = set()
    for completion in (completion for answer in answers for completion in answer):
        ids, finished = list(completion.token_ids), completion.finish_reason == "stop"
        assert tokenizer.eos_token_id not in ids[:-1]
        assert (ids[-1] == tokenizer.eos_token_id) is finished
        assert finished or len(ids) == 6
        assert completion.text == tokenizer.decode(ids[:-1] if finished else ids)
        reasons.add(completion.finish_reason)
    assert reasons == {"stop", "length"}


def test_no_prompts_no_answers(generator):
    assert generator.generate([], max_tokens=3) == []


def test_a_completion_is_a_value():
    values = {"token_ids": (1,), "text": "", "mode": None, "think_probability": 0.5, "finish_reason": "stop"}
    assert len({Completion(**values), Completion(**values)}) == 1


# Refusals


@pytest.mark.parametrize(
    "settings", [{"n": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_impossible_settings_are_named(generator, settings):
    with pytest.raises(
        ValueError, match=r"expected n >= 1, max_tokens >= 1, temperature >= 0 and 0 < top_p <= 1"
    ):
        generator.generate(PROMPTS, **{"max_tokens": 4, **settings})


@pytest.mark.parametrize("seed", range(6))
def test_bfloat16_products_move_log_probabilities_by_a_tenth_at_most(seed, tokenizer):
    """Over 40 models the largest difference of a log-probability was .08 nats, of the modes' odds .05."""
    model = build_model(tokenizer, **{**TINY, "seed": seed, "initializer_range": 0.25})
    exact, rounded = TransformersGenerator(model, tokenizer), bfloat16(model, tokenizer)
    shares = [
        torch.tensor([a.think_probability for (a,) in g.generate(PROMPTS, max_tokens=1)]).logit()
        for g in (exact, rounded)
    ]
    assert 0 < (shares[0] - shares[1]).abs().max() < 0.1
    ids = tokenizer("3+5*2-7=<think>3+5=8;8*2=6", return_tensors="pt").input_ids
    with torch.no_grad():
        with rounded.products():
            moved = model(ids).logits.float().log_softmax(-1)
        difference = (moved - model(ids).logits.log_softmax(-1))[0, :-1].gather(1, ids[0, 1:, None]).abs()
    assert 0 < difference.max() < 0.1
    assert model.lm_head.weight.dtype == torch.float32


def bfloat16(model, tokenizer):
    return TransformersGenerator(model, tokenizer, precision="bfloat16")


def test_padded_prompts_have_one_shape_and_the_same_answers(model, tokenizer):
    """Prompts of 4 to 8 tokens are 8 wide, all batches alike."""
    shapes = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, output: shapes.append(inputs[0].shape))
    few, exact = (
        TransformersGenerator(model, tokenizer, batch_size=2, padding=padding) for padding in (8, 1)
    )
    answers = few.generate(PROMPTS, max_tokens=9, temperature=0)
    assert {shape for shape in shapes if shape[1] > 1} == {(2, 8)}
    plain = exact.generate(PROMPTS, max_tokens=9, temperature=0)
    assert [a.token_ids for (a,) in answers] == [a.token_ids for (a,) in plain]


def test_a_prompt_is_read_once_for_all_its_answers(generator):
    """The model's calls: all prompts but their last token together, then a token for each answer."""
    calls = []
    forward = generator.model.forward

    def counted(*arguments, **named):
        calls.append(tuple(named["input_ids"].shape))
        return forward(*arguments, **named)

    generator.model.forward = counted
    generator.generate(PROMPTS, n=5, max_tokens=3, mode=Mode.THINK)
    longest = max(map(len, PROMPTS))
    assert calls[0] == (len(PROMPTS), longest - 1)
    assert set(calls[1:]) == {(5 * len(PROMPTS), 1)}


@pytest.mark.parametrize("settings", [{}, {"mode": Mode.SHORT}, {"temperature": 0}])
def test_answers_to_a_prompt_read_once_are_those_to_prompts_read_apart(generator, settings, monkeypatch):
    together = generator.generate(PROMPTS, n=3, max_tokens=8, **settings)
    monkeypatch.setattr("thinkless.generation.prefill._read", lambda *_: None)
    apart = generator.generate(PROMPTS, n=3, max_tokens=8, **settings)
    assert [[c.token_ids for c in answers] for answers in together] == [
        [c.token_ids for c in answers] for answers in apart
    ]


def test_a_prompt_of_one_token_has_nothing_to_read_first(generator):
    for answers in generator.generate(["1", "2"], n=2, max_tokens=3, temperature=0):
        assert answers[0] == answers[1]


def test_places_are_counted_from_a_prompts_own_beginning(tokenizer):
    """Some models know places by number, not by distance: padding on the left must not move them."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4
    )
    generator = TransformersGenerator(GPT2LMHeadModel(config), tokenizer)
    alone = [generator.generate([prompt], max_tokens=4, temperature=0)[0][0] for prompt in PROMPTS]
    for one, other in zip(alone, generator.generate(PROMPTS, n=2, max_tokens=4, temperature=0), strict=True):
        assert one.token_ids == other[0].token_ids
        assert one.think_probability == pytest.approx(other[0].think_probability, rel=1e-4)


class Roundings(TorchDispatchMode):
    """Counts the copies of tensors of one shape in another type."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function is torch.ops.aten._to_copy.default and arguments[0].shape == self.shape:
            self.count += 1
        return function(*arguments, **(named or {}))


def test_a_weight_is_rounded_once_for_all_tokens(model, tokenizer):
    generator = TransformersGenerator(model, tokenizer, precision="bfloat16")
    with Roundings(model.lm_head.weight.shape) as roundings:
        generator.generate(PROMPTS, n=2, max_tokens=9, mode=Mode.THINK)
    assert roundings.count == 1


def test_padding_on_the_right_is_refused(model):
    tokenizer = build_tokenizer("0123456789")
    tokenizer.padding_side = "right"
    with pytest.raises(ValueError, match="padding_side = 'left'"):
        TransformersGenerator(model, tokenizer)
