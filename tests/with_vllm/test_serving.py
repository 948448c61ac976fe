"""Proves, on a real vLLM server, that a request can leave the mode to the model, force it, or tilt it.

Run, with a Python that has vLLM: python -m pytest tests/with_vllm/test_serving.py
"""

import json
import math
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from real_layout import make_r1_layout
from servers import free_port
from transformers import AutoModelForCausalLM

from thinkless.generation import TransformersGenerator
from thinkless.generation.chat_template import chat_prompt, install_chat_template
from thinkless.models import load_tokenizer
from thinkless.modes import Mode, add_control_tokens, control_id

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed in this Python")

QUESTIONS = ["What is 3 + 5?", "x", "Is 42 the answer? Let us check: 9 + 6 = 15. " * 3, "How many are there?"]
BIASES = [0.0, 8.0, -8.0, 2.0]
CPU = {  # what vLLM's CPU build needs on a small machine; of no effect on a GPU
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model in R1's layout whose `<short>` differs from `<think>` and which likes both."""
    folder = make_r1_layout(tmp_path_factory.mktemp("model"))
    tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder)
    add_control_tokens(tokenizer, model)
    install_chat_template(tokenizer)
    head = model.get_output_embeddings().weight.data
    head[control_id(Mode.SHORT, tokenizer)] += 0.05 * torch.randn(
        head.shape[1], generator=torch.Generator().manual_seed(1)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return TransformersGenerator(AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder))


@pytest.fixture(scope="module")
def ask(folder, tmp_path_factory):
    """`ask(path, body)` posts to a server with our processor and returns the answer, or (status, text)."""
    port = free_port()
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "256", "--kv-cache-memory-bytes", str(64 << 20)]
    # A prompt is read over several steps, so that others end, and rows move, while it waits.
    command += ["--max-num-batched-tokens", "48", "--max-num-seqs", "32", "--enable-chunked-prefill"]
    command += [
        "--generation-config",
        "vllm",
        "--logits-processors",
        "thinkless.generation.vllm_plugin:ModeBias",
    ]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=output, env={**os.environ, **CPU}
        )

    def ask(path, body):
        data = json.dumps({"model": "tiny", **body}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()[-3000:]
                time.sleep(1)
        yield ask
    finally:
        server.terminate()
        server.wait(30)


def chat(ask, question, bias=None, mode=None, **settings):
    """The token ids that the chat endpoint wrote."""
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 6}
    body |= {"return_token_ids": True, **settings}
    body |= {"vllm_xargs": {"mode_bias": bias}} if bias is not None else {}
    body |= {"chat_template_kwargs": {"mode": mode}} if mode is not None else {}
    answer = ask("/v1/chat/completions", body)
    return tuple(answer["choices"][0]["token_ids"]) if isinstance(answer, dict) else answer


def expected(generator, question, bias=0.0, mode=None, max_tokens=6):
    """What Transformers writes for the same request."""
    [[completion]] = generator.generate(
        [chat_prompt(generator.tokenizer, question)],
        max_tokens=max_tokens,
        temperature=0,
        mode_bias=bias,
        mode=mode,
    )
    return completion.token_ids


def first_logits(generator, question):
    ids = generator.tokenizer(chat_prompt(generator.tokenizer, question), return_tensors="pt").input_ids
    with torch.no_grad():
        return generator.model(ids).logits[0, -1]


def test_the_server_reads_our_template(ask, generator):
    """The same ids, BOS once, whether the server renders the chat or is sent the rendered prompt."""
    prompt = chat_prompt(generator.tokenizer, QUESTIONS[0])
    ids = generator.tokenizer(prompt).input_ids
    message = {"role": "user", "content": QUESTIONS[0]}
    assert ask("/tokenize", {"messages": [message]})["tokens"] == ids
    assert ask("/tokenize", {"prompt": prompt})["tokens"] == ids
    assert ids.count(generator.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_tilted_chat_is_what_transformers_writes(ask, generator, question):
    answers = {bias: chat(ask, question, bias) for bias in BIASES}
    assert answers == {bias: expected(generator, question, bias) for bias in BIASES}
    assert len({ids[0] for ids in answers.values()}) > 1
    assert chat(ask, question) == answers[0.0]


def gap(generator, question):
    """How far the logit of `<think>` lies below the largest other one."""
    logits = first_logits(generator, question)
    think = logits[control_id(Mode.THINK, generator.tokenizer)].item()
    logits[control_id(Mode.THINK, generator.tokenizer)] = -math.inf
    return logits.max().item() - think


def test_the_bias_is_in_nats(ask, generator):
    """Greedy: `<think>` wins exactly when the bias passes the gap."""
    think, tie = control_id(Mode.THINK, generator.tokenizer), gap(generator, QUESTIONS[0])
    assert chat(ask, QUESTIONS[0], tie + 0.01)[0] == think
    assert chat(ask, QUESTIONS[0], tie - 0.01)[0] != think


def test_the_bias_ends_with_the_first_token(ask, generator):
    """A bias of 60 would otherwise write nothing but `<think>`."""
    think = control_id(Mode.THINK, generator.tokenizer)
    for path, body in [
        ("/v1/completions", {"prompt": chat_prompt(generator.tokenizer, QUESTIONS[2])}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTIONS[2]}]}),
    ]:
        body |= {
            "max_tokens": 20,
            "temperature": 0,
            "vllm_xargs": {"mode_bias": 60.0},
            "return_token_ids": True,
        }
        ids = ask(path, body)["choices"][0]["token_ids"]
        assert ids[0] == think
        assert think not in ids[1:]


