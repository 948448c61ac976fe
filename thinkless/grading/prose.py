"""The answer of a line without marks: what its last `=` gives, or all of it, or its last mathematics.

A line is cut at its words; what stands between them is mathematics as it is, or not at all: the area 9π is
not 9. What a number's neighbours make of it stays with it: at least 6, 52 in base 8.
"""

import re
from collections.abc import Iterator

_BEHIND_NUMBERS = (
    "[APap][Mm]|[cmkµn]m|[mk]?g|[mc]?[lL]|k[NJWh]|ft|mi|mph|kmh?|hr?s?|min|sec|lbs?|oz"
    "|percent|hundred|thousand|[mb]illion"
)
_WORD = (
    r"(?<![A-Za-z\\])(?!(?:sqrt|pi|sin|cos|tan|log|ln|mod)(?![A-Za-z]))"
    rf"(?!(?:(?<=\d)|(?<=\d\s))(?:{_BEHIND_NUMBERS})(?![A-Za-z]))"
    r"(?:[^\W\d_]{2,}+(?:['’][a-z]+)?|I['’][a-z]+|(?<!\S)(?:[aI](?!\S)|(?<!\d\s)[A-Za-z](?=\s+[\d$])))"
)
_BRACKET = rf"[(\[{{](?:(?!{_WORD})(?:[^()\[\]{{}}]|[({{][^(){{}}]{{0,50}}[)}}])){{0,200}}[)\]}}]"
_CUT = rf"{_WORD}|[,;?]\s+|\.\s+|!\s+(?![a-z])|[⇒→—\"“”]|(?<!\d)(?<!\d\s):\s"
_PIECE = re.compile(rf"(?P<whole>{_BRACKET}|(?<=\d)\s+(?:in\s+)?base\s+(?=\d))|{_CUT}")
WORD = re.compile(_WORD)
EDGES = re.compile(r"^(?:\*\*|[\s.`_$。])++|(?:\*\*|[\s.`_$。])++$")
_LABEL = re.compile(r"^[^\n:]{0,29}[^\n:\s\d]:\s|^\s*(?:[-*•>]|#+|\d{1,2}[.)])\s+(?=\S)")
_MARKS = re.compile(
    r"</?[a-z]+>|\\(?:begin|end)\s*\{(?:align|equation|gather|split)[a-z]*\*?\}|&|~~?(?=\S+~)|(?<=\S)~+$"
)
_COURTESY = re.compile(
    r"\b(?:hope|help|know|free|questions?|clarif\w+|thanks?|luck|welcome)\b", re.IGNORECASE
)
_MATHEMATICS = re.compile(r"\d|[√π∞½⅓¼⅔¾]|\\|[A-Za-z)]\s*[=+^]|\b(?:pi|sqrt)\b")
_BEFORE = re.compile(r"(?:[\s.,;:?*#`_'’)\]}/=]|[$+−–-](?=\s))+")
_BEHIND = re.compile(r"(?:[\s.,;:?*#`_'’(\[{$/=+−–-])+$")
_TIGHT_UNIT = re.compile(r"(?<=\d)(?=[msghlLNJWVKAF]$)")

_EITHER = re.compile(r"\b[A-Za-z](?:_\w+)?\s*=[^=\n]{1,60}\bor\b\s*[A-Za-z](?:_\w+)?\s*=[^=\n]{1,60}$")
_EQUALS = re.compile(r"(?<![<>!:])=(?!>)")
_THEN = re.compile(r"[,;](?:\s+|(?=[A-Za-z]\s*=))|[⇒→]|\\(?:Rightarrow|implies)|=>")
_NAME = re.compile(r"\s*[A-Za-z](?:_\w+)?'?(?:\([^()]*\))?\s*")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")

