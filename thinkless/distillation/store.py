"""A teacher's answers on disk: a file that grows as they arrive and survives a kill or a full disk.

`collect` asks for what an `AnswerFile` lacks. The file has one JSON object a line; `key` is a hash of
everything that the answer depends on. A last line without its line break was cut off by a kill and is
dropped; a key that comes twice counts once. Only places in the file are held in memory: a million long
answers are tens of gigabytes.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from thinkless.errors import StageError
from thinkless.files import Line, digest, json_lines
from thinkless.generation import Completion, Generator
from thinkless.modes import Mode

CHUNK = 8192
"""Questions that an engine gets in one call if it answers a list as a whole. A kill costs it at most
one call; much smaller ones would cost it the speed of batches of similar length."""

REFUSALS = 100
"""Questions that may be refused one after the other, without an answer between, before it is the server's
fault. Refused ones are stored only once an answer has come: when that is mended they are asked again."""


@runtime_checkable
class Streams(Protocol):
    """A generator that hands out completions as they arrive, such as `ServerGenerator`, and draws one
    for its own prompt and settings, whatever else is asked in the call."""

    def complete(self, prompts: Sequence[str], **settings: Any) -> Iterator[tuple[int, list[Completion]]]:
        """(place of the prompt, its completions), in any order; arguments as for `generate`."""
        ...


@dataclass(frozen=True)
class Answer:
    """One stored answer; the fields are the keys of its line."""

    key: str
    question: str
    response: str
    """The text after the control token."""
    tokens: int
    """Everything generated, the end token included."""
    finish_reason: str
    """See `Completion`."""


def _answer(line: Line) -> Answer:
    try:
        return Answer(**line.value)
    except TypeError as error:
        raise ValueError(f"{line.place} cannot be read: {error}") from None


class AnswerFile:
    """An append-only file of answers, looked up by key. Close it, or use it as a context manager.

    Raises StageError naming file and line where a complete line is not an answer, and OSError naming
    the file where it cannot be read or written; what was appended before stays.
    """

    def __init__(self, path: Path):
        self.path = path
        self._places: dict[str, int] = {}  # byte at which each key's line begins
        self._file = path.open("ab", buffering=0)
        self._size = self._index()
        self._reader = path.open("rb")

    def _index(self) -> int:
        """Find every answer, cut off a half-written last line; returns the file's size after that."""
        size = 0
        try:
            for line in json_lines(self.path, may_be_cut=True):
                self._places.setdefault(_answer(line).key, line.start)
                size = line.end
        except ValueError as error:
            raise StageError(f"{error}: delete that line to ask again") from None
        self._file.truncate(size)
        return size

    def append(self, answers: Iterable[Answer]) -> int:
        """Write the answers that are new, and say how many; when this returns they outlive the process."""
        lines, places, place = [], {}, self._size
        for answer in answers:
            if answer.key in self._places or answer.key in places:
                continue
            lines.append((json.dumps(asdict(answer), ensure_ascii=False) + "\n").encode(errors="replace"))
            places[answer.key] = place
            place += len(lines[-1])
        self._write(b"".join(lines))
        self._places |= places
        self._size = place
        return len(places)

    def _write(self, block: bytes):
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> Answer:
        """Raises KeyError if there is no such answer."""
        self._reader.seek(self._places[key])
        return Answer(**json.loads(self._reader.readline()))

    def close(self):
        """Make sure that the answers outlive the machine, too."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._reader.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def collect(
    answers: AnswerFile,
    questions: list[str],
    asked: list[str],
    generator: Generator,
    mode: Mode,
    *,
    teacher: str,
    **sampling: Any,
) -> list[str]:
    """Make sure that `answers` holds one to each question; returns their keys.

    `asked[i]` is `questions[i]` as it is put to the generator; `teacher` names it. The same arguments
    give the same answers, whatever the file held before. Raises StageError if a server fails or refuses
    every question; what arrived is stored.
    """
    keys = _keys(asked, isinstance(generator, Streams), teacher, sampling)
    missing = [key not in answers for key in keys]
    refused: list[Answer] = []  # since the last answer
    with tqdm(desc=teacher, total=len(keys), initial=missing.count(False), disable=None) as progress:
        for arrived in _arrivals(generator, asked, missing, sampling):
            new = [
                Answer(
                    key=keys[row],
                    question=questions[row],
                    response=after_control_token(completion.text, mode),
                    tokens=completion.tokens,
                    finish_reason=completion.finish_reason,
                )
                for row, completion in arrived
            ]
            refused += [answer for answer in new if answer.finish_reason == "refused"]
            if any(answer.finish_reason != "refused" for answer in new):
                progress.update(answers.append([*refused, *new]))
                refused = []
            _check_refusals(refused, REFUSALS, teacher)
    if refused:
        _check_refusals(refused, len(refused) if not len(answers) else REFUSALS, teacher)
        answers.append(refused)
    return keys


def _check_refusals(refused: list[Answer], most: int, teacher: str):
    if len(refused) >= most:
        last = refused[-1]
        raise StageError(
            f"{teacher} has refused {len(refused)} questions and answered none between: {last.response}; the "
            f"last is {last.question[:100]!r}"
        )


def after_control_token(text: str, mode: Mode) -> str:
    """Drop the control token that a teacher wrote, if it did, and the white space before it."""
    opened = text.lstrip()
    return opened.removeprefix(mode.value) if opened.startswith(mode.value) else text


def _keys(asked: list[str], streams: bool, teacher: str, sampling: dict[str, Any]) -> list[str]:
    """A key for each prompt: a hash of everything that its answer depends on.

    Copies of a prompt are numbered. In an engine that answers a list as a whole, an answer depends on
    the list.
    """
    copies: Counter[str] = Counter()
    lists = [digest(asked[chunk]) for chunk in _chunks(asked)]
    keys = []
    for row, prompt in enumerate(asked):
        context = None if streams else lists[row // CHUNK]
        keys.append(digest([teacher, prompt, sampling, copies[prompt], context])[:32])
        copies[prompt] += 1
    return keys


def _chunks(asked: list[str]) -> list[slice]:
    return [slice(start, min(start + CHUNK, len(asked))) for start in range(0, len(asked), CHUNK)]


def _arrivals(
    generator: Generator, asked: list[str], missing: list[bool], sampling: dict[str, Any]
) -> Iterator[list[tuple[int, Completion]]]:
    """(row, completion) in blocks as they come: singly if the generator streams, else by the chunk.

    Copies of a prompt are asked together, or they would be drawn as other copies than before.
    """
    if isinstance(generator, Streams):
        wanted = {prompt for prompt, lacks in zip(asked, missing, strict=True) if lacks}
        rows = [row for row, prompt in enumerate(asked) if prompt in wanted]
        try:
            for place, (completion,) in generator.complete([asked[row] for row in rows], **sampling):
                yield [(rows[place], completion)]
        except RuntimeError as error:
            raise StageError(str(error)) from error
        return
    for number, chunk in enumerate(_chunks(asked)):
        if any(missing[chunk]):
            settings = {**sampling, "seed": sampling["seed"] + number}
            completions = [answer for (answer,) in generator.generate(asked[chunk], **settings)]
            yield list(enumerate(completions, start=chunk.start))
