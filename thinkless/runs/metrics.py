"""What a training wrote about itself, update by update."""

from pathlib import Path
from typing import Any

from thinkless.errors import StageError
from thinkless.files import json_lines

METRICS = "metrics.jsonl"
GROUPS, EVERY = "groups.jsonl", 10
"""Where an RL run keeps one group of its first update and of each tenth."""


def read_metrics(folder: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`, oldest first; a last line cut off by a kill is left out.

    Raises StageError naming file and line if another one is damaged.
    """
    path = folder / name
    try:
        return [line.value for line in json_lines(path, may_be_cut=True)] if path.exists() else []
    except ValueError as error:
        raise StageError(f"{error}: delete the folder {folder} to run the stage again") from None