_HEDGE = re.compile(
    r"(?:(?:\b(?:not|never|cannot|whether|maybe|perhaps|possibly)|n['’]t)(?:\s+(?:be|equal|to|exactly|it|is))*"
    r"|\b(?:between|(?:more|less|fewer|greater|larger|smaller)\s+than|at\s+(?:least|most)|up\s+to"
    r"|(?:all|any\w*)\s+but|over|under|above|below|beyond|almost|nearly|close\s+to|except|exclud\w+|exceeds|without"
    r"|(?:different|other)\s+(?:from|than)|minus|negative|twice|thrice|double|triple|half(?:\s+of)?|root\s+of|\d\S*\s+to|(?:may|might|could)\s+be))"
    r"\s+[$€£¥]?$",
    re.IGNORECASE,
)
"""What makes a number behind it another answer, or none."""
_CHANGE = re.compile(
    r"\s*\b(?:squared|cubed|factorial|(?:in\s+)?base\s+\w+|or\s+(?:so|more|less|fewer|higher|lower)|choose\s+\d+"
    r"|to\s+\d+|to\s+the\s+power|out\s+of\s+\d+|and\s+a\s+(?:half|third|quarter)"
    r"|(?:is|was|are)(?:\s+(?:not|wrong|incorrect|false|never)|n['’]t))\b",
    re.IGNORECASE,
)
"""What does so behind it."""

Span = tuple[int, int]


def from_line(line: str) -> str:
    """The answer that a line gives; empty if it gives none."""
    line = _MARKS.sub("", line)
    text = EDGES.sub("", line if "=" in line else _LABEL.sub("", line)).rstrip("!")
    if text.endswith("?"):
        return ""
    if either := _EITHER.search(text):
        return either[0]
    if not WORD.search(text):
        return _right_side(text)
    found = list(stretches(text))
    if equations := [span for span in found if _EQUALS.search(text, *span)]:
        start, end = last_list(text, equations)
        return _right_side(text[slice(*equations[-1])]) if start == equations[-1][0] else text[start:end]
    if found:
        start, end = last_list(text, found)
        hedge, change = _HEDGE.search(text[:start]), _CHANGE.match(text, end)
        answer = text[hedge.start() if hedge else start : change.end() if change else end]
        return _TIGHT_UNIT.sub(" ", answer)
    remark = text.startswith("(") or _COURTESY.search(text) or len(text.split()) > 4
    return "" if remark else text


def stretches(text: str) -> Iterator[Span]:
    """Where a line has mathematics: between its words and sentences, without signs that only point to it."""
    start = 0
    for piece in [*_PIECE.finditer(text), None]:
        if piece is not None and piece["whole"]:
            continue
        low, high = start, piece.start() if piece else len(text)
        low += text[low - 1 : low].isalpha() and text[low : low + 1] in ("-", "−", "–")  # COVID-19
        if loose := _BEFORE.match(text, low, high):
            low = loose.end()
        if loose := _BEHIND.search(text, low, high):
            high = loose.start()
        while low < high and text[high - 1] in ")]}" and _openers(text[low:high]) < 0:
            high -= 1
        if _MATHEMATICS.search(text, low, high):
            yield low, high
        start = piece.end() if piece else start


def _openers(text: str) -> int:
    return sum(sign in "([{" for sign in text) - sum(sign in ")]}" for sign in text)


def last_list(text: str, spans: list[Span]) -> Span:
    """The last of them, or the last several if they are joined: 3, 4 or 5."""
    first, joint = len(spans) - 1, r",?\s+(?:or|and)\s+[$€£¥]?"
    while first and re.fullmatch(joint, text[spans[first - 1][1] : spans[first][0]]):
        first, joint = first - 1, r",\s+[$€£¥]?|,?\s+(?:or|and)\s+[$€£¥]?"
    return spans[first][0], spans[-1][1]


def _right_side(text: str) -> str:
    """What an equation gives: 6 for x = 6 and 2 + 4 = 6, but all of x + y = 6, or of x = 1, y = 6."""
    parts = _THEN.split(text)
    if len(parts) > 1 and all(_NAME.fullmatch(part.partition("=")[0]) for part in parts if "=" in part):
        return text
    *left, right = _EQUALS.split(parts[-1] if "=" in parts[-1] else text)
    if len(left) == 1 and _VARIABLE.search(left[0]) and not _NAME.fullmatch(left[0]):
        return text
    return right.strip()
