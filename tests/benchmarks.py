"""The real benchmark files that some tests read; no copy of them is in the project.

They are looked for in the folder named by THINKLESS_DATA, else in ../shared/data beside the checkout.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("THINKLESS_DATA", Path(__file__).parents[2] / "shared" / "data"))


def benchmark_file(name: str) -> Path:
    """The path of a benchmark file; skips the test that asks for it where there is none."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"needs the benchmark file {name}: name its folder in THINKLESS_DATA")
    return path


def benchmark_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a benchmark file, as they stand."""
    return [json.loads(line) for line in benchmark_file(name).read_text(encoding="utf-8").splitlines()]
