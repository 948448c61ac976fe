"""Proves that the fuzzing of the grader ends with 0 where all holds, and names a smallest case that does not.

Run: python -m pytest tests/test_fuzz_grader.py
"""

import subprocess
import sys
from pathlib import Path

import pytest

FALSE = """
from hypothesis import given, strategies

@given(strategies.integers())
def small(number):
    assert number < 1_000

sys.exit(fuzz_grader.fuzz([small], 0, 5))
"""
TRUE = "sys.exit(fuzz_grader.fuzz(fuzz_grader.PROPERTIES[-2:], 0, 5))"


def python(code: str) -> subprocess.CompletedProcess:
    start = [sys.executable, "-c", f"import sys, fuzz_grader\n{code}"]
    return subprocess.run(start, cwd=Path(__file__).parent, capture_output=True, text=True)


@pytest.mark.slow
def test_what_holds_ends_with_zero():
    found = python(TRUE)
    assert (found.returncode, found.stdout) == (0, "seed 5: 2 properties\n"), found.stderr


@pytest.mark.slow
def test_what_fails_is_shrunk_and_named_with_its_seed():
    found = python(FALSE)
    assert found.returncode == 1
    assert "number=1000," in found.stderr
    assert found.stdout == "seed 5: 1 properties\nsmall fails: --seed 5 finds it again\n"
