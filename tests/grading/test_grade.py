"""Proves which text is graded, what equals what, and that any response gets a verdict.

Run: python -m pytest tests/grading/test_grade.py

What its figures on real benchmarks are is `test_grading_report.py`'s business.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkless.grading import final_answer, is_correct


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{7}", "7"),
        (r"\boxed{1} or rather \boxed{ 2 }, as 3 = 3", "2"),  # the last box, before any other form
        (r"\boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, \boxed{2}\}}", "2"),
        (r"\boxed{7", ""),  # never closed, so cut off: no answer
        (r"\boxed{7} \boxed{8", ""),
        (r"\boxed{\left\{x \mid x > 1\right.}", r"\left\{x \mid x > 1\right."),  # \{ is no brace
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"$\boxed 7$.", "7"),
        ("2 + 2 = 4\n#### 5 = 5", "5 = 5"),
        ("#### 1\n#### 70,000 ", "70,000"),
        ("3+5*2=3+5*2=6", "6"),
        ("x = 0.50.", "0.50"),
        ("$x = 0.50$.", "x = 0.50"),  # the last formula as a whole
        (r"once $1$, now $\frac{1}{2}$.", r"\frac{1}{2}"),
        ("for $5 he sold what had cost $10.", "$10"),  # these dollars buy something
        ("it is 12, not 13\nso 14 is far from -1,234.5", "-1,234.5"),
        ("a = 1\nthe last line has 2", "2"),
        ("the answer is x + y.", "x + y"),
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
        (r"\boxed{9.}", "9"),
        (r"The two are $\boxed{1}$ and $\boxed{-2}$.", "-2, 1"),  # a box for each element of the gold list
        (r"First \boxed{3}. So \boxed{1} or \boxed{2}", r"\{1, 2\}"),
        (r"\boxed{1+\sqrt{19}}, \boxed{1-\sqrt{19}}", r"1 \pm \sqrt{19}"),
        (r"\boxed{x = 5}", "5"),
        (r"\boxed{AB = 5\text{ cm}}", "5"),
        (r"\boxed{f(x) = 2x + 3}", "2x+3"),
        (r"\boxed{2x - y + 3 = 0}", "y = 2x + 3"),
        (r"\boxed{-2 \le x < 7}", r"x \in [-2,7)"),
        (r"\boxed{(2,\infty) \cup (-\infty,1)}", r"(-\infty, 1) \cup (2, \infty)"),
        (r"\boxed{\begin{bmatrix} 0.5 \\ 2 \end{bmatrix}}", r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}"),
        (r"\boxed{9i + 6}", "6+9i"),
        (r"\boxed{6+9\mathrm{i}}", "6 + 9i"),
        (r"\boxed{6 + 9 \cdot i}", "6 + 9i"),
        (r"\boxed{7}", r"\boxed{7}"),  # a gold answer may be boxed
        (r"\boxed{\frac{x+y}{2}}", r"\boxed{\frac{y+x}{2}}"),
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
        (r"\boxed{1}, \boxed{2}", "1"),  # the last box, not the best one …
        (r"\boxed{1}", "1, 2"),
        (r"\boxed{1}, \boxed{2}, \boxed{3}", "1, 2"),  # … and not the best two
        (r"\boxed{1} \boxed{2}", "(1, 2, 3)"),
        (r"\boxed{2}", "2m"),
        (r"\boxed{(2,4]}", "(2,4)"),
        (r"\boxed{y = 5}", "x = 5"),
        (r"\boxed{\frac{1}{12}}", r"\frac{11}{2}"),
        ("5", ""),
        ("", ""),
    ],
)
def test_not_equal(response, answer):
    assert not is_correct(response, answer)


@pytest.mark.parametrize(
    "loop",
    [
        "<think>" + "Wait, so it is 7. " * 20_000,
        r"\boxed{7} Let me check. " * 5_000 + r"\boxed{7",
        r"\boxed{" * 20_000 + "7",
        r"\boxed{7" + "}, but " * 20_000 + r"\boxed{",
        "7 " * 100_000 + "and",
        "1 + " * 100_000,
        r"\boxed{" + "7" * 100_000 + "}",
        "$" * 100_000,
    ],
    ids=["thinking", "boxes", "open boxes", "closed box", "numbers", "sum", "digits", "dollars"],
)
def test_a_loop_that_was_cut_off_is_wrong(loop):
    """Where a box or the thinking is open; a loop between closed boxes is what `judge` sees."""
    assert is_correct(loop, "8") is False
    assert is_correct(loop, r"\frac{x}{7}") is False
    assert not is_correct(r"\boxed{7} Let me check. " * 5_000 + r"\boxed{7", "7")


@pytest.mark.parametrize(
    "form", ["{}", "<short>{}", "3+5*2={}", "3+5*2=3+5*2={}", "<think>3+5=8;8*2=6;</think>{}"]
)
def test_digits_of_the_laptop_world_are_compared_as_digits(form):
    for digit in range(10):
        verdicts = [is_correct(form.format(digit), str(gold)) for gold in range(10)]
        assert verdicts == [gold == digit for gold in range(10)]


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
