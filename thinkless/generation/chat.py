"""A conversation with a hybrid model, in a terminal: it chooses the mode, or you do.

``python -m thinkless chat MODEL`` takes any model folder that a training wrote, or a name on the hub.
The answer appears as it is written; what its mode was, how likely thinking was and what it cost stand
below. The same four choices per request exist on a server, see `vllm_plugin`.
"""

from dataclasses import asdict, dataclass, field, replace

from transformers import TextStreamer
from transformers.utils.logging import disable_progress_bar

from thinkless.errors import UserError
from thinkless.generation import Completion, Sampling, TransformersGenerator
from thinkless.generation.chat_template import chat_prompt
from thinkless.generation.interface import has_modes
from thinkless.generation.load import open_generator
from thinkless.modes import Mode

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
    sampling: Sampling
    """How answers are drawn. `mode` forces a control token; else `mode_bias`, the tolerance, tilts it."""
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str) -> Completion:
        """The model's answer, in the light of what was said before."""
        self.messages.append({"role": "user", "content": question})
        [[answer]] = self.generator.generate(
            [chat_prompt(self.generator.tokenizer, self.messages)],
            **asdict(replace(self.sampling, seed=len(self.messages))),
        )
        self.messages.append({"role": "assistant", "content": answer.text})
        return answer

    def command(self, line: str) -> str | None:
        """Obey a line that begins with ``/``; returns what to print, or None to end."""
        name, _, value = line[1:].strip().partition(" ")
        if name in ("quit", "exit"):
            return None
        if name in ("free", *(mode.label for mode in Mode)):
            mode = next((mode for mode in Mode if mode.label == name), None)
            self.sampling = replace(self.sampling, mode=mode)
            return f"mode: {name}"
        if name == "tolerance":
            try:
                self.sampling = replace(self.sampling, mode_bias=float(value))
            except ValueError:
                return f"{value!r}: expected a number of nats between -100 and 100, such as /tolerance 2"
            return f"tolerance: {self.sampling.mode_bias:+g} nats"
        if name == "new":
            self.messages.clear()
            return "a new conversation"
        return HELP if name == "help" else f"there is no /{name}\n{HELP}"


def open_chat(
    name: str,
    *,
    max_tokens: int = 8192,
    temperature: float = 0.6,
    top_p: float = 0.95,
    tolerance: float = 0.0,
) -> Chat:
    """A `Chat` with a model folder or a model of the hub; `tolerance` in nats, see `Chat.sampling`.

    Raises UserError if it is no hybrid model, or for impossible settings.
    """
    try:
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, mode_bias=tolerance)
    except ValueError as error:
        raise UserError(str(error)) from error
    disable_progress_bar()
    generator = open_generator(name, "transformers")
    assert isinstance(generator, TransformersGenerator)
    if not has_modes(generator.tokenizer):
        raise UserError(
            f"{name}: its tokenizer has no control tokens, so it cannot choose: give a model that a "
            "warm-up or RL wrote, such as runs/laptop/seed0/rl-degrpo-0/model"
        )
    # special tokens are left out, and control tokens are none: the mode is shown
    generator.streamer = TextStreamer(generator.tokenizer, skip_prompt=True, skip_special_tokens=True)
    return Chat(generator, sampling)


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