def test_sampled_modes_follow_the_tilted_distribution(ask, generator):
    """The bias comes before temperature: softmax((logits + bias at think) / T), within 4.5 deviations."""
    bias, temperature, count = gap(generator, QUESTIONS[3]), 1.5, 400
    think, tilted = control_id(Mode.THINK, generator.tokenizer), first_logits(generator, QUESTIONS[3])
    tilted[think] += bias
    p = (tilted / temperature).softmax(0)
    # Without a seed of its own: on a CPU, vLLM cannot rewind the generator of a prompt read in parts.
    body = {"prompt": chat_prompt(generator.tokenizer, QUESTIONS[3]), "max_tokens": 1, "n": count}
    body |= {"temperature": temperature, "vllm_xargs": {"mode_bias": bias}, "return_token_ids": True}
    drawn = Counter(c["token_ids"][0] for c in ask("/v1/completions", body)["choices"])
    share = torch.tensor([drawn[i] / count for i in range(len(p))])
    assert ((share - p).abs() <= 4.5 * (p * (1 - p) / count).sqrt() + 2 / count).all()
    after = first_logits(generator, QUESTIONS[3]) / temperature  # were it added behind the temperature:
    after[think] += bias
    assert abs(after.softmax(0)[think] - p[think]) > 0.1


def test_a_forced_mode_is_in_the_prompt(ask, generator):
    for mode in Mode:
        rest = chat(ask, QUESTIONS[0], mode=mode.label, max_tokens=5)
        assert (control_id(mode, generator.tokenizer), *rest) == expected(generator, QUESTIONS[0], mode=mode)


def test_a_forced_mode_is_not_tilted(ask):
    for mode in ("think", "short"):
        assert chat(ask, QUESTIONS[0], 60.0, mode) == chat(ask, QUESTIONS[0], mode=mode)


def test_requests_side_by_side_keep_their_own_bias(ask, generator):
    """Lengths differ, so that requests come, go and change rows while others wait for their turn."""
    jobs = [(QUESTIONS[i % 4], BIASES[(i // 4) % 4], 1 + 7 * i % 20) for i in range(64)]
    wanted = {job: expected(generator, *job[:2], max_tokens=job[2]) for job in set(jobs)}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda job: chat(ask, *job[:2], max_tokens=job[2]), jobs))
    assert answers == [wanted[job] for job in jobs]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": "much"}, "mode_bias='much': expected a number of nats between -100 and 100"),
        ({"bias": 101}, "mode_bias=101: expected a number of nats"),
        ({"mode": "fast"}, "mode=fast: expected think or short, or no mode to let the model choose"),
    ],
)
def test_impossible_requests_are_told_why(ask, settings, message):
    status, text = chat(ask, QUESTIONS[0], **settings)
    assert status == 400
    assert message in text


# The newer interface, which the CPU build cannot run: its classes are real, its GPU buffer is a tensor.


def test_the_newer_interface_tilts_the_same_position(folder):
    """Rows: first output of slots 2 and 0, one later output, a prompt half read, a prompt with its mode."""
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

    from thinkless.generation.vllm_plugin import ModeBias

    config = EngineArgs(model=str(folder), dtype="float32", enforce_eager=True).create_engine_config()
    lengths = torch.tensor([5, 5, 9, 7, 5], dtype=torch.int32)
    state = LogitsProcRequestState(
        device=torch.device("cpu"), max_num_reqs=5, vocab_size=10, prompt_len=SimpleNamespace(gpu=lengths),
        all_token_ids=None, prefill_len=None, total_len=None,
    )  # fmt: skip
    processor = ModeBias(config, state)
    biases = [1.5, 2.5, -3.0, 4.0, 5.0]
    assert all(
        processor.add_request(slot, SamplingParams(extra_args={"mode_bias": bias}))
        for slot, bias in enumerate(biases)
    )
    short = control_id(Mode.SHORT, load_tokenizer(folder))
    slots = torch.tensor([2, 0, 1, 3, 4], dtype=torch.int32)
    context = LogitsContext(
        expanded_idx_mapping=slots, idx_mapping=slots, idx_mapping_np=slots.numpy(),
        expanded_local_pos=torch.zeros(5, dtype=torch.int32), input_ids=torch.tensor([1, 1, 1, 1, short]),
        pos=torch.tensor([8, 4, 5, 4, 4]), seq_lens_upper_bound_np=None,
    )  # fmt: skip
    logits = torch.zeros(5, len(load_tokenizer(folder)))
    processor.apply(logits, context)
    assert logits[:, processor.think].tolist() == [-3.0, 1.5, 0.0, 0.0, 0.0]
    assert logits.sum() == -1.5
    assert not processor.add_request(2, SamplingParams())  # the slot goes to a request without bias
    assert processor.apply(torch.zeros_like(logits), context)[0].sum() == 0
