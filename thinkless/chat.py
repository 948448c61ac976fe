"""A conversation with a hybrid model, in a terminal: it chooses the mode, or you do.

``python -m thinkless chat MODEL`` takes any model folder that a training wrote, or a name on the hub.
The answer appears as it is written; what its mode was, how likely thinking was and what it cost stand
below. The same four choices per request exist on a server, see `serving`.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from transformers import TextStreamer
from transformers.utils.logging import disable_progress_bar

from thinkless.chat_template import chat_prompt
from thinkless.generation import Completion, Sampling, TransformersGenerator
from thinkless.generation.interface import has_modes
from thinkless.modes import Mode
from thinkless.records import StageError
from thinkless.training import fetch

HELP = """\
/think, /short   force the mode of every answer from here on
/free            leave it to the model again
/tolerance 2     add 2 nats to the logit of <think>: more patience (negative: less)
/new             forget the conversation
/help, /quit     this text; the end (so does Ctrl-D)"""


@dataclass
class Chat:
    """One conversation: what was said, and how answers are made."""

    generator: TransformersGenerator
    max_tokens: int = 8192
    temperature: float = 0.6
    top_p: float = 0.95
    mode: Mode | None = None
    tolerance: float = 0.0
    """Nats added to the logit of `<think>` where the mode is free."""
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str) -> Completion:
        """The model's answer, in the light of what was said before."""
        self.messages.append({"role": "user", "content": question})
        [[answer]] = self.generator.generate(
            [chat_prompt(self.generator.tokenizer, self.messages)], **asdict(self.sampling())
        )
        self.messages.append({"role": "assistant", "content": answer.text})
        return answer

    def sampling(self) -> Sampling:
        """How the next answer is drawn. Raises ValueError for impossible settings."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            mode=self.mode,
            mode_bias=0.0 if self.mode else self.tolerance,
            seed=len(self.messages),
        )

    def command(self, line: str) -> str | None:
        """Obey a line that begins with ``/``; returns what to print, or None to end."""
        name, _, value = line[1:].strip().partition(" ")
        if name in ("quit", "exit"):
            return None
        if name in ("free", *(mode.label for mode in Mode)):
            self.mode = next((mode for mode in Mode if mode.label == name), None)
            return f"mode: {name}"
        if name == "tolerance":
            try:
                tolerance = float(value)
            except ValueError:
                tolerance = math.nan
            if not abs(tolerance) <= 100:
                return f"{value!r}: expected a number of nats between -100 and 100, such as /tolerance 2"
            self.tolerance = tolerance
            return f"tolerance: {tolerance:+g} nats"
        if name == "new":
            self.messages.clear()
            return "a new conversation"
        return HELP if name == "help" else f"there is no /{name}\n{HELP}"


def open_chat(name: str, **settings: Any) -> Chat:
    """A `Chat` with a model folder or a model of the hub; `settings` are fields of `Chat`.

    Raises StageError if it is no hybrid model, or for impossible settings.
    """
    disable_progress_bar()
    model, tokenizer = fetch(name)
    if not has_modes(tokenizer):
        raise StageError(
            f"{name}: its tokenizer has no control tokens, so it cannot choose: give a model that a "
            "warm-up or RL wrote, such as runs/laptop/seed0/rl-degrpo-0/model"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)  # shows the mode
    chat = Chat(TransformersGenerator(model.to(device), tokenizer, streamer=streamer), **settings)
    try:
        chat.sampling()
    except ValueError as error:
        raise StageError(str(error)) from error
    return chat


def status(answer: Completion) -> str:
    """One line about an answer: its mode, P(think), its length."""
    mode = answer.mode.label if answer.mode else "no mode"
    ended = "" if answer.finish_reason == "stop" else ", cut off"
    return f"[{mode}, P(think) = {answer.think_probability:.2f}, {answer.tokens} tokens{ended}]"


def talk(chat: Chat):
    """Read lines until the user ends; every line is a question, or a command that begins with ``/``."""
    print(HELP, flush=True)
    while True:
        try:
            line = input("\n> ").strip()
        except EOFError:
            return
        if line.startswith("/"):
            reply = chat.command(line)
            if reply is None:
                return
            print(reply, flush=True)
        elif line:
            print(status(chat.ask(line)), flush=True)
