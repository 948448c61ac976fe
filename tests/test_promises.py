"""Proves that every test that the page of promises names exists, and that every promise names one.

Run: python -m pytest tests/test_promises.py
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "book" / "promises.md").read_text(encoding="utf-8").splitlines()[2:]
    if line.startswith("| ") and not line.startswith(("| **", "| it promises"))
]


def test_the_page_has_promises():
    assert len(ROWS) > 30


@pytest.mark.parametrize(("promise", "test"), ROWS)
def test_a_promise_names_a_test_that_exists(promise, test):
    named = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", test)
    assert named, f"{promise}: expected one test, got {test}"
    file, name = named.groups()
    source = (TESTS / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{promise}: {file} has no {name}"
