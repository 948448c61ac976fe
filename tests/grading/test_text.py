r"""Proves what an answer's text alone decides: boxes, numbers, words and bases, in linear time.

Run: python -m pytest tests/grading/test_text.py
"""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.grading.text import Number, canonical, compare, last_boxes, number, words


@pytest.mark.parametrize(
    ("text", "count", "boxes"),
    [
        (r"\boxed{1} \boxed{2} \boxed{3}", 2, ["2", "3"]),
        (r"\boxed{1}", 3, ["1"]),
        (r"\boxed{1} \boxed{2", 2, []),  # cut off
        (r"\boxed{1} \boxed", 1, []),
        (r"\boxed{a_{1}} \fbox{ \{b\} }", 2, ["a_{1}", r"\{b\}"]),
        (r"\boxed{1} $\boxed 2$.", 2, ["1", "2"]),
        (r"\boxed{1} \boxedtext{2}", 1, ["1"]),  # another command
        (r"\boxed{\begin{matrix} 1 \\ 2 \end{matrix}}", 1, [r"\begin{matrix} 1 \\ 2 \end{matrix}"]),
        (r"\boxed{1 \\}", 1, [r"1 \\"]),  # a line break, then a brace
        ("no box", 1, []),
    ],
)
def test_last_boxes(text, count, boxes):
    assert last_boxes(text, count) == boxes


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (r"$\left( 3, \dfrac{\pi}{2} \right)$.", r"(3,\frac{\pi}{2})"),
        (r"\boxed{11,\! 111}", "11,111"),
        ("58 500 000", "58500000"),
        (r"58\,500", "58500"),
        ("1 234, 5", "1234,5"),
        ("12 34", "12 34"),
        ("1 1/2", "1 1/2"),  # not 11/2
        ("2½", "2 1/2"),
        ("１２％", "12%"),
        (r"90^{\circ}", "90"),
        ("90°", "90"),
        (r"f \circ g", r"f\circ g"),
        ("−3 π", r"-3\pi"),
        ("sqrt(2) pi", r"\sqrt(2)\pi"),
        (r"\sqrt 51", r"\sqrt{51}"),
        (r"x \in [1, 2]", "[1,2]"),
        (r"3\mathrm{i}", "3 i"),
        (r"12^{\text{th}}", "12"),
        ("5²", "5^2"),
        (r"\mathbf{58,500}", "58,500"),
        ("{7}", "7"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
)
def test_canonical(answer, text):
    assert canonical(answer) == text


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("7", 7),
        ("-7.", -7),
        ("+007.50", Fraction(15, 2)),
        (".5", Fraction(1, 2)),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("-3/6", Fraction(-1, 2)),
        (r"\frac{-3}{6}", Fraction(-1, 2)),
        (r"-\frac36", Fraction(-1, 2)),
        (r"\frac{3}6", Fraction(1, 2)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        ("-1 4/5", Fraction(-9, 5)),
        ("6.72e-5", Fraction(672, 10**7)),
        (r"6.72 \times 10^{-5}", Fraction(672, 10**7)),
        (r"\$5.40", Fraction(27, 5)),
        ("€5", 5),
        (r"15\mbox{ cm}^2", 15),
        ("15 cm²", 15),
        ("5 miles per hour", 5),
        ("60 km/hour", 60),
        (r"\frac{270}7\text{ degrees}", Fraction(270, 7)),
        ("12个苹果", 12),
        ("12 рублей", 12),
        ("3 million dollars", 3_000_000),
        (r"2.5\text{ thousand}", 2_500),
        ("٣", 3),
    ],
)
def test_number(answer, value):
    assert number(canonical(answer)).value == value


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "x",
            "7x",
            "2xy",
            "(7)",
            "7^2",
            "7!",
            r"7\pi",
            "7 pi",
            "5 sin x",
            r"5\mathbf{i}",
            "52_8",
            "0x10",
        ),
        *("7 or 8", "7 or more", "7, 8", "7 squared", r"\text{not }7", "3万", "12:30"),
        *("1/0", "1/2/3", "1.2.3", "1,23", "--7"),
    ],
)
def test_no_plain_number(answer):
    assert number(canonical(answer)) is None


