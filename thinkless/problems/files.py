"""Rows from local files, every one with its place, so that a bad row can be named."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from thinkless.files import json_lines


def local_rows(path: Path, name: str, split: str) -> Iterator[tuple[str, Any]]:
    """The rows of a json, jsonl, parquet or csv file, or of a folder of such files, each with its place.

    Of a folder, the files of the set `name` are read, where there are such, else all; but none that names
    another split than `split`. A place reads ``file, line 3`` (jsonl, csv) or ``file, row 3``. Raises
    ValueError, in one line, if a file is missing or cannot be read.
    """
    if not path.exists():
        raise ValueError(f"no file or folder {path}: expected {_EXPECTED}")
    files = _readable(path)
    if path.is_dir():
        files = _of_set(path, name, split) or _of_split(files, split)
    if not files:
        raise ValueError(f"{path}: expected {_EXPECTED} that name no other split than {split}")
    for file in files:
        try:
            yield from _READERS[file.suffix.lower()](file)
        except (ValueError, OSError, RecursionError) as error:
            message = " ".join(str(error).split())
            raise ValueError(message if str(file) in message else f"{file}: {message}") from None


def place_of_set(folder: Path, name: str, split: str) -> Path:
    """Where the set `name` is in a folder of sets: in a folder of its name, or in files of its name.

    ``gsm8k/``, ``gsm8k.jsonl``, ``gsm8k_test.jsonl`` and ``gsm8k-00000-of-00002.parquet`` are the test set
    gsm8k's; ``gsm8k_train.jsonl`` is not. Raises ValueError where there is none, or more than one form.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: expected one with {name}.jsonl or a folder {name}")
    files = _of_set(folder, name, split)
    forms = [f"folder {name}"] * (folder / name).is_dir() + sorted({f"{name} as {f.suffix}" for f in files})
    if len(forms) != 1:
        found = " and ".join(forms) or ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ValueError(f"{folder}: expected {name}.jsonl or a folder {name}, once; found {found}")
    return folder if files else folder / name


def _readable(path: Path) -> list[Path]:
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in candidates if file.suffix.lower() in _READERS and file.is_file()]


def _of_set(path: Path, name: str, split: str) -> list[Path]:
    """The files in a folder that are called by the set's name, alone or before a split or a part's number."""
    named = re.compile(rf"{re.escape(name)}(?![^-_.])")
    return _of_split([file for file in _readable(path) if named.match(file.stem)], split, name)


def _of_split(files: list[Path], split: str, name: str = "") -> list[Path]:
    """The files that name the split, where there are such, else those that name none."""
    words = {file: set(re.split(r"[-_.]", file.stem.removeprefix(name))) for file in files}
    return [file for file in files if split in words[file]] or [f for f in files if not words[f] & _SPLITS]


def _json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """A list of objects, or one object a line, whatever the file is called."""
    with file.open(encoding="utf-8-sig", errors="replace") as start:
        is_list = start.read(64).lstrip().startswith("[")
    if not is_list:
        yield from ((line.place, line.value) for line in json_lines(file))
        return
    content = file.read_bytes()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {error.lineno} cannot be read: {error.msg}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file}, line {line} cannot be read: {error}") from None
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))


def _csv_rows(file: Path) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # a long solution is no damage
    # bytes that are no text pass, as lone surrogates, so that whoever reads the row can name it
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)  # not pandas, to which 025 is 25
        done = 0
        try:
            for row in reader:
                done = reader.line_num
                if None in row:
                    raise ValueError(f"{file}, line {done}: more fields than columns")
                yield f"{file}, line {done}", row
        except csv.Error as error:
            raise ValueError(f"{file}, line {done + 1} cannot be read: {error}") from None


def _parquet_rows(file: Path) -> Iterator[tuple[str, Any]]:
    rows = pyarrow.parquet.read_table(file).to_pylist()
    return ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
    ".csv": _csv_rows,
}
_EXPECTED = f"{', '.join(_READERS)}, or a folder of such files"
_SPLITS = {"train", "test", "validation", "valid", "val", "dev"}
