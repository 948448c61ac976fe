"""Equality beyond exact arithmetic, in the sandbox: to many digits, and of functions at points.

Two expressions are equal if they agree to a hundred bits, relative to their size, at each of several fixed
points where both are real (or have a value at all, if one has an i). That takes milliseconds where
simplifying may take for ever. The precision grows with the numbers in them, so 2^1000 pi is not (2^1000 + 1)
pi; what a sum leaves of two equals is zero.
"""

import functools
import math
import operator
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from mpmath import mp, mpc, mpf

from thinkless.grading.values import (
    Group,
    Named,
    Quantity,
    Relation,
    Tree,
    Value,
    exact,
    is_decimal,
    leaves,
    names,
    size,
)

BITS = 2**17
"""Size of a rational number that is still computed exactly."""
LARGEST_EXPONENT = 10**7
"""Binary exponent of a value; a tower beyond it has no value here."""
_ERRORS = (ArithmeticError, ValueError, TypeError, KeyError, AttributeError)
_STEPS = (mpf(10) ** -20, mpf(10) ** -9, mpf(10) ** -3, mpf(1) / 3, mpf(5))
"""Distances from the ends of an interval at which sets are compared."""


class Outside(ArithmeticError):
    """No value here: not defined, not real, or too large."""


def equal(a: Tree, b: Tree) -> bool:
    """Whether two expressions have one value, or are one function."""
    x, y = exact(a, BITS), exact(b, BITS)
    if x is not None and y is not None:
        return x == y
    if names(a) | names(b):
        return _hold(_close, a, b)
    try:
        with mp.workprec(_precision(a, b)):
            first, second = _evaluate(a, {}, False), _evaluate(b, {}, False)
            return _close(first, second) or _rounds_to(a, first, b, second) or _rounds_to(b, second, a, first)
    except _ERRORS:
        return False


def proportional(f: Tree, g: Tree, signed: bool) -> bool:
    """Whether f = 0 and g = 0 say the same: f / g is one constant (a positive one if `signed`)."""
    ratios: list[Any] = []

    def one_ratio(x, y) -> bool:
        if x == 0 or y == 0:
            return x == y
        ratios.append(x / y)
        return _close(ratios[0], ratios[-1]) and not (signed and ratios[0] < 0)

    return _hold(one_ratio, f, g) and len(ratios) > 1


def _hold(condition: Callable[..., bool], a: Tree, b: Tree) -> bool:
    """Whether a condition holds for the values wherever both have one, and that is at two points or more."""
    real = "i" not in {*leaves(a), *leaves(b)}
    valid = 0
    with mp.workprec(_precision(a, b)):
        for point in _points(tuple(sorted(names(a) | names(b)))):
            try:
                values = _evaluate(a, point, real), _evaluate(b, point, real)
            except _ERRORS:
                continue
            if not condition(*values):
                return False
            valid += 1
    return valid > 1


@functools.lru_cache(maxsize=64)
def _points(variables: tuple[str, ...]) -> list[dict[str, mpf]]:
    """Three positive points, three of any sign, three of whole numbers."""
    rng = random.Random(0)
    bounds = [(0.2, 2.5)] * 3 + [(-2.5, 2.5)] * 3
    points = [{name: mpf(rng.uniform(*each)) for name in variables} for each in bounds]
    return points + [{name: mpf(rng.randint(2, 9)) for name in variables} for _ in range(3)]


def _precision(a: Tree, b: Tree) -> int:
    return 300 + 2 * max(_widest(a), _widest(b))


def _widest(tree: Tree) -> int:
    """Bits of the largest exact number in an expression."""
    value = exact(tree, 2**14)
    if value is not None:
        return size(value)
    return max(map(_widest, tree[1:]), default=0) if isinstance(tree, tuple) else 0


def _close(x, y) -> bool:
    if isinstance(x, mp.matrix) or isinstance(y, mp.matrix):
        return type(x) is type(y) and (x.rows, x.cols) == (y.rows, y.cols) and all(map(_close, x, y))
    finite = mp.isfinite(x) and mp.isfinite(y)
    return x == y or (finite and abs(x - y) <= max(abs(x), abs(y)) * mpf(2) ** (200 - mp.prec))


def _rounds_to(a: Tree, x, b: Tree, y) -> bool:
    """Whether `a` is a decimal of an irrational number: to six decimals, or six digits of one below 1."""
    if (
        not is_decimal(a)
        or exact(a, BITS) is None
        or exact(b, BITS) is not None
        or not mp.isfinite(y)
        or y == 0
    ):
        return False
    place = min(0, math.floor(mp.log10(abs(y))) + 1)
    return abs(x - y) <= mpf(10) ** (place - 6) / 2


