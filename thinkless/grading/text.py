"""What an answer says, read from its text alone: its boxes, its number, its words.

Most gold answers of the benchmarks are plain numbers. Those, words and numbers in another base are
compared here, exactly and in microseconds (`compare`); everything else is first written in one way
(`canonical`) and then left to math-verify, see `grade.py`.

Conventions, as graders of MATH and GSM8K have them: units, currencies and degree signs do not count;
15% equals 15 and 0.15; a decimal that stands for a fraction must agree to six digits; a bare 52 equals
52 in base 8, and 52 in base 9 does not.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

# Possessive quantifiers, and alternatives that exclude each other: every pattern here takes linear time.
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def last_boxes(text: str, count: int = 1) -> list[str]:
    """The contents of the last `count` boxes (``\\boxed``, ``\\fbox``), in order; fewer if there are fewer.

    Empty if there is no box or the last one is never closed: an answer that was cut off is no answer.
    """
    found: list[str] = []
    for start in reversed([match.end() for match in _BOX.finditer(text)]):
        content = _box_content(text, start)
        if content is None or len(found) == count:
            break
        found.insert(0, content.strip())
    return found


def _box_content(text: str, start: int) -> str | None:
    if text[start : start + 1] != "{":  # \boxed 7
        return re.split(r"[\s$]", text[start:], maxsplit=1)[0].rstrip(".,") or None
    depth = 0
    for token in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return text[start + 1 : token.start()]
    return None


_STYLED = re.compile(r"\\(?:text|math|operatorname|mbox|hbox|bm|boldsymbol)[a-z]*+\s*+\{([^{}]*+)\}")
_LOOKALIKES = str.maketrans(
    {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}  # full-width forms of ASCII
    | dict(zip("\u3000\u00a0\u2009\u202f−–∗⁄÷。、", "    --*//.,", strict=True))
    | {"×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "±": r"\pm "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "√": r"\sqrt"}
    | {"²": "^2", "³": "^3", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "∅": r"\emptyset "}
    | dict.fromkeys("€£¥₹", "")
)
_REWRITINGS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\!\s*+|\\?\$|(?<!\\)\\[()\[\]]|\*\*"), ""),  # with the signs around a formula
    (re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle)(?![A-Za-z])"), ""),
    (re.compile(r"(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad)(?![A-Za-z])"), " "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\sqrt *+(\d++)"), r"\\sqrt{\1}"),  # TeX takes one digit, nobody who writes it means that
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\s*+\{?\s*+\\circ(?![A-Za-z])\s*+\}?|\\degrees?(?![A-Za-z])"), ""),
    (re.compile(r"\\ang\s*+\{([^{}]*+)\}"), r"\1"),
    (re.compile(r"\^\s*+\{?\s*+\\(?:text|mathrm)\s*+\{\s*+(?:st|nd|rd|th)\s*+\}\s*+\}?"), ""),
    (re.compile(r"\\(?:text|mathrm|operatorname)\s*+\{\s*+([ie])\s*+\}"), r"\1"),
    (re.compile(r"(?<=\d)i(?![A-Za-z])"), " i"),  # math-verify takes only a separate i for the imaginary unit
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"(?<![\\A-Za-z])(pi|sqrt|infinity)(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"^\s*+[A-Za-z]\s*+\\in(?![A-Za-z])"), ""),
    (re.compile(r"(?<![\d,. ])\d{1,3}(?: \d{3})++(?![\d/ ])"), lambda match: match[0].replace(" ", "")),
    (re.compile(r"(?<!\w)\s++|\s++(?!\w)"), ""),  # last: a space counts only between words and digits
]


def canonical(answer: str) -> str:
    """Strip an answer of what has no meaning: formula signs, spacing, ``\\left``, degree signs …"""
    boxes = last_boxes(answer)
    text = (boxes[0] if boxes else answer).translate(_LOOKALIKES)
    for pattern, replacement in _REWRITINGS:
        text = pattern.sub(replacement, text)
    text = text.rstrip(".,;:").lstrip(",;:")
    whole = _STYLED.fullmatch(text) or re.fullmatch(r"\{([^{}]*+)\}", text)
    return whole[1] if whole and (text[0] == "{" or re.search(r"\d", whole[1])) else text


class Number(NamedTuple):
    """A plain number, as an answer writes it."""

    value: Fraction
    percent: bool
    is_fraction: bool
    """Whether it is written as a fraction, so that its decimals may be endless."""


_DECIMAL = r"(?:\d{1,3}(?:,\d{3})++(?:\.\d++)?+|\d++(?:\.\d*+)?+|\.\d++)"
_FRAC = re.compile(rf"\\frac *+(?:\{{([-+]?{_DECIMAL})\}}|(\d)) *+(?:\{{({_DECIMAL})\}}|(\d))")
_ROMAN = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mbox|hbox|mathrm)\s*+\{([^{}]*+)\}")
_WORD = r"(?:[^\W\d_]{3,}+|[cmk]m|kg|m[gl]|ft|in|lb|oz|hr|mi|[ap]m|sq)(?![^\W\d_])\.?(?:\^\{?[23]\}?)?"
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?) *+(?:(?P<whole>\d++) (?P<over>\d++)/(?P<under>\d++)"
    rf"|(?P<top>[-+]?{_DECIMAL})/(?P<bottom>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?:(?:\\(?:times|cdot) ?10\^|[eE])\{{?(?P<power>[-+]?\d{{1,3}})\}}?)?+)"
    r"(?P<percent> ?\\?%| ?(?:percent(?:age)?|pct)\b)?+"
    rf"(?P<unit> {_WORD}(?:[ /]{_WORD})*+|(?: ?\\text\{{[^{{}}\d]*+\}}(?:\^\{{?[23]\}}?)?)++"
    r"|[\u2e80-\ud7ff]++)?+"  # 个, 元 and other words that stand without a space
)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "dozen": 12}
_NO_UNITS = re.compile(r"\b(?:or|and|to|not|squared|cubed|half|third)\b|[百千万億亿兆十]")
"""Words after a number that change it or add another one."""


def number(answer: str) -> Number | None:
    """The number that a canonical answer consists of, with or without a unit; None if it is anything else."""
    text = _ROMAN.sub(lambda roman: rf"\text{{{roman[1]}}}" if roman[1].strip() else "", answer)
    text = _FRAC.sub(lambda frac: f" {frac[1] or frac[2]}/{frac[3] or frac[4]}", text).strip()
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    unit = (match["unit"] or "").replace(r"\text", " ").lower()
    value = _value({name: part.replace(",", "") for name, part in match.groupdict().items() if part})
    if value is None or _NO_UNITS.search(unit):
        return None
    first_word = re.search(r"[a-z]+", unit)
    scale = _SCALES.get(first_word[0], 1) if first_word else 1
    return Number(value * scale, match["percent"] is not None, match["decimal"] is None)


def _value(parts: dict[str, str]) -> Fraction | None:
    sign = -1 if parts.get("sign") == "-" else 1
    try:
        if "whole" in parts:
            return sign * (int(parts["whole"]) + Fraction(int(parts["over"]), int(parts["under"])))
        if "top" in parts:
            return sign * Fraction(parts["top"]) / Fraction(parts["bottom"])
        return sign * Fraction(parts["decimal"]) * Fraction(10) ** int(parts.get("power", 0))
    except ZeroDivisionError:
        return None


def _same_number(given: Number, gold: Number) -> bool:
    if given.percent != gold.percent and given.value != gold.value:  # 15% is 15 as well as 0.15
        return given.value / (100 if given.percent else 1) == gold.value / (100 if gold.percent else 1)
    if given.is_fraction != gold.is_fraction and gold.value:
        place = (Decimal(gold.value.numerator) / gold.value.denominator).adjusted()  # of the first digit
        return abs(given.value - gold.value) <= Fraction(10) ** (place - 5) / 2
    return given.value == gold.value


_BASED = re.compile(r"(?P<digits>\d[0-9A-Z]*+)(?:(?:_[{(]*+| ?\(?(?:in )?base ?)(?P<base>\d++)[)}]*+)?+")
_CHOICE = re.compile(r"\(?([A-Z])(?:[).: ].*+)?", re.DOTALL)


def words(answer: str) -> str | None:
    """The words that an answer consists of, in lower case and without punctuation; None if anything else."""
    plain = re.sub(r"""["'“”‘’.,()-]""", " ", _STYLED.sub(r" \1 ", answer))
    text = " ".join(plain.lower().split())
    return text if re.fullmatch(r"[^\W\d_]++(?: [^\W\d_]++)*+", text) else None


def compare(given: str, gold: str) -> bool | None:
    """Whether two canonical answers are equal, where their text decides it; None where mathematics must.

    Bare letters may be a product of variables: only `\\text{…}` and four letters or more are words.
    """
    if given == gold:
        return True
    unstyled = _STYLED.sub(r"\1", given)
    if (in_base := _BASED.fullmatch(gold)) and in_base["base"]:
        answer = _BASED.fullmatch(unstyled)
        return answer is not None and answer.groups() in (in_base.groups(), (in_base["digits"], None))
    quantities = number(given), number(gold)
    if quantities[0] and quantities[1]:
        return _same_number(quantities[0], quantities[1])
    text = words(gold)
    if text is None or (len(text) < 4 and not _STYLED.search(gold)):
        return None
    choice = _CHOICE.fullmatch(unstyled) if len(text) == 1 else None
    return (choice[1].lower() if choice else words(given)) == text
