"""Proves that a conversation can leave the mode to the model, force it or tilt it, and remembers itself.

Run: python -m pytest tests/generation/test_chat.py
"""

import io

import pytest
from real_layout import make_r1_layout

from thinkless.__main__ import main
from thinkless.generation.chat import HELP, open_chat
from thinkless.generation.chat_template import chat_prompt, install_chat_template
from thinkless.models import load, load_tokenizer, save
from thinkless.modes import Mode, add_control_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny hybrid model in the layout of DeepSeek-R1-Distill-Qwen."""
    folder = tmp_path_factory.mktemp("chat")
    make_r1_layout(folder / "base")
    model, tokenizer = load(folder / "base")
    add_control_tokens(tokenizer, model)
    install_chat_template(tokenizer)
    save(model, tokenizer, folder / "hybrid")
    return folder


@pytest.fixture
def chat(folder):
    return open_chat(str(folder / "hybrid"), max_tokens=6)


@pytest.mark.parametrize("mode", Mode)
def test_a_forced_mode_stays_until_it_is_freed(chat, mode):
    assert chat.command(f"/{mode.label}") == f"mode: {mode.label}"
    assert [chat.ask(question).mode for question in ("What is 3 + 5?", "And 4 + 4?")] == [mode, mode]
    chat.command("/free")
    assert chat.sampling.mode is None


@pytest.mark.parametrize(("tolerance", "thinks"), [("60", True), ("-60", False)])
def test_a_large_tolerance_decides(chat, tolerance, thinks):
    assert "nats" in chat.command(f"/tolerance {tolerance}")
    assert (chat.ask("What is 3 + 5?").mode is Mode.THINK) == thinks


def test_the_answer_is_written_out_once_with_its_mode_and_without_the_end(chat, capsys):
    chat.command("/short")
    answer = chat.ask("What is 3 + 5?")
    assert capsys.readouterr().out.strip() == answer.text.strip()
    assert answer.text.startswith("<short>")


def test_earlier_turns_are_part_of_the_next_prompt_until_a_new_conversation(chat, folder):
    tokenizer = load_tokenizer(folder / "hybrid")
    first = chat.ask("What is 3 + 5?")
    said = [{"role": "user", "content": "What is 3 + 5?"}, {"role": "assistant", "content": first.text}]
    assert chat.messages == said
    chat.command("/think")
    second = chat.ask("And 4 + 4?")
    prompt = chat_prompt(tokenizer, [*said, {"role": "user", "content": "And 4 + 4?"}])
    [[again]] = open_chat(str(folder / "hybrid")).generator.generate(
        [prompt], max_tokens=6, temperature=0.6, top_p=0.95, mode=Mode.THINK, seed=3
    )
    assert second == again
    chat.command("/new")
    assert chat.messages == []


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("/tolerance much", "'much': expected a number"),
        ("/tolerance 1e9", "between -100 and 100"),
        ("/tolerance nan", "expected a number"),
        ("/help", HELP),
        ("/thnik", "there is no /thnik"),
    ],
)
def test_a_wrong_command_changes_nothing_and_says_what_is_right(chat, line, reply):
    assert reply in chat.command(line)
    assert (chat.sampling.mode, chat.sampling.mode_bias) == (None, 0.0)


def test_a_session_in_the_terminal(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("/short\nWhat is 3 + 5?\n\n/quit\nnot read\n"))
    assert main(["chat", str(folder / "hybrid"), "--max-tokens", "4"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("[short, P(think) = 0.50, 4 tokens, cut off]") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base"], "has no control tokens, so it cannot choose"),
        (["nowhere"], "cannot load the model"),
        (["hybrid", "--temperature", "-1"], "temperature=-1.0"),
    ],
)
def test_a_mistake_is_one_line(folder, arguments, message, capfd):
    assert main(["chat", str(folder / arguments[0]), *arguments[1:]]) == 1
    assert message in capfd.readouterr().err.strip().splitlines()[-1]
