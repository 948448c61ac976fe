"""Answers: from tokens to what an answer is. What cannot be understood as mathematics is a text.

The grammar from the outside: items between commas, semicolons, `and`, `or`; in an item names with `=`, then
relations between sides; a side is a set, a tuple or a quantity; and then `expressions.py`.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial
from itertools import permutations

from thinkless.grading.expressions import Refused
from thinkless.grading.numerals import NUMERALS
from thinkless.grading.quantities import EQUAL, JOINS, MIRRORED, RELATIONS, SEPARATORS, Quantities, plain
from thinkless.grading.tokens import END, GREEK, Token, clean, tokenize
from thinkless.grading.units import may_describe
from thinkless.grading.values import (
    CONSTANTS,
    Group,
    Named,
    Quantity,
    Relation,
    Text,
    Tree,
    Value,
    exact,
    names,
    operations,
    rewritten,
)

_OPENERS = {"(": "(", "[": "[", "]": "(", "\\langle": "(", "{": ""}  # ]0, 1[ is how the French write (0, 1)
_CLOSERS = {")": ")", "]": "]", "[": ")", "\\rangle": ")"}
_REALS = Group("()", (Quantity(("neg", "oo")), Quantity("oo")))


@lru_cache(maxsize=8192)
def parse(answer: str, grouped: bool = True, bare_units: bool = False) -> Value:
    """What an answer is. `grouped` and `bare_units` are ways to read it, see `tokenize`."""
    if answer.isascii() and answer.isdecimal():  # most answers
        return Quantity(Fraction(int(answer)), written=answer)
    return Answers(tokenize(clean(answer), grouped, bare_units)).whole()


class Answers(Quantities):
    """The outer levels of the grammar; each method reads one and moves on."""

    def whole(self) -> Value:
        """The answer that all the tokens make."""
        try:
            return self.items(lambda: self.next is END)
        except Refused:
            return _text(self.written)

    def items(self, ended: Callable[[], bool]) -> Value:
        found: list[Value] = []
        joints = set()
        while not ended():
            if self.next.text in SEPARATORS:
                joints.add(self.take())
            else:
                found += self.item()
        return _joined(found, joints)

    def item(self) -> list[Value]:
        """An element of a list, two for a plus-minus. At the outside, what is no mathematics is a text."""
        start, depth = self.position, self.depth
        try:
            value = self.time_or_based() or self.relation()
            if depth == 0 and self.next is not END and self.next.text not in SEPARATORS:
                raise Refused
            return _plus_and_minus(value)
        except Refused:
            if depth > 0:
                raise
        self.position, self.depth, self.in_bars = start, 0, False
        return [_text(self.written[start : self.end_of_item()])]

    def end_of_item(self) -> int:
        while self.next is not END and self.next.text not in SEPARATORS:
            self.position += 1
        return self.position

    def time_or_based(self) -> Value | None:
        """A time of day, or a number in a base, if that is all there is to the item."""
        start, name = self.position, self.name()
        begin = self.position
        text = "".join(token.text for token in self.tokens[begin : min(self.end_of_item(), begin + 16)])
        value = _time(text) or _based(text)
        if value is None:
            self.position = start
        return Named(name, value) if name and value else value

    def relation(self) -> Value:
        """Names with `=` before a value, or sides with relations between them."""
        self.skip(*EQUAL)
        name = self.name()
        while self.name():
            pass
        sides, signs, modulus = [self.side()], [], None
        while self.next.text in RELATIONS:
            signs.append(self.take())
            sides.append(self.side())
        if signs == ["\\equiv"]:
            self.take("\\mod", "mod")
            modulus = self.expression()
        while not signs and self.skip(":", "to"):
            sides.append(self.side())
        if name and set(signs) == {"="} and _is_formula(sides[0]) and not _is_formula(sides[-1]):
            value = sides[-1]  # A = \\pi r^2 = 9\\pi
        elif len(signs) > 1 and set(signs) == {"="} and not any(map(_is_formula, sides[1:])):
            value = sides[-1]  # m + n = 3 + 42 = 45
        elif signs:
            value = _related(sides, signs, modulus)
        else:
            value = Group("ratio", tuple(sides)) if sides[1:] else sides[0]
        return Named(name, value) if name else value

    def name(self) -> str | None:
        """The name that stands before `=` or `in`, if one does; moves behind the sign."""
        depth = 0
        for end in range(self.position, min(len(self.tokens), self.position + 24)):
            text = self.tokens[end].text
            depth += (text in ("(", "{")) - (text in (")", "}"))
            if depth == 0 and text in (*EQUAL, "\\in"):
                name = _name(self.tokens[self.position : end])
                self.position = end + 1 if name else self.position
                return name
            if depth == 0 and text in SEPARATORS:
                return None
        return None

    # Sets and tuples

    def side(self) -> Value:
        """A set, a tuple, or a quantity; sets may be joined."""
        value = self.single_side()
        while self.next.text in JOINS or (value == _REALS and self.next.text == "-"):
            kind = JOINS.get(self.take(), "setminus")
            before = value.members if isinstance(value, Group) and value.kind == kind == "cup" else (value,)
            value = Group(kind, (*before, self.single_side()))
        return value

    def single_side(self) -> Value:
        if self.skip("\\emptyset") or (self.texts(2) == ["{", "}"] and self.take() and self.take()):
            return Group("list", (), braced=True)
        if self.skip("\\mathbbR"):
            return _REALS
        if self.skip("\\{"):
            return self.within("\\}", self.set)
        return self.deeper(self.bracket) if self.opens_bracket() else self.quantity()

    def opens_bracket(self) -> bool:
        """Whether a tuple or an interval begins here, and no mere parenthesis."""
        depth = 0
        for token in self.tokens[self.position + 1 :] if self.next.text in _OPENERS else []:
            if depth == 0 and token.text in (",", ";"):
                return True
            depth += (token.text in ("(", "{", "\\{", "[")) - (token.text in (")", "}", "\\}", "]"))
            if depth < 0:
                return False
        return False

    def bracket(self) -> Value:
        left, members = _OPENERS[self.take()], list[Value]()
        if not left:  # {1, 2}, where LaTeX shows no braces
            value = self.items(lambda: self.next.text == "}")
            self.take()
            return value
        while self.next.text not in _CLOSERS:
            members += self.item()
            self.skip(",", ";")
        return Group(left + _CLOSERS[self.take()], tuple(members))

    def set(self) -> Value:
        """A set of elements, or one that a condition on a letter makes."""
        ahead = self.texts(4)
        if ahead[1:2] in (["|"], [":"]) or (
            ahead[1:3] == ["\\in", "\\mathbbR"] and ahead[3:] in (["|"], [":"])
        ):
            while not self.skip("|", ":"):
                self.take()
            if self.texts(3)[1:] == ["\\in", "\\mathbbR"]:  # x in R, and
                self.position += 3
                self.skip(",", "and")
            return self.items(lambda: self.next.text == "\\}")
        value = self.items(lambda: self.next.text == "\\}")
        if isinstance(value, Named):
            return value
        if isinstance(value, Group) and value.kind == "list" and not value.braced:
            return Group("list", value.members, braced=True)
        return Group("list", (value,), braced=True)


def _text(tokens: tuple[Token, ...]) -> Value:
    words = plain(tokens)
    if re.fullmatch("no(?:real)?solutions?|(?:the)?emptyset", words):
        return Group("list", ())
    if re.fullmatch("dne|does(?:not|n't|n’t)exist", words):
        return Text("doesnotexist")
    return _REALS if re.fullmatch("allreal(?:s|numbers)", words) else Text(words)


_TIME = re.compile(r"(\d{1,2})(?:o['’]?clock|:([0-5]\d)(?::([0-5]\d))?)?(?:([ap])\.?m\.?)?", re.IGNORECASE)
_NAMED_TIMES = {"noon": "12pm", "midnight": "12am"}
_BASED = re.compile(
    r"(?=-?\(?[A-Za-z]*\d)(-?(?:\([0-9A-Za-z]++\)|[0-9A-Za-z]++))(?:_\{?\(?(\d{1,2}|[a-z]{3,8})\)?\}?|\(?(?:in)?base_?(\d{1,2}|[a-z]{3,8})\)?)"
)


def _time(text: str) -> Text | None:
    text = re.sub(r"^(?:12(?::00)?)?(noon|midnight)$", lambda named: _NAMED_TIMES[named[1]], text.lower())
    found = _TIME.fullmatch(text)
    if not found or not (found[2] or found[4]) or int(found[1]) > 24:
        return None
    hour = int(found[1]) % 12 + 12 * (found[4] in ("p", "P")) if found[4] else int(found[1])
    known = found[4] or hour > 12  # which half of the day it is
    return Text(f"{hour}:{found[2] or '00'}:{found[3] or '00'}{' of the day' if known else ''}")


def _based(text: str) -> Text | None:
    found = _BASED.fullmatch(text)
    written = (found[2] or found[3]) if found else ""
    base = int(written) if written.isdecimal() else NUMERALS.get(written, 0)
    digits = found[1].casefold().strip("()") if found else ""
    valid = 2 <= base <= 36 and all(int(digit, 36) < base for digit in digits.lstrip("-"))
    in_capitals = found and found[1].upper() == found[1]  # 2a_{11} is a product, 2f_{16} a number
    return Text(f"{digits} in base {base}", digits) if valid and (in_capitals or base == 16) else None


_VARIABLE = rf"(?:[A-Za-z]|[A-Z]{{2,}}|\\(?:{'|'.join(GREEK)}))(?:_(?:\w|\{{[^{{}}]*\}}))?'*"
_NAME = re.compile(
    rf"(?:m?\\(?:angle|triangle|overline|vec|hat|bar)\{{?|\{{)?{_VARIABLE}(?:\^\{{?-1\}}?)?\}}?(?:\((?:[A-Za-z0-9],?)+\))?"
    rf"|\\?(?:sin|cos|tan|cot|sec|csc)\(?(?:\\angle)?(?:{_VARIABLE}|[A-Z]{{3}})\)?|\\frac\{{d[a-z]\}}\{{d[a-z]\}}"
    r"|(?:P|Pr|E|Var|N|\\Pr|\\det)\(?(?:[A-Za-z0-9,|=<>+]|\\cap|\\cup)+\)?"
    rf"|\((?:{_VARIABLE},)+{_VARIABLE}\)|\|[A-Z]{{2}}\||\[[A-Z]{{3,}}\]"
)


def _name(tokens: list[Token]) -> str | None:
    text = "".join(token.text for token in tokens)
    words = tokens and all(
        t.kind == "word" and (may_describe(t.text) or t.text in ("of", "the")) for t in tokens
    )
    return text if words or _NAME.fullmatch(text) else None


def _plus_and_minus(value: Value) -> list[Value]:
    if isinstance(value, Named):
        return [Named(value.name, each) for each in _plus_and_minus(value.value)]
    if not isinstance(value, Quantity) or not {"pm", "mp"} & operations(value.tree):
        return [value]
    ways = {"pm": "add", "mp": "sub"}, {"pm": "sub", "mp": "add"}
    return [Quantity(rewritten(value.tree, partial(_renamed, way)), value.unit) for way in ways]


def _renamed(way: dict[str, str], part: Tree) -> Tree:
    return (way.get(part[0], part[0]), *part[1:]) if isinstance(part, tuple) else part


def _joined(found: list[Value], joints: set[str]) -> Value:
    """A list; with one name for all of it where it has one: n = 2, 3 or x = 2, x = 3 or x < 1, x > 2."""
    if len(found) == 1:
        return found[0]
    named = [value for value in found if isinstance(value, Named)]
    one_name = named and named[0] is found[0] and len({value.name for value in named}) == 1
    if not one_name or len(named) not in (1, len(found)):
        return Group("list", tuple(found))
    values = tuple(value.value if isinstance(value, Named) else value for value in found)
    intersect = "and" in joints or ("or" not in joints and _cover_all(values))
    if any(isinstance(value, Relation) and value.sign == "!=" for value in values):
        return Named(named[0].name, Group("cap", values))  # x > 0, x \\ne 1
    sets = len(named) > 1 and all(
        isinstance(value, Group) and value.kind not in ("list", "ratio") for value in values
    )
    return Named(named[0].name, Group(("cap" if intersect else "cup") if sets else "list", values))


def _cover_all(values: tuple[Value, ...]) -> bool:
    """Whether two rays make up the whole line, as x > 1, x < 2 do: then both conditions are meant at once."""
    pairs = [value.members for value in values if isinstance(value, Group) and len(value.members) == 2]
    for (start, top), (bottom, end) in permutations(pairs, 2) if len(pairs) == len(values) == 2 else []:
        if (bottom, top) == _REALS.members and isinstance(start, Quantity) and isinstance(end, Quantity):
            low, high = exact(start.tree), exact(end.tree)
            return low is not None and high is not None and low < high
    return False


def _is_formula(side: Value) -> bool:
    return isinstance(side, Quantity) and bool(names(side.tree))


def _related(sides: list[Value], signs: list[str], modulus: Tree) -> Value:
    trees = [side.tree for side in sides if isinstance(side, Quantity) and not side.percent]
    if len(trees) != len(sides):
        raise Refused
    if signs == ["="] and _is_letter(trees[1]) and not names(trees[0]):  # 5 = x
        return Named(trees[1], sides[0])
    if len(signs) == 1 and signs[0] not in MIRRORED:
        return Relation("=" if signs[0] == "~" else signs[0], trees[0], trees[1], modulus)
    if signs[0] in (">", ">="):
        trees, signs = trees[::-1], [MIRRORED.get(sign, "") for sign in reversed(signs)]
    if not set(signs) <= {"<", "<="} or len(trees) > 3:
        raise Refused
    for index in (1,) if len(trees) == 3 else (0, 1):
        bounds = trees[:index] + trees[index + 1 :]
        if _is_letter(trees[index]) and not any(map(names, bounds)):
            return Named(trees[index], _interval(trees, signs, index))
    if len(trees) != 2:
        raise Refused
    return Relation(signs[0], trees[0], trees[1])


def _is_letter(tree: Tree) -> bool:
    return isinstance(tree, str) and tree not in CONSTANTS


def _interval(trees: list[Tree], signs: list[str], index: int) -> Group:
    """From a < x <= b, with x at `index`, to (a, b]."""
    low = trees[index - 1] if index else ("neg", "oo")
    high = trees[index + 1] if index + 1 < len(trees) else "oo"
    left = "[" if index and signs[index - 1] == "<=" else "("
    right = "]" if index + 1 < len(trees) and signs[index] == "<=" else ")"
    return Group(left + right, (Quantity(low), Quantity(high)))
