"""The page of promises names tests that exist, and every row names one.

Run: python -m pytest tests/test_promises.py
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    line
    for line in (ROOT / "book" / "promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| promise")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0])
def test_a_promise_is_held_by_tests_that_exist(row):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert named
    assert len(named) == row.count("`tests/")
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}, file


def test_the_page_is_in_the_book():
    assert ROWS
    assert "file: book/promises\n" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
