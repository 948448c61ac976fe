"""Proves that a failed assert of a chapter says what it compared, and changes nothing that holds.

Run: python -m pytest tests/book/test_checks.py
"""

import ast

import numpy as np
import pytest

from thinkless.book.checks import ExplainedAsserts, load_ipython_extension


def execute(source, **names):
    tree = ExplainedAsserts().visit(ast.parse(source))
    exec(compile(tree, "cell", "exec"), names)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("assert a < 2", "expected a < 2; a is 3"),
        ("assert 1 < a < b", "expected 1 < a < b; a is 3; b is 2"),
        ("assert (v > 0).all()", "expected (v > 0).all(); v is [ 1 -1]"),
        ("assert not a", "expected not a"),
        ("assert all(x > 0 for x in v)", "expected all((x > 0 for x in v))"),
        ("assert a == 'three'", "expected a == 'three'; a is 3"),
        ("def f(k):\n    assert k == 0\nf(5)", "expected k == 0; k is 5"),
        ("assert a < 2, f'mine: {a}'", "mine: 3"),
    ],
)
def test_a_failed_assert_says_what_it_compared(source, message):
    with pytest.raises(AssertionError) as caught:
        execute(source, a=3, b=2, v=np.array([1, -1]))
    assert str(caught.value) == message


def test_a_long_value_is_one_short_line():
    with pytest.raises(AssertionError) as caught:
        execute("assert v.sum() == 1 and (v == 1).all() or (v > 1).all()", v=np.zeros(10_000))
    assert "\n" not in str(caught.value)
    with pytest.raises(AssertionError) as caught:
        execute("assert (v > 1).all()", v=np.zeros((300, 300)))
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_an_assert_that_holds_evaluates_its_sides_once():
    calls = []
    execute("assert f() == 1", f=lambda: calls.append(1) or 1)
    assert calls == [1]


def test_the_extension_adds_the_transformer():
    class Shell:
        ast_transformers = []

    load_ipython_extension(Shell)
    assert isinstance(Shell.ast_transformers[0], ExplainedAsserts)
