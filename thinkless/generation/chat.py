"""A conversation with a hybrid model, in a terminal: it chooses the mode, or you do.

``python -m thinkless chat MODEL`` takes any model folder that a training wrote, or a name on the hub.
The answer appears as it is written; what its mode was, how likely thinking was and what it cost stand
below. The same four choices per request exist on a server, see `vllm_plugin`.
"""

import io
import re
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase, TextStreamer
from transformers.utils.logging import disable_progress_bar

from thinkless.errors import UserError
from thinkless.files import read_json
from thinkless.generation.chat_template import chat_prompt
from thinkless.generation.interface import Completion, Sampling, has_modes
from thinkless.generation.load import open_generator
from thinkless.generation.transformers import TransformersGenerator
from thinkless.modes import Mode

HELP = """\
/think, /short   force the mode of every answer from here on
/free            leave it to the model again
/tolerance 2     add 2 nats to the logit of <think>: more patience (negative: less)
/new             forget the conversation
/help, /quit     this text; the end (so does Ctrl-D)
Ctrl-C           stop the answer, and forget its question"""

LONGEST = 8192
"""Tokens of an answer where it is not known how long those were that a model was trained on."""
EXAMPLES = ("3+5*2=", "What is 3+5*2?")
"""Questions for somebody whose own the model cannot read: the first that it can."""


@dataclass
class Chat:
    """One conversation: what was said, and how answers are made."""

    generator: TransformersGenerator
    sampling: Sampling
    """How answers are drawn. `mode` forces a control token; else `mode_bias`, the tolerance, tilts it."""
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str) -> Completion:
        """The model's answer, in the light of what was said before; bytes that are no text become U+FFFD.

        Raises UserError for characters that the model does not know, and for a conversation that fills its
        context. A question that was refused or interrupted is not remembered.
        """
        question = re.sub("[\ud800-\udfff]", "\ufffd", question)
        self._check_readable(question)
        messages = [*self.messages, {"role": "user", "content": question}]
        prompt = chat_prompt(self.generator.tokenizer, messages)
        sampling = replace(self.sampling, max_tokens=self._room(prompt), seed=len(messages))
        try:
            [[answer]] = self.generator.generate([prompt], **asdict(sampling))
        except KeyboardInterrupt:
            if self.generator.streamer is not None:
                self.generator.streamer.end()  # or the next prompt would be taken for more of this answer
            raise
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def _check_readable(self, question: str):
        tokenizer = self.generator.tokenizer
        unknown = _unknown(tokenizer, question)
        if not unknown:
            return
        known = [text for text in tokenizer.get_vocab() if len(text) == 1]
        reads = f"; it reads {' '.join(sorted(known))}" if len(known) < 50 else ""
        example = next((f"; ask such as {text}" for text in EXAMPLES if not _unknown(tokenizer, text)), "")
        raise UserError(f"this model does not know {' '.join(map(repr, unknown[:10]))}{reads}{example}")

    def _room(self, prompt: str) -> int:
        """The longest answer that is asked for and has a place behind the prompt."""
        positions = getattr(self.generator.model.config, "max_position_embeddings", None)
        if positions is None:
            return self.sampling.max_tokens
        room = positions - len(self.generator.tokenizer(prompt, add_special_tokens=False).input_ids)
        if room < 1:
            raise UserError(f"the conversation fills the model's {positions} positions: /new forgets it")
        return min(self.sampling.max_tokens, room)

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
    max_tokens: int | None = None,
    temperature: float = 0.6,
    top_p: float = 0.95,
    tolerance: float = 0.0,
) -> Chat:
    """A `Chat` with a model folder or a model of the hub; `tolerance` in nats, see `Chat.sampling`.

    `max_tokens` None: as long as the answers that the model was trained on, else `LONGEST`.
    Raises UserError if it is no hybrid model, or for impossible settings.
    """
    try:
        sampling = Sampling(
            max_tokens=LONGEST if max_tokens is None else max_tokens,
            temperature=temperature,
            top_p=top_p,
            mode_bias=tolerance,
        )
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
    if max_tokens is None:
        own = generator.model.generation_config.max_new_tokens  # an exported model has its limit with it
        sampling = replace(sampling, max_tokens=_trained_length(Path(name)) or own or LONGEST)
    # special tokens are left out, and control tokens are none: the mode is shown
    generator.streamer = TextStreamer(generator.tokenizer, skip_prompt=True, skip_special_tokens=True)
    return Chat(generator, sampling)


def _trained_length(model: Path) -> int | None:
    """The longest answer of a stage's training, if it stands in its manifest, beside the model."""
    manifest = model.parent / "manifest.json"
    known = read_json(manifest).get("metrics") if model.is_dir() and manifest.exists() else None
    return known.get("longest_answer") if isinstance(known, dict) else None


def _unknown(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The parts of a text that a tokenizer has no token for; one that falls back to bytes knows all."""
    if tokenizer.unk_token_id is None or not tokenizer.is_fast:
        return []
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
    return list(dict.fromkeys(text[slice(*place)] for id, place in pairs if id == tokenizer.unk_token_id))


def status(answer: Completion) -> str:
    """One line about an answer: its mode, P(think), its length."""
    mode = answer.mode.label if answer.mode else "no mode"
    ended = "" if answer.finish_reason == "stop" else ", cut off"
    return f"[{mode}, P(think) = {answer.think_probability:.2f}, {answer.tokens} tokens{ended}]"


def talk(chat: Chat):
    """Read lines until the user ends; every line is a question, or a command that begins with ``/``."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pasted byte or an odd terminal must not end the chat
    print(HELP, flush=True)
    while True:
        try:
            reply = _reply(chat, input("\n> ").strip())
        except EOFError:
            return
        except KeyboardInterrupt:
            reply = "\n[stopped; /quit or Ctrl-D ends]"
        except UserError as error:
            reply = str(error)
        if reply is None:
            return
        if reply:
            print(reply, flush=True)


def _reply(chat: Chat, line: str) -> str | None:
    """What to print after a line, None to end; an answer is printed as it is written, its status after it."""
    if line.startswith("/"):
        return chat.command(line)
    return status(chat.ask(line)) if line else ""