def test_percent_and_fraction_are_remembered():
    assert number(r"15\%") == number("15 percent") == Number(Fraction(15), percent=True, is_fraction=False)
    assert number(r"\frac12") == Number(Fraction(1, 2), percent=False, is_fraction=True)


@pytest.mark.parametrize(
    ("given", "gold", "verdict"),
    [
        ("15%", "15", True),
        ("15%", "0.15", True),
        ("0.15", "15%", True),
        ("15", "0.15", False),
        ("1500", "15%", False),
        ("0.333333", "1/3", True),  # six digits of a fraction
        ("0.33333", "1/3", False),
        ("0.166667", "1/6", True),
        ("0.176471", "3/17", True),
        ("0.17647", "3/17", False),
        ("0.666667", "2/3", True),
        ("0.66667", "2/3", False),
        ("0.88889", "8/9", False),
        ("-3.88889", "-35/9", True),
        ("0", "0/7", True),
        ("0.0000671", "0.0000672", False),  # two decimals are exact
        ("1000000", "1000001", False),
        ("1000000.1", "1000000", False),
        ("0.0019900498", "2/1005", True),
        ("0.00199", "2/1005", False),
        ("52", "52_8", True),
        ("52_{8}", "52_8", True),
        ("52_9", "52_8", False),
        ("42", "52_8", False),
        (r"52 \text{ (base 8)}", "52_{8}", True),
        ("A_1", "A_1", True),
        ("A", "A_1", None),
        ("evelyn", r"\text{Evelyn}", True),
        (r"\textbf{Evelyn.}", r"\text{Evelyn}", True),
        (r"\text{Evelyn and Navin}", r"\text{Evelyn}", False),
        ("Evelny", "Evelyn", False),  # a product of variables would be equal
        ("cba", "abc", None),
        ("B", r"\text{(B)}", True),
        (r"\mathrm{(B)}", r"\text{(B)}", True),
        (r"\text{B. } 12", r"\text{(B)}", True),
        (r"\text{Both}", r"\text{(B)}", False),
        ("C", r"\text{(B)}", False),
        ("12", r"\text{(B)}", False),
        ("no solution", r"\text{No solution.}", True),
        ("是", "否", None),
        ("x+1", "1+x", None),
        ("7", "x", None),
    ],
)
def test_compare(given, gold, verdict):
    assert compare(canonical(given), canonical(gold)) is verdict


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_every_spelling_of_a_number_has_its_value(numerator, denominator):
    value = Fraction(numerator, denominator)
    sign = "-" if numerator < 0 else ""
    top, bottom = abs(value.numerator), value.denominator
    whole, rest = divmod(top, bottom)
    spellings = [f"{sign}{top}/{bottom}", f"{sign}{top:,}/{bottom:,}", rf"{sign}\dfrac{{{top}}}{{{bottom}}}"]
    spellings += [rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}", rf"${sign}\frac{{{top}}}{{{bottom}}}$."]
    assert {number(canonical(spelling)).value for spelling in spellings} == {value}


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_are_equal_as_they_are_to_python(first, second):
    for a in (str(first), f"{first:,}", f"0{first}", f"{first}.0", f"{first:,}".replace(",", r"\,")):
        assert compare(canonical(a), canonical(str(second))) is (first == second)
        assert compare(canonical(a), canonical(str(first))) is True


@given(st.text())
def test_canonical_is_settled_and_any_text_is_taken(text):
    """Twice is once, but for what the first pass uncovers: a box in a box, braces in braces."""
    once = canonical(text)
    assert compare(once, once) is True
    number(once), words(once), compare(once, "7"), last_boxes(text, 3)


@pytest.mark.parametrize("size", [1_000, 2_000])
@pytest.mark.parametrize(
    "piece",
    [
        *"1 a,.%({[}])-+$\\~一",
        "1 ",
        "1,",
        "1,111",
        "12 cm ",
        " ab/",
        r"\frac1",
        r"\text{a}",
        "1/",
        "aa ",
        r"\!",
    ],
)
@pytest.mark.timeout(60)  # what it takes to fail
def test_no_text_takes_long(piece, size):
    """Patterns that backtrack would take for ever here; a possessive one made greedy does."""
    for text in (piece * size, "1" + piece * size + "!", "1 " + piece * size + "\n;"):
        short = text[:2_000]
        compare(canonical(short), "7")
        compare("7", canonical(short))
        words(short)
        last_boxes(short)
