r"""Proves that an answer equals itself in every spelling that is drawn, and no answer of another value.

Run: python -m pytest tests/grading/test_spellings.py

Values are drawn first, as Python has them, and written afterwards, so that the grader's own arithmetic has
no part in what is expected.
"""

import itertools
import random
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thinkless.grading import is_correct

fractions = st.builds(Fraction, st.integers(-10_000, 10_000), st.integers(1, 400))
positive = st.builds(Fraction, st.integers(1, 10_000), st.integers(1, 400))
draws = st.randoms(use_true_random=False)


def equal(given: str, gold: str) -> bool:
    return is_correct(f"So it is $\\boxed{{{given}}}$.", gold)


# Numbers


def long_division(value: Fraction) -> tuple[str, str]:
    """The digits behind the point that come once, and those that repeat."""
    digits, seen, rest = "", {}, value.numerator % value.denominator
    while rest and rest not in seen:
        seen[rest] = len(digits)
        digits += str(rest * 10 // value.denominator)
        rest = rest * 10 % value.denominator
    start = seen.get(rest, len(digits))
    return (digits[:start], digits[start:]) if rest else (digits, "")


def spellings(value: Fraction) -> list[str]:
    """Ways to write a number that are exact."""
    sign, size = "-" if value < 0 else "", abs(value)
    top, bottom, (whole, rest) = size.numerator, size.denominator, divmod(size.numerator, size.denominator)
    found = [
        f"{sign}{top}/{bottom}",
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{top}}}{{{bottom}}}",
    ]
    found += [
        rf"\frac{{{sign}{3 * top}}}{{{3 * bottom}}}",
        rf"{sign}{100 * top}/{bottom}\%",
        f"({sign}{top})/{bottom}",
    ]
    found += [f"{sign}{top:,}/{bottom}", rf"\displaystyle {sign}{top}/{bottom}", f"x = {sign}{top}/{bottom}"]
    if whole and rest:
        found += [rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
    once, again = long_division(size)
    if not again:
        found += [
            f"{sign}{whole}.{once}0",
            f"{sign}{whole:,}.{once or 0}",
            f"{sign}{whole}.{once or 0} meters",
        ]
        found += [rf"{sign}{top * 10**6 // bottom} \times 10^{{-6}}"] if len(once) <= 6 else []
    elif len(again) <= 9:
        found += [rf"{sign}{whole}.{once}\overline{{{again}}}", f"{sign}{whole}.{once}({again})"]
    if bottom == 1:
        found += [f"{sign}{top:,}".replace(",", separator) for separator in (",", "{,}", r"\,", " ")]
        found += [
            f"{sign}{top}",
            f"{sign}0{top}",
            f"{sign}{top} apples",
            rf"{sign}{top}^\circ",
            f"{sign}{top}km/h",
        ]
    return found


@settings(max_examples=300)
@given(fractions, draws)
def test_every_spelling_of_a_number_is_right(value, draw):
    gold, other = draw.sample(spellings(value), 2)
    marked = [
        any(mark in text for mark in ("%", "meters", "apples", "circ", "km/h")) for text in (gold, other)
    ]
    assume(not all(marked))  # one may be left out, two have to fit
    assert equal(other, gold), (other, gold)


@settings(max_examples=300)
@given(fractions, fractions, draws)
def test_spellings_of_two_numbers_differ(value, other, draw):
    assume(other not in (value, value * 100, value / 100))  # 50% is 0.5 as well as 50
    given, gold = draw.choice(spellings(other)), draw.choice(spellings(value))
    assert not equal(given, gold), (given, gold)


SIZES = {
    "length": "m 1, km 1000, cm 1/100, millimeters 1/1000, inches 127/5000, ft 381/1250, miles 201168/125",
    "time": "s 1, minutes 60, hours 3600, days 86400, weeks 604800, milliseconds 1/1000",
    "mass": "g 1, kg 1000, mg 1/1000, tonnes 1000000",
    "months": "months 1, years 12, decades 120",
    "money": "dollars 1, cents 1/100",
    "other money": "euros 1",
    "force": "N 1, kN 1000",
    "frequency": "Hz 1, kHz 1000",
    "volume": "liters 1, mL 1/1000, cubic meters 1000",
    "angle": "degrees 1",
}
UNITS = [
    (dimension, *unit.rsplit(" ", 1)) for dimension, names in SIZES.items() for unit in names.split(", ")
]


@settings(max_examples=200)
@given(positive, st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_units_convert_within_a_dimension_and_to_no_other(value, one, other):
    def written(number: Fraction, unit: str) -> str:
        return rf"\frac{{{number.numerator}}}{{{number.denominator}}}\text{{ {unit}}}"

    (dimension, unit, size), (another, second, other_size) = one, other
    gold, factor = written(value, unit), Fraction(size) / Fraction(other_size)
    assert equal(written(value * factor, second), gold) is (dimension == another)
    assert equal(written(value, second), gold) is (dimension == another and factor == 1)


# Expressions

Node = int | str | tuple


def nodes(leaf):
    return st.recursive(
        leaf,
        lambda parts: st.one_of(
            st.tuples(st.sampled_from("+-*/"), parts, parts),
            st.tuples(st.just("^"), parts, st.integers(2, 3)),
        ),
        max_leaves=6,
    )


trees = nodes(st.one_of(st.integers(1, 30), st.sampled_from("xy")))
TIMES = [r"\cdot", r"\times"]
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 3}


def write(node: Node, draw: random.Random, ascii_only: bool, outer: int = 0) -> str:
    """A tree in LaTeX or ASCII, in one of many ways."""
    if not isinstance(node, tuple):
        return str(node)
    sign, left, right = node
    own = PRECEDENCE[sign]
    space = draw.choice(["", " "])
    if sign == "/" and not ascii_only and draw.random() < 0.8:
        parts = (write(part, draw, ascii_only) for part in (left, right))
        return draw.choice([r"\frac{%s}{%s}", r"\dfrac{%s}{%s}"]) % tuple(parts)
    below = write(left, draw, ascii_only, own + (sign == "^")), write(right, draw, ascii_only, own + 1)
    if sign == "^":
        text = f"{below[0]}{draw.choice(['^', '**']) if ascii_only else '^'}{right}"
    elif sign == "*" and not ascii_only:
        text = f" {draw.choice(TIMES)} ".join(below)
    else:
        text = f"{below[0]}{space}{sign}{space}{below[1]}"
    if own >= outer:
        return text
    brackets = ["()"] if ascii_only else ["()", (r"\left(", r"\right)")]
    opening, closing = draw.choice(brackets)
    return f"{opening}{text}{closing}"


def value_at(node: Node, point: dict[str, Fraction]) -> Fraction:
    if isinstance(node, tuple):
        sign, a, b = node[0], value_at(node[1], point), value_at(node[2], point)
        return {"+": a.__add__, "-": a.__sub__, "*": a.__mul__, "/": a.__truediv__, "^": a.__pow__}[sign](b)
    return point[node] if isinstance(node, str) else Fraction(node)


def changed(node: Node, draw: random.Random) -> Node:
    """One leaf or sign is another."""
    if isinstance(node, tuple):
        index = draw.randrange(3) if node[0] in "+-*/" else 1
        if index:
            return (*node[:index], changed(node[index], draw), *node[index + 1 :])
        return (draw.choice([sign for sign in "+-*/" if sign != node[0]]), *node[1:])
    return node + 1 if isinstance(node, int) else {"x": "y", "y": "x"}[node]


POINTS = [{"x": Fraction(3, 7), "y": Fraction(12, 5)}, {"x": Fraction(-8, 3), "y": Fraction(5, 11)}]


def values(node: Node) -> list[Fraction]:
    try:
        return [value_at(node, point) for point in POINTS]
    except ZeroDivisionError:
        assume(False)
        raise


@settings(max_examples=200, deadline=None)
@given(trees, draws)
def test_every_spelling_of_an_expression_is_right(tree, draw):
    values(tree)
    given, gold = write(tree, draw, draw.random() < 0.5), write(tree, draw, False)
    assert equal(given, gold), (given, gold)


@settings(max_examples=200, deadline=None)
@given(trees, draws)
def test_an_expression_with_another_value_is_wrong(tree, draw):
    other = changed(tree, draw)
    assume(all(a != b for a, b in zip(values(tree), values(other), strict=True)))
    assume(abs(values(tree)[0] / 100) != abs(values(other)[0]) != abs(values(tree)[0] * 100))
    given, gold = write(other, draw, draw.random() < 0.5), write(tree, draw, False)
    assert not equal(given, gold), (given, gold)


# Lists, tuples, intervals


@settings(max_examples=150, deadline=None)
@given(st.lists(fractions, min_size=2, max_size=5, unique=True), draws)
def test_a_list_has_no_order_and_a_tuple_has(members, draw):
    plain = [f"{value.numerator}/{value.denominator}" for value in members]
    shuffled = draw.sample(plain, len(plain))
    separator = draw.choice([", ", ",", ";", r",\ ", r" \text{ and } "])
    gold = ", ".join(plain)
    assert equal(separator.join(shuffled), gold)
    assert equal(rf"\{{{', '.join(shuffled)}\}}", gold)
    assert not equal(", ".join(plain[:-1]), gold)
    assert equal(f"({','.join(shuffled)})", f"({gold})") is (shuffled == plain)


BELOW = {"(": "<", ")": "<", "[": r"\le", "]": r"\le"}


@settings(max_examples=100, deadline=None)
@given(fractions, positive, draws)
def test_the_ends_of_an_interval_count(low, length, draw):
    """With its ends the wrong way round it holds no number, and is still not every other such one."""
    ends = draw.choice([(f"{low}", f"{low + length}"), (f"{low + length}", f"{low}")])
    kinds = [f"{left}{right}" for left, right in itertools.product("[(", "])")]
    gold, other = draw.choice(kinds), draw.choice(kinds)

    def as_bracket(kind: str) -> str:
        return f"{kind[0]}{ends[0]}, {ends[1]}{kind[1]}"

    def as_inequality(kind: str) -> str:
        return f"{ends[0]} {BELOW[kind[0]]} x {BELOW[kind[1]]} {ends[1]}"

    given = draw.choice([as_bracket, as_inequality])(other)
    assert equal(given, draw.choice([as_bracket, as_inequality])(gold)) is (other == gold)


@given(st.text(max_size=60), st.sampled_from(["7", "x+1", r"\text{even}", "(1,2)", r"\{1,2\}"]))
@settings(max_examples=300, deadline=None)
def test_any_text_equals_itself_and_gets_a_verdict(text, gold):
    """Whatever stands in the box; a brace may close it early."""
    assert is_correct(f"\\boxed{{{text}}}", gold) in (True, False)
    if not {*"{}\\<#"} & set(text) and text.strip():
        assert equal(text, text)
