"""Files that are complete or absent, and whose damage is named: JSON, JSON lines, and their hashes."""

import codecs
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from thinkless.errors import StageError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk. Raises StageError naming the folder to delete if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        return value
    except (ValueError, OSError) as error:
        raise StageError(
            f"{path} is damaged ({error}): delete the folder {path.parent} to run the stage again"
        ) from None


def write_json(path: Path, value: dict[str, Any]):
    """See `write_text`."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_text(path: Path, text: str):
    """Writes under another name first, so that `path` is complete or as it was before."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Line(NamedTuple):
    """One object of a file of JSON lines."""

    place: str
    """File and line, for a message."""
    value: dict[str, Any]
    start: int
    """Its first byte in the file."""
    end: int
    """The byte behind its line break."""


def json_lines(path: Path, *, may_be_cut: bool = False) -> Iterator[Line]:
    """The objects in a file of JSON lines, in order; blank lines are passed over.

    `may_be_cut`: a last line without its line break was being written when its process was killed, and is
    left out. Raises ValueError naming file and line where a line is no JSON object, OSError if the file
    cannot be read.
    """
    start = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            end = start + len(line)
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if may_be_cut and not line.endswith(b"\n"):
                return
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise ValueError(f"expected an object, got {type(value).__name__}")
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{place} cannot be read: {error}") from None
                yield Line(place, value, start, end)
            start = end


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]):
    """Write one row a line, for `json_lines`; complete or not at all."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _digest_content(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(path: Path) -> str | None:
    """SHA-256 of a file's content, read again only if its size or time changed; None if it is absent."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _digest_content(path, status.st_size, status.st_mtime_ns)


def digest_files(folder: Path, outputs: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file among `outputs`, files or folders inside `folder`, by relative path."""
    digests = {}
    for output in outputs:
        for path in sorted((folder / output).rglob("*") if (folder / output).is_dir() else [folder / output]):
            if path.is_file():
                digests[path.relative_to(folder).as_posix()] = digest_file(path) or ""
    return digests
