"""Quantities: an expression with a scale, a percent sign, an ending such as `th`, or a unit behind it."""

from fractions import Fraction

from thinkless.grading.expressions import Expressions, Refused
from thinkless.grading.tokens import END, Token
from thinkless.grading.units import BEHIND, CURRENCIES, POWERS, SCALES, conversion, may_describe, unit_name
from thinkless.grading.values import Quantity, Tree, exact, operations, rewritten

SEPARATORS = {",", ";", "and", "or", "&", "和", "或"}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
EQUAL = {"=", "~"}
RELATIONS = {*EQUAL, *MIRRORED, "!=", "\\equiv"}
JOINS = {"\\cup": "cup", "\\cap": "cap", "\\setminus": "setminus"}
_CLOSING = {")", "]", "}", "\\}", "\\rangle"}
_ENDS = {*SEPARATORS, *RELATIONS, *JOINS, *_CLOSING, ":", "to", "|", "[", "\\mod", "mod"}
"""Signs before which a quantity ends."""
_TRIGONOMETRIC = {"sin", "cos", "tan", "cot", "sec", "csc"}
_DEGREES = {"degree", "celsius", "fahrenheit"}
_PUNCTUATION = set("\"'.,!()-{}:")


def plain(tokens: tuple[Token, ...]) -> str:
    """In lower case and without spaces; without punctuation if there is nothing but words."""
    signs = [token.text.casefold() for token in tokens]
    words = [sign for sign in signs if sign not in _PUNCTUATION]
    return "".join(words if all(map(str.isalpha, words)) else signs)


class Quantities(Expressions):
    """The level of the grammar above expressions."""

    def quantity(self) -> Quantity:
        start = self.position
        if self.next.text == "-" and self.texts(2)[-1] in CURRENCIES:  # -$5
            self.tokens[start : start + 2] = self.tokens[start + 1], self.tokens[start]
        unit = [(CURRENCIES[self.take()], 1)] if self.next.text in CURRENCIES else []
        tree = self.expression()
        while self.next.text.lower() in SCALES:
            tree = ("mul", tree, Fraction(SCALES[self.take().lower()]))
        percent = self.skip("%", "percent", "percentage", "pct")
        if percent:
            while self.next.kind == "word" and may_describe(self.next.text):  # 15% increase
                self.take()
        elif not self.skip("st", "nd", "rd", "th"):  # an ordinal with a noun, 12th grade, is no number
            unit += self.unit()
            tree = self.smaller(tree, unit)
        a_phrase = unit and all(
            token.kind == "name" for token in self.written[start : start + 2]
        )  # no solutions
        if a_phrase or not self.at_end():
            raise Refused
        degrees = operations(tree) & _DEGREES
        if degrees and not _TRIGONOMETRIC & operations(tree):
            tree = rewritten(
                tree, lambda part: part[1] if isinstance(part, tuple) and part[0] in _DEGREES else part
            )
            unit = [(max(degrees), 1)]
        return Quantity(tree, tuple(unit), percent, plain(self.written[start : self.position]))

    def at_end(self) -> bool:
        return self.next is END or self.next.text in _ENDS

    def smaller(self, tree: Tree, unit: list[tuple[str, int]]) -> Tree:
        """With what follows in a smaller unit: 5 feet 6 inches, 1 hour and 30 minutes."""
        start = self.position
        if not unit or not (self.skip("and") or self.next.kind == "number") or self.next.kind != "number":
            self.position = start
            return tree
        rest = self.quantity()
        factor = conversion(rest.unit, tuple(unit)) if rest.unit else None
        if factor is None or factor >= 1 or exact(tree) is None:
            self.position = start  # another element
            return tree
        return ("add", tree, ("mul", rest.tree, factor))

    def unit(self) -> list[tuple[str, int]]:
        """The unit up to the quantity's end, as factors: km/h gives km to the 1 and h to the -1."""
        found: list[tuple[str, int]] = []
        power, sign, open_end = 1, 1, False
        while not self.at_end() and (open_end or self.next.kind != "number"):
            text, was_open, open_end = self.take(), open_end, True
            if text in ("/", "per", "a") and not was_open:
                sign = -1
            elif text in POWERS and not (found and text.endswith("ed")):
                power = POWERS[text]
            elif found and (text == "^" or text in POWERS) and not was_open:
                exponent = exact(self.exponent()) if text == "^" else Fraction(POWERS[text])
                if exponent is None or exponent.denominator != 1:
                    raise Refused
                found[-1], open_end = (found[-1][0], sign * int(exponent)), False
            elif text == "\\frac":
                top, bottom = self.within_group(), self.within_group()
                found += top + [(name, -exponent) for name, exponent in bottom]
                open_end = False
            elif name := unit_name(text):
                found.append((name, sign * power))
                power, open_end = 1, False
            elif (
                (text == "." and (found or power > 1))
                or text in BEHIND
                or (text == "times" and self.at_end())
            ):
                open_end = was_open
            elif not (text in ("*", "of") and found) and (was_open or not may_describe(text)):
                raise Refused
        if open_end:
            raise Refused
        return found

    def within_group(self) -> list[tuple[str, int]]:
        self.take("{")
        return self.within("}", self.unit)
