"""What an answer can be: a quantity, a group of values, a named value, a relation, or a text.

An expression is a tree: a number (`Fraction` if it is exact, `Decimal` if it was written as a decimal), a
name (`str`), or a tuple of an operation and its arguments, such as ``("add", "x", Fraction(1))``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

Tree = Any
Unit = tuple[tuple[str, int], ...]
CONSTANTS = {"pi", "e", "i", "oo"}


@dataclass(frozen=True)
class Quantity:
    """An expression, perhaps with a unit: factors such as (("km", 1), ("h", -1))."""

    tree: Tree
    unit: Unit = ()
    percent: bool = False
    written: str = field(default="", compare=False)
    """As it was written, without spaces, for a comparison with words."""


@dataclass(frozen=True)
class Group:
    """Values together, by kind: list, ratio, cup, cap, setminus, or the brackets of a tuple or interval."""

    kind: str
    members: tuple["Value", ...]
    braced: bool = field(default=False, compare=False)
    """Of a list, whether it is a set, which is no point."""


@dataclass(frozen=True)
class Named:
    """A value with the name that the answer gives it: x = 5, f(x) = 2x, x in [0, 1)."""

    name: str
    value: "Value"


@dataclass(frozen=True)
class Relation:
    """An equation, inequality or congruence that is more than a name and its value."""

    sign: str
    left: Tree
    right: Tree
    modulus: Tree = None


@dataclass(frozen=True)
class Text:
    """Words, a time, a number in a base, or what was not understood: equal to the same, and nothing else."""

    words: str
    short: str = ""
    """What is enough of it: the digits of a number in a base."""


Value = Quantity | Group | Named | Relation | Text


def leaves(tree: Tree) -> Iterator[Tree]:
    """The numbers and names of an expression, in no order."""
    parts = [tree]
    while parts:
        part = parts.pop()
        if isinstance(part, tuple):
            parts += part[1:]
        else:
            yield part


def names(tree: Tree) -> set[str]:
    """The variables of an expression."""
    return {leaf for leaf in leaves(tree) if isinstance(leaf, str)} - CONSTANTS


def operations(tree: Tree) -> set[str]:
    """The operations of an expression."""
    return {tree[0]}.union(*map(operations, tree[1:])) if isinstance(tree, tuple) else set()


def is_decimal(tree: Tree) -> bool:
    """Whether a number in it was written as a decimal."""
    return any(isinstance(leaf, Decimal) for leaf in leaves(tree))


def rewritten(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """The expression with each part replaced by what `change` makes of it, from the inside out."""
    if isinstance(tree, tuple):
        tree = (tree[0], *(rewritten(part, change) for part in tree[1:]))
    return change(tree)


def size(value: Fraction) -> int:
    """Bits of a rational number."""
    return value.numerator.bit_length() + value.denominator.bit_length()


def exact(tree: Tree, bits: int = 4096) -> Fraction | None:
    """The value of an expression that is rational and takes no more than so many bits; None of any other."""
    if isinstance(tree, Fraction | Decimal):
        return Fraction(tree)
    if isinstance(tree, str) or tree[0] not in _RATIONAL:
        return None
    values = []
    for part in tree[1:]:
        value = exact(part, bits)
        if value is None:
            return None
        values.append(value)
    result = _RATIONAL[tree[0]](bits, *values)
    return result if result is not None and size(result) <= bits else None


def _power(bits: int, base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or (not base and exponent <= 0):
        return None
    if abs(base) <= 1 and base.denominator == 1:
        return base if exponent % 2 else base * base
    return base ** int(exponent) if (size(base) - 2) * abs(exponent) <= bits else None


def _factorial(bits: int, n: Fraction) -> Fraction | None:
    whole = n.denominator == 1 and 0 <= n * n.numerator.bit_length() <= bits
    return Fraction(math.factorial(int(n))) if whole else None


def _binomial(bits: int, n: Fraction, k: Fraction) -> Fraction | None:
    whole = n.denominator == k.denominator == 1 and 0 <= k <= n <= bits
    return Fraction(math.comb(int(n), int(k))) if whole else None


def _of_integers(function: Callable[[int, int], int]) -> Callable[..., Fraction | None]:
    """Of two integers, as a Fraction; None of others."""

    def of_two(bits: int, a: Fraction, b: Fraction) -> Fraction | None:
        return Fraction(function(int(a), int(b))) if a.denominator == b.denominator == 1 else None

    return of_two


_RATIONAL: dict[str, Callable[..., Fraction | None]] = {
    "add": lambda bits, a, b: a + b,
    "sub": lambda bits, a, b: a - b,
    "mul": lambda bits, a, b: a * b,
    "div": lambda bits, a, b: a / b if b else None,
    "neg": lambda bits, a: -a,
    "abs": lambda bits, a: abs(a),
    "floor": lambda bits, a: Fraction(math.floor(a)),
    "ceil": lambda bits, a: Fraction(math.ceil(a)),
    "power": _power,
    "factorial": _factorial,
    "binomial": _binomial,
    "gcd": _of_integers(math.gcd),
    "lcm": _of_integers(math.lcm),
    "max": lambda bits, a, b: max(a, b),
    "min": lambda bits, a, b: min(a, b),
}
