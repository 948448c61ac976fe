"""Proves which text is graded, what equals what, and that no response can raise, hang or break the grader.

Run: python -m pytest tests/test_grading.py

Three tests read benchmark files from ../shared/data and skip where there are none.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkless import grading
from thinkless.grading import final_answer, is_correct

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{7}", "7"),
        (r"\boxed{1} or rather \boxed{ 2 }, as 3 = 3", "2"),  # the last box, before any other form
        (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, \boxed{2}\}}", "2"),
        (r"\boxed{7", "7"),  # never closed: no box, so the last number
        (r"\boxed{7} \boxed{8", "8"),
        ("2 + 2 = 4\n#### 5 = 5", "5 = 5"),
        ("#### 1\n#### 70,000 ", "70,000"),
        ("3+5*2=3+5*2=6", "6"),
        ("$x = 0.50$.", "0.50"),
        ("it is 12, not 13\nso 14 is 3/4 of -1,234.5", "-1,234.5"),
        ("a = 1\nthe last line has 2", "2"),
        ("the answer is x + y.", "the answer is x + y"),
        ("  \n ", ""),
        ("", ""),
        ("<think>3+5=8;</think>8", "8"),
        (r"<think>\boxed{1}</think>no box: 2", "2"),  # what stands in the thinking is no answer
        ("<think>1</think>2</think>3", "3"),
        ("<think>1</think>", ""),
        ("<short>9", "9"),
    ],
)
def test_final_answer(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{\frac{1}{2}}", "0.5"),
        ("1/2", "2/4"),
        ("the answer is 1,234", "1234"),
        (r"\boxed{25}", "025"),
        (r"\boxed{\sqrt{8}}", r"2\sqrt{2}"),
        (r"\boxed{q+p}", "p + q"),
        (r"\boxed{(3,\pi/2)}", r"\left( 3, \frac{\pi}{2} \right)"),
        (r"\boxed{\dfrac{-3}{6}}", "-1/2"),
        ("<think>3+5=8;</think>8", "8"),
    ],
)
def test_equal_as_text_or_as_mathematics(response, answer):
    assert is_correct(response, answer)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("8", "3"),
        ("-3", "3"),
        (r"\boxed{3.14}", r"\pi"),
        (r"\boxed{\frac{1}{3}}", "0.33"),
        (r"\boxed{(1,2)}", "(2,1)"),
        (r"\boxed{}", "0"),
        ("", "0"),
        ("I do not know", "0"),
        ("8" * 3000, "8"),  # babble
    ],
)
def test_not_equal(response, answer):
    assert not is_correct(response, answer)


def test_thinking_that_never_ends_is_wrong_even_if_its_last_number_is_right():
    assert is_correct("<think>3+5=8</think>8", "8")
    assert not is_correct("<think>3+5=8", "8")


@pytest.mark.parametrize(("response", "answer"), [(8, "8"), ("8", 8), (None, "8"), (b"8", "8")])
def test_anything_but_strings_is_the_callers_mistake(response, answer):
    with pytest.raises(TypeError, match="is_correct takes two strings, got"):
        is_correct(response, answer)


fragments = st.sampled_from(
    [
        "\\boxed{",
        "}",
        "{",
        "####",
        "=",
        "\\frac",
        "^",
        "\\sqrt",
        "<think>",
        "</think>",
        "\n",
        "1",
        "9",
        "x",
        ",",
        "\\",
    ]
)


@given(st.lists(fragments | st.text(max_size=3), max_size=12).map("".join))
def test_final_answer_takes_any_text(response):
    answer = final_answer(response)
    assert answer in response
    assert "</think>" not in answer


@settings(max_examples=40)
@given(st.lists(fragments | st.text(max_size=3), max_size=8).map("".join))
def test_any_text_gets_a_verdict(response):
    assert is_correct(f"{response} {{", "a hundred") is False


@pytest.mark.parametrize(
    "hostile",
    [
        "9^{9^{9^{9}}}",
        "(" * 1500,
        "\\frac{" * 300 + "}" * 300,
        "10^{10^{10}}",
        "1" * 1900 + "!",
        "\x00",
        "\ud800",
    ],
    ids=["tower", "brackets", "fractions", "power", "factorial", "nul", "surrogate"],
)
def test_hostile_answers_are_wrong_and_the_grader_goes_on(hostile, monkeypatch):
    """Without the limits this test would not end."""
    monkeypatch.setattr(grading, "TIME_LIMIT", 0.5)
    assert not is_correct(f"\\boxed{{{hostile}}}", "17")
    monkeypatch.undo()
    assert is_correct(r"\boxed{\frac{34}{2}}", "17")


def test_memory_is_bounded():
    grading._equal_as_mathematics.cache_clear()
    worker = grading._worker()
    with pytest.raises(MemoryError):
        worker.schedule(bytearray, args=(grading.MEMORY_LIMIT + 1,)).result()
    assert is_correct(r"\boxed{\frac{36}{2}}", "18")


def test_a_killed_worker_costs_nobody_the_right_answer():
    for number in range(3):
        assert is_correct(f"\\boxed{{\\frac{{{2 * number + 1}}}{{2}}}}", f"{number}.5")
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)


def test_a_grader_that_cannot_start_says_so(tmp_path):
    """A right answer must not be called wrong because a script lacks its main guard."""
    script = tmp_path / "unguarded.py"
    script.write_text("from thinkless.grading import is_correct\nprint(is_correct('1/2', '0.5'))\n")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "the grader cannot start its worker process" in result.stderr
    assert "False" not in result.stdout


# Real benchmark answers


def rows(name: str) -> list[dict]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the benchmark file ../shared/data/{name}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_aime_answers_without_their_leading_zeros():
    answers = [row["answer"] for row in rows("aime_2024.jsonl")]
    assert len(answers) == 30
    assert [a for a in answers if not is_correct(f"the answer is $\\boxed{{{int(a)}}}$.", a)] == []
    assert [a for a, b in pairwise(answers) if a != b and is_correct(a, b)] == []


def test_gsm8k_solutions_with_their_thousands_separators():
    solutions = [row["answer"] for row in rows("gsm8k_test.jsonl")]
    plain = [str(int(final_answer(solution).replace(",", ""))) for solution in solutions]
    assert [p for s, p in zip(solutions, plain, strict=True) if not is_correct(s, p)] == []
    assert [a for a, b in pairwise(plain[:100]) if a != b and is_correct(a, b)] == []


def test_math_answers_as_mathematics():
    """`\\displaystyle` makes it another text and the same mathematics."""
    answers = [row["answer"] for row in rows("math_500.jsonl")][::8]
    assert [a for a in answers if not is_correct(f"\\boxed{{\\displaystyle {a}}}", a)] == []
    different = [(a, b) for a, b in pairwise(answers) if a.isdigit() and b.isdigit() and a != b]
    assert different
    assert [pair for pair in different if is_correct(*pair)] == []