def _evaluate(tree: Tree, point: dict[str, mpf], real: bool):
    """The value at a point; raises Outside where there is none."""
    if isinstance(tree, str):
        return _CONSTANTS[tree]() if tree in _CONSTANTS else point[tree]
    if not isinstance(tree, tuple):
        fraction = Fraction(tree)
        return mpf(fraction.numerator) / fraction.denominator
    if tree[0] == "matrix":
        return mp.matrix([[_evaluate(entry, point, real) for entry in row[1:]] for row in tree[1:]])
    value = _OPERATIONS[tree[0]](*(_evaluate(part, point, real) for part in tree[1:]))
    if isinstance(value, mp.matrix):
        return value
    if (real and isinstance(value, mpc)) or mp.isnan(value) or _exponent(value) > LARGEST_EXPONENT:
        raise Outside
    return value


def _exponent(value) -> int:
    """Binary exponent, the larger of both parts of a complex number; 0 of zero and infinity."""
    return abs(mp.mag(value)) if value and mp.isfinite(value) else 0


def _add(x, y, sign: int = 1):
    total = x + sign * y
    if isinstance(total, mp.matrix) or not mp.isfinite(total):
        return total
    return total if abs(total) >= abs(x) * mpf(2) ** (60 - mp.prec) else mpf(0)


def _power(base, exponent):
    if isinstance(base, mp.matrix):
        return base ** int(exponent)
    if (base == 0 and exponent <= 0) or _exponent(exponent) > 40:
        raise Outside
    return base**exponent


def _up_to(exponent: int, function: Callable) -> Callable:
    """The function, for arguments that do not take for ever."""

    def limited(x):
        if _exponent(x) > exponent:
            raise Outside
        return function(x)

    return limited


_factorial = _up_to(24, mp.factorial)
_CONSTANTS = {"pi": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mpc(0, 1), "oo": lambda: mp.inf}
_FUNCTIONS = ["sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "floor", "ceil"]
_OPERATIONS: dict[str, Callable] = {
    "add": _add,
    "sub": functools.partial(_add, sign=-1),
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "power": _power,
    "abs": abs,
    "max": max,
    "min": min,
    "log": mp.log,
    "cbrt": mp.cbrt,
    "degree": lambda x: x * mp.pi / 180,
    "factorial": _factorial,
    "binomial": lambda n, k: _factorial(n) / _factorial(k) / _factorial(n - k),
    **{name: _up_to(4096, getattr(mp, name)) for name in _FUNCTIONS},
    **{name: _up_to(40, getattr(mp, name)) for name in ("exp", "sinh", "cosh", "tanh")},
}


# Sets of real numbers


def same_set(a: Value, b: Value) -> bool:
    """Whether two sets agree at all ends of intervals, close to them, and on a grid."""
    try:
        with mp.workprec(300):
            ends = [end for value in (a, b) for end in _ends(value)]
            probes = [*ends, *(end + sign * step for end in ends for step in _STEPS for sign in (1, -1))]
            grid = [mpf(number) / 7 for number in range(-140, 141)]
            return bool(ends) and all(_has(a, x) == _has(b, x) for x in probes + grid)
    except _ERRORS:
        return False


def _ends(value: Value) -> list[mpf]:
    if isinstance(value, Group):
        return [end for member in value.members for end in _ends(member)]
    if isinstance(value, Named):
        return _ends(value.value)
    found = [_evaluate(value.tree, {}, True)] if isinstance(value, Quantity) else []
    return [end for end in found if mp.isfinite(end)]


def _has(value: Any, x: mpf) -> bool:
    """Whether a set has a number; raises one of `_ERRORS` if it is no set of numbers."""
    if isinstance(value, Named):
        return _has(value.value, x)
    if isinstance(value, Quantity):
        return bool(_close(_evaluate(value.tree, {}, True), x))
    if isinstance(value, Relation):
        (name,) = names(value.left) | names(value.right)
        compare = {"<": operator.lt, "<=": operator.le, "=": operator.eq, "!=": operator.ne}[value.sign]
        return bool(compare(_evaluate(("sub", value.left, value.right), {name: x}, True), 0))
    if value.kind in ("list", "cup"):
        return any(_has(member, x) for member in value.members)
    if value.kind == "cap":
        return all(_has(member, x) for member in value.members)
    if value.kind == "setminus":
        return _has(value.members[0], x) and not any(_has(member, x) for member in value.members[1:])
    low, high = (_evaluate(member.tree, {}, True) for member in value.members)
    if low > high or (low == high and value.kind != "[]"):
        raise ValueError  # a point, or a slip
    inside = low < x < high
    return inside or (value.kind[0] == "[" and _close(low, x)) or (value.kind[1] == "]" and _close(high, x))
