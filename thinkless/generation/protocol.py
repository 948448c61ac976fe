"""What servers that speak OpenAI's protocol say in different words: ends, thoughts, refusals."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from thinkless.modes import END_OF_THINKING, Mode

FALLBACKS = {"max_tokens": "max_completion_tokens", "seed": None, "top_p": None, "temperature": None}
"""Fields that some services refuse, and under what name they take them, if they do."""

_FIELD_REFUSED = re.compile(
    r"unsupported|not support|only support|only the default|unknown|unrecogni[sz]ed|unexpected"
    r"|extra|not permitted|not allowed|not accept|deprecated|invalid param|cannot both|not a valid|disabled"
    r"|does not exist|not available|must not|remove|support the requested|only \S+ is allowed"
    r"|(must|should) be (set to )?1\b",
    re.IGNORECASE,
)
_ENDS = [
    (r"filter|safety|sensitive|refus|recitation|block|prohibit|moderat|guardrail", "filtered"),
    (r"error|abort|cancel|insufficient|fail|timeout|malformed|tool|function|pause", "broken"),
    (r"repet|repeat|unknown|^other$|unspecified", "broken"),
    (r"length|max|limit|truncat|incomplete|cut", "length"),
]
"""Words by which services say that an answer did not end by itself; whatever else they say, it did."""

_FOR_ALL = {401, 402, 403, 404, 405, 407, 410}
"""What no question is to blame for: no key, no money, no such model or address."""
_MODERATION = re.compile(r"flagged|moderat|content.?(filter|polic|manag)|safety|harm", re.IGNORECASE)
"""What a 403 speaks of when it is about one question after all."""


class RefusedError(ValueError):
    """A prompt that the server does not answer, while it may answer others."""


class OptionalFields:
    """The fields of `FALLBACKS` as one service takes them, which it tells by refusing them, once each."""

    def __init__(self, service: str):
        self.service = service
        self._names: dict[str, str | None] = {}  # of the refused ones; None: not at all

    def send(self, create: Callable[..., Any], optional: dict[str, Any], **request: Any) -> Any:
        """What `create`, of the client, returns for `request` and the `optional` fields that are taken."""
        from openai import BadRequestError, NotFoundError, UnprocessableEntityError

        while True:
            names = dict(self._names)  # as they are when this request is sent: others are under way
            taken = {names.get(field, field) or "": value for field, value in optional.items()}
            taken.pop("", None)
            try:
                return create(**taken, **request)
            except (BadRequestError, NotFoundError, UnprocessableEntityError) as error:
                field = _refused_field(error.response.text, names)
                if field is None:
                    raise
                self._learn(field)

    def _learn(self, field: str):
        if field not in self._names:
            self._names[field] = name = FALLBACKS[field]
            way = f"sent as {name}" if name else "left out"
            warnings.warn(f"{self.service} refuses the field {field}: it is {way} from now on", stacklevel=2)


def reason_of(error: BaseException) -> str:
    response = getattr(error, "response", None)
    told = error.__cause__ or error if response is None else f"HTTP {response.status_code} {response.text}"
    return " ".join(str(told).split())[:300]


def refusal(error: BaseException | None) -> str | None:
    """Why the server does not answer this one prompt; None if the error is another, or there is none."""
    status = getattr(error, "status_code", 0)
    of_this_prompt = 400 <= status < 500 and status not in {408, 409, 429, *_FOR_ALL}
    of_this_prompt |= status == 403 and bool(_MODERATION.search(str(error)))
    causes = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    if error is None or not (of_this_prompt or any(isinstance(cause, RefusedError) for cause in causes)):
        return None
    return reason_of(error)


def is_doubtful(error: BaseException | None) -> bool:
    """Whether it may be the prompt's fault or the server's: it sends something each time, but no answer."""
    from openai import InternalServerError

    cause = getattr(error, "__cause__", None)
    return isinstance(error, InternalServerError) or type(cause).__name__ == "DecodingError"


def _refused_field(body: str, names: dict[str, str | None]) -> str | None:
    """The field of `FALLBACKS`, sent under its own name, that an error's body says is not taken."""
    try:
        told = " ".join(_told(json.loads(body)))
    except ValueError:
        told = body
    if not _FIELD_REFUSED.search(told):
        return None
    return next((f for f in FALLBACKS if f not in names and re.search(rf"\b{f}\b", told)), None)


def _told(body: Any) -> Iterator[str]:
    """The words of an error, without what it repeats of the request (a prompt may speak of temperature)."""
    if isinstance(body, dict):
        yield from (word for key, value in body.items() if key != "input" for word in _told(value))
    elif isinstance(body, list):
        yield from (word for value in body for word in _told(value))
    else:
        yield str(body)


def finish_reason(word: str | None) -> str:
    return next((own for pattern, own in _ENDS if re.search(pattern, str(word).lower())), "stop")


def message_text(message: Any) -> str:
    """A chat message as the model wrote it: some servers cut the thinking out and send it apart."""
    content = getattr(message, "content", None) or ""
    thought = _text(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    parts = content if isinstance(content, list) else []  # Mistral's reasoning models answer in parts
    thought += "".join(_part(part, "thinking") for part in parts)
    answer = "".join(_part(part, "text") for part in parts if "thinking" not in part) or _text(content)
    end = END_OF_THINKING if answer else ""  # no answer: the thinking was cut off
    return f"{Mode.THINK.value}{thought}{end}{answer}" if thought else answer


def _part(part: Any, name: str) -> str:
    """The text of one part under `name`, which may be in parts itself. Raises RefusedError for any other."""
    if not isinstance(part, dict) or not {"text", "thinking"} & part.keys():
        raise RefusedError(f"a part of the answer is no text: {str(part)[:200]}")
    return _text(part.get(name))


def _text(value: Any) -> str:
    """A text, or the texts of parts. Raises RefusedError for any other."""
    if isinstance(value, list):
        return "".join(part if isinstance(part, str) else _part(part, "text") for part in value)
    if isinstance(value, dict):
        return _part(value, "text")
    if value is None or isinstance(value, str):
        return value or ""
    raise RefusedError(f"the answer is no text: {str(value)[:200]}")


def answer_text(choice: Any, chat: bool) -> str:
    """What a choice says, of the chat endpoint or the plain one. Raises RefusedError for what is no text."""
    message = getattr(choice, "message", None) if chat else None
    return message_text(message) if message is not None else _text(getattr(choice, "text", None))


def reported_tokens(usage: Any) -> int | None:
    """The count of a reply's tokens that the server gives, if it gives one."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    count = getattr(usage, "completion_tokens", count)
    return count if isinstance(count, int) and count > 0 else None


def refuse_garbage(response: Any) -> None:
    """Turn a success without an answer in it into a failed request, which the client sends again."""
    import httpx2

    if response.is_success:
        response.read()
        reason = f"HTTP {response.status_code} without an answer in it"
        try:
            body = response.json()
        except ValueError:
            raise httpx2.DecodingError(reason, request=response.request) from None
        try:
            choice = body["choices"][0]
            if not isinstance(
                choice["message"] if "message" in choice else choice["text"], dict | str | list
            ):
                raise TypeError
        except (LookupError, TypeError):
            # the client sends again what the network has broken; in the end it is this prompt's fault
            cause = RefusedError("no choices")
            raise httpx2.DecodingError(f"{reason}: {response.text}", request=response.request) from cause
