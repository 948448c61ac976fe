"""Proves the engine that asks a server, on a real one, directly and through a proxy that fails on purpose.

The server is `transformers serve`: plain protocol, no token ids, no log-probabilities. What needs vLLM's
additions to the protocol is in test_vllm.py.

Run: python -m pytest tests/generation/test_server.py
"""

import math
import threading
import time

import pytest
from conftest import learn
from hypothesis import given
from hypothesis import strategies as st
from servers import FaultyProxy, free_port, serving

from thinkless.generation import ServerGenerator
from thinkless.generation.interface import request_seeds, think_share
from thinkless.generation.server import DOUBTFUL
from thinkless.models import build_tokenizer
from thinkless.modes import Mode, add_control_tokens
from thinkless.problems import chain

QUESTIONS = [f"{a}+{b}*2" for a in range(4) for b in range(4)]
PROMPTS = [question + "=" for question in QUESTIONS]
TURN = "<|im_start|>assistant\n"
"""Where the server looks for the thinking of a model of the Qwen family, to cut it out of the answer."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local():
    """The Transformers engine on a model that answers two prompts in three shortly and chats at length."""
    tokenizer = build_tokenizer(chain.VOCABULARY)
    add_control_tokens(tokenizer)
    tokenizer.add_tokens([TURN])
    tokenizer.chat_template = "{{ messages[0]['content'] + '<|im_start|>assistant\\n' }}"
    lines = []
    for question in QUESTIONS:
        digit = eval(question) % 10
        thought = f"<think>{question}={digit}</think>{digit}<eos>"
        lines += 2 * [(question + "=", f"<short>{digit}<eos>")] + [(question + "=", thought)]
        lines.append((question + TURN, thought))
    return learn(tokenizer, lines)


@pytest.fixture(scope="module")
def tokenizer(local):
    return local.tokenizer


@pytest.fixture(scope="module")
def folder(local, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    local.model.generation_config.do_sample = True  # this server draws only if the model's folder says so
    local.model.save_pretrained(folder)
    local.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi")
    port = free_port()
    command = ["transformers.cli.transformers", "serve", str(folder), "--host", "127.0.0.1", "--port"]
    command += [str(port), "--device", "cpu", "--dtype", "float32"]
    with serving(command, port, folder / "server.log") as address:
        yield address


@pytest.fixture
def proxy(server):
    proxy = FaultyProxy(server)
    yield proxy
    proxy.close()


@pytest.fixture
def ask(folder, proxy):
    """A maker of generators on the proxy."""

    def make(tokenizer=None, **options):
        options = {"extensions": False, "retries": 2, "timeout": 60, **options}
        return ServerGenerator(f"{proxy.url}/v1", str(folder), tokenizer, **options)

    return make


def texts(answers):
    return [[completion.text for completion in answer] for answer in answers]


# What a completion tells


@pytest.mark.parametrize("mode", [None, *Mode])
def test_greedy_answers_are_those_of_the_transformers_engine(ask, local, tokenizer, mode):
    expected = local.generate(PROMPTS, max_tokens=10, temperature=0, mode=mode)
    for settings in ({}, {"tokenizer": tokenizer}):
        answers = ask(**settings).generate(PROMPTS, max_tokens=10, temperature=0, mode=mode)
        for [answer], [true] in zip(answers, expected, strict=True):
            assert (answer.text, answer.finish_reason) == (true.text, true.finish_reason)
            assert answer.tokens == true.tokens == answer.reported_tokens
            assert math.isnan(answer.think_probability)
            assert answer.token_ids == (true.token_ids if settings else ())
            assert answer.mode is (true.mode if settings else mode)


def test_a_chat_answer_is_put_together_again(ask, local):
    """The prompt goes into the template; thinking that the server sends apart goes back to its place."""
    answers = texts(ask(chat=True).generate(QUESTIONS, max_tokens=20, temperature=0))
    expected = local.generate([question + TURN for question in QUESTIONS], max_tokens=20, temperature=0)
    # this server cuts an answer at Qwen's own end token and leaves any other in
    assert [[answer.removesuffix("<eos>")] for [answer] in answers] == texts(expected)
    assert all("</think>" in answer for [answer] in answers)


def test_thinking_that_was_cut_off_is_not_closed(ask):
    [[completion]] = ask(chat=True).generate(QUESTIONS[:1], max_tokens=4, temperature=0)
    assert completion.text == "<think>0+0"
    assert completion.finish_reason == "length"


def test_a_forced_mode_of_one_token_asks_nothing(ask, proxy):
    [[completion]] = ask().generate(["1+1="], max_tokens=1, mode=Mode.SHORT)
    assert (completion.text, completion.tokens, completion.finish_reason) == ("<short>", 1, "length")
    assert not proxy.asked


def test_greedy_copies_are_asked_once(ask, proxy):
    [copies] = ask().generate(["1+1="], max_tokens=3, temperature=0, n=4)
    assert len(copies) == 4
    assert proxy.asked["1+1="] == 1


def test_a_plain_server_gets_standard_fields_only(ask, proxy):
    ask().generate(["1+1="], max_tokens=3, temperature=0.5, top_p=0.9)
    assert proxy.bodies[0].keys() == {"model", "prompt", "max_tokens", "temperature", "top_p", "seed"}


def test_a_server_that_refuses_extensions_is_told_apart(ask):
    with pytest.raises(RuntimeError, match=r"refuses prompt 0: HTTP 422 .*; extensions=False leaves out"):
        ask(extensions=True).generate(["1+1="], max_tokens=3)


# Seeds


def test_the_same_seed_draws_the_same_answers_in_a_resumed_run_too(ask):
    generator = ask(in_flight=1)  # this server has one random state for all its requests
    settings = {"max_tokens": 8, "n": 2}
    whole = texts(generator.generate(PROMPTS[:4], **settings, seed=1))
    assert texts(generator.generate(PROMPTS[2:4], **settings, seed=1)) == whole[2:]
    assert texts(generator.generate(PROMPTS[:4], **settings, seed=2)) != whole
    twins = texts(generator.generate([PROMPTS[0]] * 2, **settings, seed=1))
    assert twins[0] == whole[0] != twins[1]


@given(st.lists(st.sampled_from("abc")), st.integers(1, 4), st.integers())
def test_every_answer_has_a_seed_of_its_own_that_its_place_does_not_change(prompts, n, seed):
    seeds = request_seeds(prompts, n, seed)
    flat = [number for row in seeds for number in row]
    assert len(set(flat)) == len(flat) == n * len(prompts)
    assert all(0 <= number < 2**31 for number in flat)
    backwards = request_seeds(prompts[::-1], n, seed)[::-1]
    for prompt in set(prompts):
        assert {*flat_of(seeds, prompts, prompt)} == {*flat_of(backwards, prompts, prompt)}


def flat_of(seeds, prompts, prompt):
    return [number for row, p in zip(seeds, prompts, strict=True) if p == prompt for number in row]


@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_the_share_of_think_is_the_softmax_of_the_pair(think, short):
    share = think_share(think, short)
    assert 0 <= share <= 1
    assert share + think_share(short, think) == pytest.approx(1)
    if abs(think - short) < 30:
        assert math.log(share / (1 - share)) == pytest.approx(think - short, abs=1e-2)


# Order of arrival


def test_answers_are_handed_over_as_they_arrive(ask, proxy):
    """The slow first prompt comes last, and each of the others is out long before it."""
    proxy.faults[PROMPTS[0]] = [5.0]
    arrivals = []
    for index, completions in ask().complete(PROMPTS[:6], max_tokens=3):
        assert len(completions) == 1
        arrivals.append(index)
    assert sorted(arrivals) == list(range(6))
    assert arrivals[-1] == 0


def test_requests_in_flight_are_bounded(ask, proxy):
    proxy.faults.update({prompt: [0.5] for prompt in PROMPTS})
    ask(in_flight=5).generate(PROMPTS, max_tokens=2)
    assert proxy.peak == 5


def test_after_a_failure_what_is_in_flight_still_arrives_and_nothing_new_is_asked(ask, proxy):
    proxy.faults[PROMPTS[0]] = [401]
    proxy.faults[PROMPTS[1]] = [1.0]
    proxy.faults[PROMPTS[2]] = [1.0]
    arrived = []
    answers = ask(in_flight=3).complete(PROMPTS, max_tokens=3)
    with pytest.raises(RuntimeError, match="refuses prompt 0"):
        arrived.extend(index for index, _ in answers)
    assert {1, 2} <= set(arrived)
    assert len(proxy.asked) < 8
    assert len(proxy.asked) == len(arrived) + 1


def test_a_prompt_that_is_refused_says_so_and_all_others_arrive(ask, proxy):
    proxy.faults[PROMPTS[1]] = [400, ...]
    arrived = dict(ask(in_flight=2).complete(PROMPTS[:6], max_tokens=3, n=3))
    assert sorted(arrived) == list(range(6))
    assert {(c.finish_reason, c.tokens) for c in arrived.pop(1)} == {("refused", 0)}
    assert all(c.finish_reason in ("stop", "length") for row in arrived.values() for c in row)


def test_a_caller_that_stops_listening_stops_the_asking(ask, proxy):
    """Its threads end. (If they did not, neither would this test.)"""
    proxy.faults.update({prompt: [0.2] for prompt in PROMPTS})
    answers = ask(in_flight=2).complete(PROMPTS, max_tokens=2)
    next(answers)
    answers.close()
    while any(thread.name.startswith("completion") for thread in threading.enumerate()):
        time.sleep(0.02)
    assert len(proxy.asked) <= 5


# Servers that fail


@pytest.mark.parametrize(
    "faults", [[429], [503, 500], ["drop"], ["garbage"], ["empty"], ["cut"], [429, "drop"]], ids=str
)
def test_a_request_that_failed_is_sent_again(ask, proxy, local, faults):
    proxy.faults[PROMPTS[0]] = list(faults)
    answers = ask().generate(PROMPTS[:2], max_tokens=8, temperature=0)
    assert texts(answers) == texts(local.generate(PROMPTS[:2], max_tokens=8, temperature=0))
    assert proxy.asked == {PROMPTS[0]: len(faults) + 1, PROMPTS[1]: 1}


def test_an_answer_that_takes_too_long_is_asked_for_again(ask, proxy):
    proxy.faults[PROMPTS[0]] = [60.0]
    ask(timeout=5).generate(PROMPTS[:1], max_tokens=2)
    assert proxy.asked[PROMPTS[0]] == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (429, "HTTP 429"),
        ("drop", "disconnected"),
        (60.0, "timed out"),
    ],
    ids=str,
)
def test_a_server_that_keeps_failing_is_named_in_one_line(ask, proxy, fault, reason):
    proxy.faults[PROMPTS[1]] = [fault, ...]
    generator = ask(retries=1, timeout=5 if isinstance(fault, float) else 60)
    with pytest.raises(RuntimeError) as failure:
        generator.generate(PROMPTS[:3], max_tokens=2)
    message = str(failure.value)
    assert message.startswith(f"{proxy.url}/v1 gave no answer to prompt 1 in 2 attempts: ")
    assert reason in message
    assert "\n" not in message
    assert proxy.asked[PROMPTS[1]] == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (503, 'HTTP 503 {"error": {"message": "on purpose"}}'),
        ("garbage", "HTTP 200 without an answer in it"),
    ],
)
def test_a_prompt_that_fails_alone_is_not_the_servers_death(ask, proxy, fault, reason):
    proxy.faults[PROMPTS[1]] = [fault, ...]
    arrived = dict(ask(retries=1).complete(PROMPTS[:3], max_tokens=2))
    assert [arrived[index][0].finish_reason == "refused" for index in range(3)] == [False, True, False]
    assert arrived[1][0].text == f"no answer in 2 attempts, while others had one: {reason}"
    proxy.faults.update({prompt: [fault, ...] for prompt in PROMPTS})
    with pytest.raises(RuntimeError, match=r"gave no answer to prompt \d in 2 attempts: ") as failure:
        ask(retries=1, in_flight=1).generate(PROMPTS, max_tokens=2)
    assert reason in str(failure.value)
    assert proxy.asked.total() <= 4 + 2 * (DOUBTFUL + 2)  # one more may have begun


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_asked_again(ask, proxy, status):
    proxy.faults[PROMPTS[0]] = [status, ...]
    with pytest.raises(RuntimeError, match=f"{proxy.url}/v1 refuses prompt 0: HTTP {status} .*on purpose"):
        ask().generate(PROMPTS[:1], max_tokens=2)
    assert proxy.asked[PROMPTS[0]] == 1


def test_nobody_at_the_address():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(RuntimeError, match=f"{url} gave no answer to prompt 0 in 1 attempts: .*refused"):
        ServerGenerator(url, "model", retries=0).generate(["1+1="], max_tokens=2)


# What it refuses itself


def test_impossible_settings_are_refused_before_anything_is_asked(ask, proxy):
    with pytest.raises(ValueError, match="expected n >= 1"):
        ask().complete(PROMPTS, max_tokens=0)
    with pytest.raises(ValueError, match="use chat=False"):
        ask(chat=True).complete(PROMPTS, max_tokens=3, mode=Mode.THINK)
    with pytest.raises(ValueError, match="give the served model's tokenizer"):
        ask().complete(PROMPTS, max_tokens=3, mode_bias=1.0)
    with pytest.raises(ValueError, match="expected -100 to 100 nats"):
        ask().complete(PROMPTS, max_tokens=3, mode_bias=101.0)
    assert ask().generate([], max_tokens=3) == []
    assert not proxy.asked
