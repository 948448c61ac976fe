"""Proves that the grader does what the page `book/grading.md` says, row by row.

Run: python -m pytest tests/grading/test_conventions.py
"""

import re
from pathlib import Path

import pytest

from thinkless.grading import is_correct

PAGE = (Path(__file__).parents[2] / "book" / "grading.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \| (right|wrong) \|$", PAGE, re.MULTILINE)
BOXED, BARE = (
    section.count("| right |") + section.count("| wrong |") for section in PAGE.split("Without a box:")
)


def test_every_row_is_read():
    assert len(ROWS) == BOXED + BARE
    assert BOXED > 50
    assert BARE >= 8


@pytest.mark.parametrize(("about", "gold", "answer", "verdict"), ROWS[:BOXED])
def test_convention(about, gold, answer, verdict):
    assert is_correct(f"So it is $\\boxed{{{answer}}}$.", gold) is (verdict == "right")


@pytest.mark.parametrize(("about", "gold", "response", "verdict"), ROWS[BOXED:])
def test_convention_without_a_box(about, gold, response, verdict):
    assert is_correct(response, gold) is (verdict == "right")
