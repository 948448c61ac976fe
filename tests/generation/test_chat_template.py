"""Proves that a prompt ends where the control token belongs, on R1's and on Qwen's layout, also from disk.

Run: python -m pytest tests/generation/test_chat_template.py
"""

import pytest
import torch
from jinja2 import TemplateError
from real_layout import R1_BOS, R1_EOS, make_qwen25_layout, make_r1_layout
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkless.generation import TransformersGenerator
from thinkless.generation.chat_template import chat_prompt, install_chat_template
from thinkless.models import build_tokenizer, load_tokenizer
from thinkless.modes import Mode, add_control_tokens, control_id

QUESTION = "What is 3 + 5?\n"
CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 3 + 5?"},
    {"role": "assistant", "content": "<think>\n3 + 5 = 8. So 8.\n</think>\n\nIt is 8."},
    {"role": "user", "content": "And 1 + 1?"},
    {"role": "assistant", "content": "<short>2, which is <short> for two."},
    {"role": "user", "content": "9?"},
    {"role": "assistant", "content": "<think>Let me see, 9 is"},
    {"role": "user", "content": "Never mind."},
]


@pytest.fixture(scope="module")
def r1(tmp_path_factory):
    return ready(make_r1_layout(tmp_path_factory.mktemp("r1")))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return ready(make_qwen25_layout(tmp_path_factory.mktemp("qwen")))


