"""Proves that a conversation can leave the mode to the model, force it or tilt it, and remembers itself.

Run: python -m pytest tests/generation/test_chat.py
"""

import io
import os
import shutil
import subprocess
import sys

import pytest
from real_layout import make_r1_layout

from thinkless.__main__ import main
from thinkless.errors import UserError
from thinkless.generation.chat import HELP, LONGEST, open_chat, talk
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


@pytest.fixture
def small(learner):
    """A chat with a model of the laptop world, which knows digits and signs only."""
    return open_chat(str(learner / "model"))


def test_an_answer_is_no_longer_than_those_of_the_training_or_the_context(learner, tmp_path):
    """The learner has 256 positions and no manifest; a question of four characters leaves 252."""
    shutil.copytree(learner, tmp_path / "stage")
    chat = open_chat(str(tmp_path / "stage" / "model"))
    assert (chat.sampling.max_tokens, chat._room("3+5=")) == (LONGEST, 252)
    (tmp_path / "stage" / "manifest.json").write_text('{"metrics": {"longest_answer": 21}}')
    chat = open_chat(str(tmp_path / "stage" / "model"))
    assert (chat.sampling.max_tokens, chat._room("3+5="), chat._room("3" * 250)) == (21, 21, 6)
    assert open_chat(str(tmp_path / "stage" / "model"), max_tokens=30).sampling.max_tokens == 30


def test_a_conversation_that_fills_the_context_is_refused(small):
    with pytest.raises(UserError, match="fills the model's 256 positions: /new forgets it"):
        small.ask("3" * 256)
    assert small.messages == []


@pytest.mark.parametrize(
    ("question", "unknown"),
    [
        ("What is 3+5?", "'W' 'h' 'a' 't' ' ' 'i' 's'"),
        ("3 + 5 =", "' '"),
        ("３+5=", "'３'"),
        ("3+\udcff=", "'\ufffd'"),
    ],
)
def test_characters_that_the_model_does_not_know_are_named_with_an_example(small, question, unknown):
    with pytest.raises(UserError) as error:
        small.ask(question)
    reads = "! * + - 0 1 2 3 4 5 6 7 8 9 ; = ?"
    assert str(error.value) == f"this model does not know {unknown}; it reads {reads}; ask such as 3+5*2="
    assert small.messages == []


def test_a_tokenizer_of_bytes_knows_every_character(chat):
    assert chat.ask("Wieviel ist 3 × 5? \U0001f600 \udcff").tokens > 0
    assert "\ufffd" in chat.messages[0]["content"]


def test_an_interrupted_answer_is_forgotten_and_the_next_is_whole(folder, chat, monkeypatch, capsys):
    """The streamer must know that a new prompt begins, or it prints that as well."""
    put, calls = chat.generator.streamer.put, []

    def interrupted(value):
        calls.append(put(value))
        if len(calls) == 3:  # the prompt, two tokens
            raise KeyboardInterrupt

    monkeypatch.setattr(chat.generator.streamer, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.ask("What is 3 + 5?")
    assert chat.messages == []
    capsys.readouterr()
    answer = chat.ask("And 4 + 4?")
    assert capsys.readouterr().out.strip() == answer.text.strip()
    assert answer == open_chat(str(folder / "hybrid"), max_tokens=6).ask("And 4 + 4?")


def test_ctrl_c_stops_an_answer_or_a_line_and_not_the_program(chat, monkeypatch, capsys):
    script = iter([KeyboardInterrupt, "stop me", "/help", EOFError])

    def read(_):
        line = next(script)
        if isinstance(line, str):
            return line
        raise line

    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(chat, "ask", stopped)
    talk(chat)
    printed = capsys.readouterr().out
    assert printed.count("[stopped; /quit or Ctrl-D ends]") == 2
    assert printed.count(HELP) == 2


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "ascii:strict"])
def test_bytes_that_are_no_text_do_not_end_a_session(learner, encoding):
    session = subprocess.run(
        [sys.executable, "-m", "thinkless", "chat", str(learner / "model")],
        input=b"3+5=\nwhat \xff \xc3\xa9\n3+5=\n",
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert session.returncode == 0, session.stderr
    assert session.stdout.count(b"P(think) = ") == 2
    assert session.stdout.count(b"this model does not know") == 1


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
        (["hybrid", "--max-tokens", "0"], "max_tokens=0"),
    ],
)
def test_a_mistake_is_one_line(folder, arguments, message, capfd):
    assert main(["chat", str(folder / arguments[0]), *arguments[1:]]) == 1
    assert message in capfd.readouterr().err.strip().splitlines()[-1]
