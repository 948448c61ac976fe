"""Expressions: from tokens to a tree, by recursive descent; each method reads one level and moves on.

LaTeX and ASCII are one language here: ``\\frac{\\sqrt 3}{2}`` and `sqrt(3)/2` give the same tree. What the
grammar does not know is refused, and never skipped.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import reduce

from thinkless.grading.numerals import LONGEST, read_numeral
from thinkless.grading.tokens import END, FUNCTIONS, VALUES, Token
from thinkless.grading.units import TEMPERATURES
from thinkless.grading.values import Tree

DEEPEST = 40
"""Brackets, groups and signs that may stand in each other; what is deeper is not understood."""

_INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan"}
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "|": "|"}
_ACTING = {"\\lfloor": "floor", "\\lceil": "ceil", "|": "abs"}
_OF_SEVERAL = {"gcd", "lcm", "max", "min", "binomial"}
_SUMS = {"+": "add", "-": "sub", "\\pm": "pm", "\\mp": "mp"}
_MATRICES = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"}


class Refused(Exception):
    """The tokens are no mathematics that the grammar knows."""


class Expressions:
    """A position in a list of tokens, and the levels of the grammar below an answer's."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.written = list(tokens), tuple(tokens)
        self.position, self.depth, self.in_bars = 0, 0, False

    @property
    def next(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else END

    def texts(self, count: int) -> list[str]:
        """The next so many tokens' texts."""
        return [token.text for token in self.tokens[self.position : self.position + count]]

    def take(self, *texts: str) -> str:
        """The next token's text if it is one of `texts`, or any at all; Refused otherwise."""
        token = self.next
        if token is END or (texts and token.text not in texts):
            raise Refused
        self.position += 1
        return token.text

    def skip(self, *texts: str) -> bool:
        found = self.next is not END and self.next.text in texts
        self.position += found
        return found

    def deeper(self, content: Callable) -> Tree:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Refused
        tree = content()
        self.depth -= 1
        return tree

    def within(self, closer: str, content: Callable) -> Tree:
        """What `content` reads up to a closing sign."""
        in_bars, self.in_bars = self.in_bars, closer == "|"
        tree = self.deeper(content)
        self.in_bars = in_bars
        self.take(closer)
        return tree

    # From sums to atoms

    def expression(self) -> Tree:
        tree = self.sum()
        return ("binomial", tree, self.sum()) if self.skip("\\choose", "choose") else tree

    def sum(self) -> Tree:
        tree = Fraction(0) if self.next.text in ("\\pm", "\\mp") else self.product()
        while self.next.text in _SUMS:
            tree = (_SUMS[self.take()], tree, self.product())
        return tree

    def product(self) -> Tree:
        tree = self.signed()
        while True:
            if self.skip("*"):
                tree = ("mul", tree, self.signed())
            elif self.next.text == "/" and self.tokens[self.position + 1 : self.position + 2] != []:
                if self.tokens[self.position + 1].kind == "word":  # of a unit
                    return tree
                self.take()
                tree = ("div", tree, self.signed())
            elif self.continues():
                tree = ("mul", tree, self.power())
            else:
                return tree

    def continues(self) -> bool:
        """Whether a factor follows without a sign between."""
        token = self.next
        if token.kind == "number":
            return self.tokens[self.position - 1].kind != "number"
        if token.text == "\\frac":
            return all(each.kind != "word" for each in self.tokens[self.position : self.position + 3])
        bar = token.text == "|"
        opens = (token.text in _PAIRS and token.text != "[" and not bar) or token.text in (
            "\\binom",
            "\\choose",
        )
        return (
            token.kind == "name" or (opens and token.text != "\\choose") or token.text.startswith("\\begin")
        )

    def signed(self) -> Tree:
        if self.skip("-", "negative", "minus"):
            return ("neg", self.deeper(self.signed))
        self.skip("+")
        return self.power()

    def power(self) -> Tree:
        base = self.postfixed(self.atom())
        return self.postfixed(("power", base, self.exponent())) if self.skip("^", "**") else base

    def exponent(self) -> Tree:
        if self.skip("-"):
            return ("neg", self.deeper(self.exponent))
        tree = self.atom()
        return ("power", tree, self.deeper(self.exponent)) if self.skip("^", "**") else tree  # 2^3^4, upwards

    def postfixed(self, tree: Tree) -> Tree:
        while self.next.text in ("!", "°"):
            tree = ("factorial" if self.take() == "!" else "degree", tree)
            if tree[0] == "degree" and self.next.text in TEMPERATURES:
                tree = (TEMPERATURES[self.take()], tree[1])
        return tree

    def atom(self) -> Tree:
        token = self.next
        if token.kind == "number":
            return number(self.take())
        if token.kind == "name":
            return self.named(self.take().removeprefix("\\"))
        if token.kind == "word" and (numeral := read_numeral([text.lower() for text in self.texts(LONGEST)])):
            self.position += numeral[1]
            return numeral[0]
        text = self.take()
        if text in _PAIRS and not (text == "|" and self.in_bars):
            tree = self.within(_PAIRS[text], self.expression)
            return (_ACTING[text], tree) if text in _ACTING else tree
        if text == "\\frac":
            return ("div", self.argument(), self.argument(last=True))
        if text == "\\binom":
            return ("binomial", self.argument(), self.argument(last=True))
        if text.startswith("\\begin"):
            return self.deeper(lambda: self.matrix(text[len("\\begin{") : -1]))
        raise Refused

    def argument(self, last: bool = False) -> Tree:
        """What a command applies to: a group, or the next sign; of 12 only the 1.

        In \\\\frac431 nobody knows what the 1 is: refused, as the `last` argument must take all.
        """
        token = self.next
        if token.kind != "number" or len(token.text) == 1:
            return self.atom()
        if last or not token.text.isdecimal():
            raise Refused
        self.tokens[self.position] = Token("number", token.text[1:])
        return Fraction(int(token.text[0]))

    def named(self, name: str) -> Tree:
        """A constant, a function with its argument, or a variable with its subscript."""
        if name in VALUES:
            return VALUES[name]
        name = FUNCTIONS.get(name, name)
        if name == "sqrt":
            index = self.within("]", self.expression) if self.skip("[") else Fraction(2)
            return ("power", self.atom(), ("div", Fraction(1), index))
        if name in _OF_SEVERAL:
            return self.of_several(name)
        if name in FUNCTIONS.values():
            return self.function(name)
        if self.skip("_"):
            name += "_"
            if self.skip("{"):
                while self.next.text != "}":
                    name += self.take()
                self.take()
            else:
                name += self.take()
        while self.skip("'"):
            name += "'"
        opened, inside, closed = (*self.texts(3), "", "", "")[:3]
        if (opened, closed) == ("(", ")") and inside.isdecimal():  # f(0) is a value of f, and not f times 0
            self.position += 3
            name += f"({inside})"
        return name

    def of_several(self, name: str) -> Tree:
        """A function of two arguments or more: gcd(12, 18, 30)."""
        closer = ")" if self.take("(", "\\{") == "(" else "\\}"
        _, *entries = self.within(closer, lambda: self.entries(","))
        return reduce(lambda tree, entry: (name, tree, entry), entries)

    def entries(self, separator: str) -> Tree:
        row = [self.expression()]
        while self.skip(separator):
            row.append(self.expression())
        return ("row", *row)

    def function(self, name: str) -> Tree:
        base = self.atom() if self.skip("_") else None
        exponent = self.exponent() if self.skip("^") else None
        if exponent == ("neg", Fraction(1)) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        if self.next.text in _PAIRS:
            tree = self.atom()
        else:  # sin 2x, but sin x cos x
            tree = self.deeper(self.power)
            while self.continues() and self.next.text.removeprefix("\\") not in FUNCTIONS:
                tree = ("mul", tree, self.power())
        tree = ("add", ("cos", tree), ("mul", "i", ("sin", tree))) if name == "cis" else (name, tree)
        if base is not None:
            if name != "log":
                raise Refused
            tree = ("div", tree, ("log", base))
        return tree if exponent is None else ("power", tree, exponent)

    def matrix(self, kind: str) -> Tree:
        if kind not in _MATRICES:
            raise Refused
        if kind == "array":
            while self.take() != "}":  # its columns
                pass
        rows, end = [], "\\end{" + kind + "}"
        while not self.skip(end):
            rows.append(self.entries("&"))
            if self.next.text != end:
                self.take("\\\\")
        if len(set(map(len, rows))) != 1:
            raise Refused
        return ("matrix", *rows)


_PERIODIC = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)[\s{]*(\d+)[\s}]*(?:(\d*)\\dot[\s{]*(\d)[\s}]*)?|\((\d+)\))"
)


def number(text: str) -> Fraction | Decimal:
    """The value of a literal: 1,234.5, 1e-3, 0.1\\overline{6}, 0.333\\ldots."""
    if found := _PERIODIC.fullmatch(text):
        return _repeating(found[1], found[2], found[6] or found[3] + (found[4] or "") + (found[5] or ""))
    digits = re.sub(r"\s*(?:\\[lc]?dots|\.\.\.)$", "", text)
    if digits != text and (tail := re.fullmatch(r"(\d*)\.(\d*?)(\d+?)\3+", digits)):
        return _repeating(tail[1], tail[2], tail[3])
    plain = re.sub(r"[,\s]", "", digits)
    return Fraction(int(plain)) if plain.isdecimal() else Decimal(plain)


def _repeating(whole: str, start: str, period: str) -> Fraction:
    shift, scale = 10 ** len(start), 10 ** len(period) - 1
    return Fraction(int((whole or "0") + start) * scale + int(period), shift * scale)