def ready(folder):
    """The folder after our two steps, saved: what a training starts from."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    add_control_tokens(tokenizer, model)
    install_chat_template(tokenizer)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


# What is written


def test_a_question_to_r1(r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    prompt = f"{R1_BOS}<｜User｜>{QUESTION}<｜Assistant｜>"
    assert chat_prompt(tokenizer, QUESTION) == prompt
    assert chat_prompt(tokenizer, QUESTION, Mode.SHORT) == prompt + "<short>"
    assert chat_prompt(tokenizer, QUESTION, Mode.THINK) == prompt + "<think>"


def test_a_question_to_qwen(qwen):
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    prompt = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert chat_prompt(tokenizer, QUESTION) == prompt
    assert chat_prompt(tokenizer, QUESTION, Mode.SHORT) == prompt + "<short>"


def test_a_conversation_shows_earlier_answers_only(r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    assert chat_prompt(tokenizer, CONVERSATION) == (
        f"{R1_BOS}Be kind.<｜User｜>What is 3 + 5?<｜Assistant｜>It is 8.{R1_EOS}"
        f"<｜User｜>And 1 + 1?<｜Assistant｜>2, which is <short> for two.{R1_EOS}"
        f"<｜User｜>9?<｜Assistant｜>{R1_EOS}<｜User｜>Never mind.<｜Assistant｜>"
    )


def test_qwen_marks_every_turn(qwen):
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    assert chat_prompt(tokenizer, CONVERSATION[:4]) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhat is 3 + 5?<|im_end|>\n"
        "<|im_start|>assistant\nIt is 8.<|im_end|>\n<|im_start|>user\nAnd 1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("layout", ["r1", "qwen"])
def test_the_first_token_after_the_prompt_is_the_control_token(layout, request):
    """Exactly one id more than without, and its own: nothing merges with what stands before."""
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(layout))
    free = tokenizer(chat_prompt(tokenizer, QUESTION)).input_ids
    for mode in Mode:
        forced = tokenizer(chat_prompt(tokenizer, QUESTION, mode) + "8").input_ids
        assert forced[: len(free) + 1] == [*free, control_id(mode, tokenizer)]


@pytest.mark.parametrize("layout", ["r1", "qwen"])
def test_bos_is_there_once_however_the_prompt_is_encoded(layout, request):
    """The stock tokenizer of R1 adds another to a prompt that has one already."""
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(layout))
    message = [{"role": "user", "content": QUESTION}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True)["input_ids"]
    prompt = chat_prompt(tokenizer, QUESTION)
    assert tokenizer(prompt).input_ids == ids
    assert tokenizer(prompt, add_special_tokens=False).input_ids == ids
    assert ids.count(tokenizer.convert_tokens_to_ids(R1_BOS)) == (layout == "r1")


def test_the_stock_layouts_have_the_traps_that_ours_removes(tmp_path):
    """Else the tests above could not fail: BOS twice and `<think>` in the prompt; another default system."""
    r1 = AutoTokenizer.from_pretrained(make_r1_layout(tmp_path / "r1"))
    message = [{"role": "user", "content": QUESTION}]
    prompt = r1.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<｜Assistant｜><think>\n")
    assert r1(prompt).input_ids[:2] == [r1.bos_token_id] * 2
    qwen = AutoTokenizer.from_pretrained(make_qwen25_layout(tmp_path / "qwen"))
    assert "step by step" in qwen.apply_chat_template(message, tokenize=False)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("<short>It is the tag </think> that ends it.", "It is the tag </think> that ends it."),
        ("<think>hm</think>It is </think>, not <think>.", "It is </think>, not <think>."),
        ("hm</think>8", "8"),
        ("\n<short>the tag </think> ends", "the tag </think> ends"),
        ("  <short>8", "8"),
        (None, ""),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "<short>8"}, {"type": "text", "text": " or 9"}], "8 or 9"),
    ],
    ids=str,
)
def test_of_an_earlier_answer_the_control_token_decides_what_is_shown(content, shown, r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}]
    expected = f"{R1_BOS}<｜User｜>?<｜Assistant｜>{shown}{R1_EOS}"
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == expected


def test_a_question_may_come_in_parts_or_be_empty(r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    parts = [{"type": "text", "text": "3 +"}, {"type": "text", "text": " 5?"}]
    for content, shown in ((parts, "3 + 5?"), (None, ""), ([], "")):
        prompt = chat_prompt(tokenizer, [{"role": "user", "content": content}])
        assert prompt == f"{R1_BOS}<｜User｜>{shown}<｜Assistant｜>"


@pytest.mark.parametrize("begun", ["<think>\nLet me", "<short>It is", "<think>a</think>It is", "So"])
def test_an_answer_that_is_to_be_continued_stays_as_it_is(begun, r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    for content in (begun, [{"type": "text", "text": begun}]):
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}]
        prompt = tokenizer.apply_chat_template(conversation, tokenize=False, continue_final_message=True)
        assert prompt == f"{R1_BOS}<｜User｜>?<｜Assistant｜>{begun}"


# What is refused


@pytest.mark.parametrize(
    ("messages", "settings", "message"),
    [
        (QUESTION, {"mode": "fast"}, "mode=fast: expected think or short, or no mode"),
        (QUESTION, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools were given"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "a part of the message is no text"),
        ([{"role": "user", "content": 8}], {}, "the content of a message is no text"),
        ([{"role": "tool", "content": "8"}], {}, "role tool: expected system, user or assistant"),
    ],
)
def test_what_the_model_was_not_trained_for_is_refused(messages, settings, message, r1):
    tokenizer = AutoTokenizer.from_pretrained(r1)
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    with pytest.raises(TemplateError, match=message):
        tokenizer.apply_chat_template(messages, tokenize=False, **settings)


def test_a_stock_template_is_refused(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_r1_layout(tmp_path))
    with pytest.raises(ValueError, match=r"call install_chat_template\(tokenizer\) first"):
        chat_prompt(tokenizer, QUESTION)


def test_a_tokenizer_that_marks_no_turns_is_refused_and_takes_plain_prompts(tokenizer):
    with pytest.raises(ValueError, match=r"neither <｜User｜> nor <\|im_start\|>"):
        install_chat_template(build_tokenizer("0123456789"))
    assert chat_prompt(tokenizer, "3+5=") == "3+5="
    assert chat_prompt(tokenizer, "3+5=", Mode.SHORT) == "3+5=<short>"


# What it is for


@pytest.mark.parametrize(("layout", "end"), [("r1", R1_EOS), ("qwen", "<|im_end|>")])
def test_generation_begins_with_the_control_token_and_stops_at_the_end_of_the_turn(layout, end, request):
    folder = request.getfixturevalue(layout)
    tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer.eos_token == end
    prompt = chat_prompt(tokenizer, QUESTION)
    generator = TransformersGenerator(model, tokenizer)
    for mode in Mode:
        [[forced]] = generator.generate([prompt], max_tokens=6, temperature=0, mode=mode)
        assert forced.mode is mode
        ids = tokenizer(chat_prompt(tokenizer, QUESTION, mode), return_tensors="pt").input_ids
        with torch.no_grad():
            written = model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] - 1 :]
        assert tuple(written.tolist()) == forced.token_ids
    [[free]] = generator.generate([prompt], max_tokens=1)
    if layout == "r1":  # `<short>` starts from `<think>`'s output row
        assert free.think_probability == pytest.approx(0.5, abs=1e-6)


def test_a_base_model_of_qwen_ends_its_turns_too(tmp_path):
    """Its end token is that of a text; ours ends a turn, and is not the padding."""
    make_qwen25_layout(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, eos_token="<|endoftext|>")
    assert tokenizer.eos_token == tokenizer.pad_token
    install_chat_template(tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
