"""Our chat template: the prompt ends where the model's choice begins.

The stock template of the R1 distillations opens `<think>` itself, in the prompt, so that position 0 of
the completion would be no control token. Ours leaves that place free, or writes the token that `mode`
asks for: ``apply_chat_template(..., mode="short")`` here, ``chat_template_kwargs: {"mode": "short"}`` on
a server. Earlier answers of a conversation are shown without control token and reasoning.
"""

import json
import re
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from thinkless.errors import UserError
from thinkless.modes import END_OF_THINKING, Mode

R1 = {
    "start": ("<｜begin▁of▁sentence｜>", ""),
    "system": ("", ""),
    "user": ("<｜User｜>", ""),
    "assistant": ("<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
}
CHATML = {
    "start": ("", ""),
    "system": ("<|im_start|>system\n", "<|im_end|>\n"),
    "user": ("<|im_start|>user\n", "<|im_end|>\n"),
    "assistant": ("<|im_start|>assistant\n", "<|im_end|>\n"),
}
"""What stands before and after the text of each role, and once at the start: R1's way and Qwen's."""

BODY = """
{%- if mode is defined and mode is not none and mode not in controls %}
    {{- raise_exception("mode=" ~ mode ~ ": expected think or short, or no mode to let the model choose") }}
{%- endif %}
{%- if tools is defined and tools %}
    {{- raise_exception("tools were given: this model was trained on questions and answers only") }}
{%- endif %}
{{- turns.start[0] }}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception("role " ~ message.role ~ ": expected system, user or assistant") }}
    {%- endif %}
    {%- set said = namespace(text='') %}
    {%- if message.content is string %}
        {%- set said.text = message.content %}
    {%- elif message.content is not none and message.content is not iterable %}
        {{- raise_exception("the content of a message is no text: this model reads text only") }}
    {%- elif message.content is not none %}
        {%- for part in message.content %}
            {%- if part.text is not string %}
                {{- raise_exception("a part of the message is no text: this model reads text only") }}
            {%- endif %}
            {%- set said.text = said.text ~ part.text %}
        {%- endfor %}
    {%- endif %}
    {%- set text = said.text %}
    {%- if message.role == 'assistant' and not (loop.last and continued in text) %}
        {%- set text = text | trim %}
        {%- if text.startswith(controls.short) %}
            {%- set text = text[controls.short | length:] %}
        {%- elif end_of_thinking in text %}
            {%- set text = text.split(end_of_thinking)[1:] | join(end_of_thinking) %}
        {%- elif text.startswith(controls.think) %}
            {%- set text = '' %}
        {%- endif %}
        {%- set text = text | trim %}
    {%- endif %}
    {{- turns[message.role][0] ~ text ~ turns[message.role][1] }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- turns.assistant[0] ~ (controls[mode] if mode is defined and mode is not none else '') }}
{%- endif %}
"""
"""What is the same for both. Reasoning that was cut off, without an end, leaves an empty answer behind; an
answer that is to be continued stays as it is."""

CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG"
"""What Transformers writes behind a message while it renders it with ``continue_final_message=True``."""


class TurnsError(UserError, ValueError):
    """A chat model whose way to mark turns is not known."""


def install_chat_template(tokenizer: PreTrainedTokenizerBase):
    """Give `tokenizer` our template; `save_pretrained` keeps it. `add_control_tokens` is a separate step.

    The template writes the token that begins a text, so the tokenizer no longer does: with both, every
    prompt that is rendered first and encoded later (by TRL, or by vLLM for a completion) would begin with
    two. The end token becomes the one that ends a turn, so that generation stops where an answer does;
    Qwen's base models have another. Raises TurnsError for a tokenizer that marks turns in neither way.
    """
    turns = _turns(tokenizer)
    known = {
        "turns": turns,
        "controls": {mode.label: mode.value for mode in Mode},
        "end_of_thinking": END_OF_THINKING,
        "continued": CONTINUED,
    }
    values = [
        f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} %}}" for name, value in known.items()
    ]
    tokenizer.chat_template = "\n".join(values) + BODY
    tokenizer.add_bos_token = False
    tokenizer.eos_token = turns["assistant"][1].strip()


def check_turns(tokenizer: PreTrainedTokenizerBase):
    """Raise TurnsError for a chat model that `install_chat_template` would not know how to prompt."""
    if tokenizer.chat_template is not None:
        _turns(tokenizer)


def _turns(tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[str, str]]:
    """`R1` or `CHATML`. Raises TurnsError if it is neither."""
    vocabulary = tokenizer.get_vocab()
    if R1["user"][0] in vocabulary:
        return R1
    if "<|im_start|>" in vocabulary:
        return CHATML
    raise TurnsError(
        "the tokenizer has neither <｜User｜> nor <|im_start|>, and no other way to mark turns is known: "
        "use plain prompts, or add a style to thinkless/generation/chat_template.py"
    )


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase,
    conversation: str | Sequence[Mapping[str, str]],
    mode: Mode | None = None,
) -> str:
    """The prompt of a question, or of a conversation of ``{"role", "content"}`` messages, as a string.

    It begins with exactly one BOS where the model has one, so encode it with ``add_special_tokens=False``
    or a tokenizer after `install_chat_template`. It ends where the control token belongs; `mode` writes
    it, and it is then no part of the completion (to have it there, force it with `Generator.generate`).
    A tokenizer without chat template gets the question itself. Raises ValueError for a chat template
    that does not know `mode`: the stock one of R1 would choose thinking for the model.
    """
    if isinstance(conversation, str):
        conversation = [{"role": "user", "content": conversation}]
    if tokenizer.chat_template is None:
        return conversation[-1]["content"] + (mode.value if mode else "")
    if not re.search(r"\bmode\b", tokenizer.chat_template):
        raise ValueError(
            "the tokenizer's chat template does not know control tokens: "
            "call install_chat_template(tokenizer) first"
        )
    return tokenizer.apply_chat_template(
        list(conversation), tokenize=False, add_generation_prompt=True, mode=mode.label if mode else None
    )
