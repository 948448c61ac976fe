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

    Of a folder, the files whose names start with `name` are read, where there are such, and of these
    the ones that name the `split`, where there are such. A place reads ``file, line 3`` (jsonl, csv) or
    ``file, row 3``. Raises ValueError, in one line, if a file is missing or cannot be read.
    """
    for file in _files(path, name, split):
        try:
            yield from _READERS[file.suffix](file)
        except (ValueError, OSError, csv.Error) as error:
            message = " ".join(str(error).split())
            raise ValueError(message if str(file) in message else f"{file}: {message}") from None


def _files(path: Path, name: str, split: str) -> list[Path]:
    if not path.exists():
        raise ValueError(
            f"no file or folder {path}: expected {', '.join(_READERS)}, or a folder of such files"
        )
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in candidates if file.suffix in _READERS]
    if not files:
        raise ValueError(f"{path}: expected {', '.join(_READERS)}, or a folder of such files")
    files = [file for file in files if file.stem.startswith(name)] or files
    return [file for file in files if split in re.split(r"[-_.]", file.stem)] or files


def _json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """A list of objects, or one object a line, whatever the file is called."""
    with file.open("rb") as start:
        is_list = start.read(64).lstrip().startswith(b"[")
    if not is_list:
        yield from ((line.place, line.value) for line in json_lines(file))
        return
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}, line {error.lineno} cannot be read: {error.msg}") from None
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))


def _csv_rows(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)  # not pandas, to which 025 is 25
        for row in reader:
            if None in row:
                raise ValueError(f"{file}, line {reader.line_num}: more fields than columns")
            yield f"{file}, line {reader.line_num}", row


def _parquet_rows(file: Path) -> Iterator[tuple[str, Any]]:
    rows = pyarrow.parquet.read_table(file).to_pylist()
    return ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
    ".csv": _csv_rows,
}
