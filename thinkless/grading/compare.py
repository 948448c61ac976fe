"""When two answers are equal: a table of rules, like with like; what no rule allows is different.

The rules are exact arithmetic and cost microseconds. One that needs more raises `Undecided`, unless it is
given the module `algebra`, which only the sandbox has.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any

from thinkless.grading.answers import parse
from thinkless.grading.tokens import clean
from thinkless.grading.units import conversion
from thinkless.grading.values import (
    Group,
    Named,
    Quantity,
    Relation,
    Text,
    Tree,
    Value,
    exact,
    is_decimal,
    leaves,
    names,
    rewritten,
)

LONGEST_LIST = 64
"""Elements; comparing lists takes the square of it."""

Algebra = ModuleType | None


class Undecided(Exception):
    """Only algebra can tell."""


def matches(given: str, gold: str, algebra: Algebra = None) -> bool:
    """Whether an answer equals the gold answer. Raises Undecided where it needs `algebra` and has none."""
    choice = _choice(gold)
    if choice and _chosen(given) == choice:
        return True
    target = parse(gold, grouped=not _is_tight_bracket(gold))
    undecided = False
    for reading in _readings(given, target):
        try:
            if same(reading, target, algebra):
                return True
        except Undecided:
            undecided = True
    if undecided:
        raise Undecided
    return False


def _is_tight_bracket(gold: str) -> bool:
    """In (5,125) a comma separates; in 5,125 and in (5,125, 7) it groups digits."""
    return bool(re.match(r"[\s$]*(?:\\left)?\\?[(\[{]", gold)) and not re.search(r",\s", gold)


def _readings(given: str, target: Value) -> list[Value]:
    """An answer may be read in several ways, the gold answer in one."""
    found = [parse(given)]
    if re.search(r"\d,\d{3}(?!\d)", given):
        found.append(parse(given, grouped=False))
    if isinstance(target, Quantity) and not names(target.tree) and re.search(r"\d(?:\s|~|\\[ ,;])", given):
        found.append(parse(given, bare_units=True))
    return found


def _choice(gold: str) -> str | None:
    """The letter of a gold answer that is a choice: (B), B or \\text{B}, but not the variable b."""
    found = re.fullmatch(r"\(?([A-Za-z])\)?", _bare(gold))
    return found[1].upper() if found and (found[1].isupper() or len(gold) > 3) else None


def _chosen(given: str) -> str | None:
    """The choice that an answer names: B, (B), or B. with the text of the choice behind it."""
    found = re.fullmatch(
        r"(?i:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*(?:is\b|:)?\s*)?\(?([A-Za-z])\)?|(?:\(([A-Z])\)|([A-Z])\s*[.:)])(.*)",
        _bare(given),
        re.DOTALL,
    )
    doubts = (
        r"(?i)\s*(?:\?|(?:is|isn|are|could|may|might|maybe|perhaps|unless|wrong|can(?:not|'t) be right)\b)"
    )
    others = r"(?i:\b(?:or|and|not|nor|neither)\b)|(?<![\\A-Za-z])[A-Z](?![A-Za-z])"
    if not found or re.search(others, found[4] or "") or re.match(doubts, found[4] or ""):
        return None
    return (found[1] or found[2] or found[3]).upper()


def _bare(answer: str) -> str:
    return re.sub(r"[\ue000\ue001{}]|\\(?=[ ,;])", "", clean(answer)).strip()


def same(a: Value, b: Value, algebra: Algebra = None) -> bool:
    """Whether two values are equal by the rule for their types; without a rule they differ."""
    if a == b:
        return True
    for first, second in ((a, b), (b, a)):
        for kind in (type(second), object):
            if rule := _RULES.get((type(first), kind)):
                return rule(first, second, algebra)
    return False


def _ask(algebra: Algebra) -> ModuleType:
    if algebra is None:
        raise Undecided
    return algebra


# Quantities


def equal(a: Tree, b: Tree, algebra: Algebra) -> bool:
    """Whether two expressions have one value, six digits being enough of an endless decimal."""
    a, b = in_same_letters(a, b)
    if a == b:
        return True
    x, y = exact(a), exact(b)
    if x is None or y is None:
        return _ask(algebra).equal(a, b)
    return x == y or _rounds_to(a, x, b, y) or _rounds_to(b, y, a, x)


def in_same_letters(a: Tree, b: Tree) -> tuple[Tree, Tree]:
    """Take 3R^2 for 3r^2 where neither answer has both letters, and 4I for 4i, as some programs write it."""
    first, second = names(a), names(b)
    if "I" in first - second and "i" in {*leaves(b)} - {*leaves(a)}:
        return rewritten(a, lambda part: "i" if part == "I" else part), b
    if "I" in second - first and "i" in {*leaves(a)} - {*leaves(b)}:
        return a, rewritten(b, lambda part: "i" if part == "I" else part)
    small = {name.lower() for name in first | second}
    if first == second or not len(first) == len(second) == len(small):
        return a, b
    a, b = (rewritten(tree, lambda part: part.lower() if isinstance(part, str) else part) for tree in (a, b))
    return a, b


def _rounds_to(a: Tree, x: Fraction, b: Tree, y: Fraction) -> bool:
    """Whether `a` is the decimal of a fraction that needs more than six significant digits, to these six."""
    if not is_decimal(a) or is_decimal(b) or y.denominator == 1:
        return False
    place = (Decimal(y.numerator) / y.denominator).adjusted()
    if (y * Fraction(10) ** (5 - place)).denominator == 1:  # six digits are all of it
        return False
    return abs(x - y) <= Fraction(10) ** (place - 5) / 2


def _quantities(a: Quantity, b: Quantity, algebra: Algebra) -> bool:
    factor = conversion(a.unit, b.unit) if a.unit and b.unit else 1
    if factor is None:
        return False
    tree = a.tree if factor == 1 else ("mul", a.tree, factor)
    if a.percent == b.percent:
        return equal(tree, b.tree, algebra)
    if a.unit or b.unit:
        return False
    part, other = (tree, b.tree) if a.percent else (b.tree, tree)  # 15% is 0.15 as well as 15
    return equal(part, other, algebra) or equal(("div", part, Fraction(100)), other, algebra)


# Groups


def _groups(a: Group, b: Group, algebra: Algebra) -> bool:
    for one, other in ((a, b), (b, a)):
        if one.braced and len(one.members) == 1 and other.kind == "()":  # the set of one point
            return same(one.members[0], other, algebra)
    kinds = {a.kind, b.kind}
    letters = len(_assigned(a)), len(_assigned(b))
    point = kinds == {"list"} and min(letters) == 0 and max(letters) == len(a.members) > 1
    point = point or kinds == {"list", "()"}  # it may lack its brackets
    if point or (len(kinds) == 1 and a.kind[0] in "(["):
        if a.braced or b.braced or len(a.members) != len(b.members):
            return False
        return all(map(same, _in_order(a), _in_order(b), [algebra] * len(a.members)))
    if kinds in ({"list"}, {"cup"}, {"cap"}):
        if _unordered(a.members, b.members, algebra):
            return True
    elif kinds == {"ratio"}:
        return _ratios(a.members, b.members, algebra)
    if "ratio" in kinds or kinds == {"list"} or ("list" in kinds and not kinds & {"cup", "cap", "setminus"}):
        return False
    return _ask(algebra).same_set(a, b)


def _assigned(group: Group) -> set[str]:
    """The letters that get a value: x and y in x = 4, y = 5, but one x in x_1 = 4, x_2 = 5."""
    return {member.name.partition("_")[0] for member in group.members if isinstance(member, Named)}


def _in_order(group: Group) -> list[Any]:
    """The coordinates of a point: y = 5, x = 4 is (4, 5)."""
    members = list[Any](group.members)
    if all(isinstance(member, Named) and member.name in ("x", "y", "z") for member in members):
        members.sort(key=lambda member: member.name)
    return members


def _unordered(a: tuple[Value, ...], b: tuple[Value, ...], algebra: Algebra) -> bool:
    """Whether each element of one is in the other: neither order nor repetition counts."""
    if max(len(a), len(b)) > LONGEST_LIST or bool(a) != bool(b):
        return False
    return all(any(same(x, y, algebra) for y in b) for x in a) and all(
        any(same(x, y, algebra) for x in a) for y in b
    )


def _ratios(a: tuple[Any, ...], b: tuple[Any, ...], algebra: Algebra) -> bool:
    if len(a) != len(b) or not all(isinstance(part, Quantity) for part in a + b):
        return False
    return all(
        equal(("mul", x.tree, b[0].tree), ("mul", y.tree, a[0].tree), algebra)
        for x, y in zip(a, b, strict=True)
    )


def _group_and_single(a: Group, b: Value, algebra: Algebra) -> bool:
    if a.kind == "()" and isinstance(b, Quantity) and isinstance(b.tree, tuple) and b.tree[0] == "matrix":
        column = [Quantity(*row[1:]) for row in b.tree[1:] if len(row) == 2]
        return len(a.members) == len(column) and all(map(same, a.members, column, [algebra] * len(column)))
    if a.kind == "ratio" and isinstance(b, Quantity) and len(a.members) == 2 and not b.unit:
        return _ratios(a.members, (b, Quantity(Fraction(1))), algebra)
    return a.kind == "list" and len(a.members) == 1 and same(a.members[0], b, algebra)


def _group_and_relation(a: Group, b: Relation, algebra: Algebra) -> bool:
    return a.kind not in ("list", "ratio") and _ask(algebra).same_set(a, b)


# Names, relations, texts


def _named(a: Named, b: Value, algebra: Algebra) -> bool:
    if not isinstance(b, Named | Relation):
        return same(a.value, b, algebra)
    if isinstance(b, Relation) and isinstance(a.value, Group):  # x in a set, x != 2
        return names(("=", b.left, b.right)) == {a.name} and _group_and_relation(a.value, b, algebra)
    if isinstance(b, Named) and a.name == b.name:
        return same(a.value, b.value, algebra)
    first, second = _equation(a), _equation(b)
    return first is not None and second is not None and _relations(first, second, algebra)


def _equation(value: Named | Relation) -> Relation | None:
    """y = 2x as an equation between variables."""
    if isinstance(value, Relation):
        return value
    plain = len(value.name) == 1 and isinstance(value.value, Quantity)
    return (
        Relation("=", value.name, value.value.tree) if plain and isinstance(value.value, Quantity) else None
    )


def _relations(a: Relation, b: Relation, algebra: Algebra) -> bool:
    if a.sign != b.sign:
        return False
    if a.sign == "\\equiv":
        turns = exact(("div", ("sub", a.right, b.right), a.modulus))
        residues = turns is not None and turns.denominator == 1
        return residues and equal(a.modulus, b.modulus, algebra) and equal(a.left, b.left, algebra)
    if not names(("=", a.left, a.right, b.left, b.right)):
        return equal(a.left, b.left, algebra) and equal(a.right, b.right, algebra)
    differences = ("sub", a.left, a.right), ("sub", b.left, b.right)
    return _ask(algebra).proportional(*differences, signed=a.sign not in ("=", "!="))


def _relation_and_number(a: Relation, b: Quantity, algebra: Algebra) -> bool:
    """2 + 3 = 5 gives 5; x + y = 0 does not give 0."""
    if a.sign != "=" or names(a.left) or names(a.right):
        return False
    return equal(a.left, a.right, algebra) and equal(a.right, b.tree, algebra)


def _text_and_quantity(a: Text, b: Quantity, algebra: Algebra) -> bool:
    """A number in a base may lack it; three letters may be a word and no product."""
    return b.written == a.short if a.short else a.words.isalpha() and a.words == b.written


def _texts(a: Text, b: Text, algebra: Algebra) -> bool:
    return (bool(a.short) and b.words == a.short) or (bool(b.short) and a.words == b.short)


_RULES: dict[tuple[type, type], Callable[..., bool]] = {
    (Named, object): _named,
    (Quantity, Quantity): _quantities,
    (Group, Group): _groups,
    (Group, Quantity): _group_and_single,
    (Group, Text): _group_and_single,
    (Group, Relation): _group_and_relation,
    (Relation, Relation): _relations,
    (Relation, Quantity): _relation_and_number,
    (Text, Quantity): _text_and_quantity,
    (Text, Text): _texts,
}
"""By the types of both values, in either order; equal values need no rule."""
