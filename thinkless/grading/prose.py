"""The answer of a line without marks: what its last `=` gives, or all of it, or its last mathematics.

A line is cut at its words; what stands between them is mathematics as it is, or not at all: the area 9π is
not 9. What a number's neighbours make of it stays with it: at least 6, 52 in base 8.
"""

import re
from collections.abc import Iterator


def _phrases(text: str) -> str:
    """A pattern of any of these, which stand between semicolons; a space is any white space."""
    return "|".join(r"\s+".join(phrase.split()) for phrase in text.split(";"))


# What a line is cut at

_UNITS = (
    "[APap][Mm]|[cmkµn]m|[mk]?g|[mc]?[lL]|k[NJWh]|ft|mi|mph|kmh?|hr?s?|min|sec|lbs?|oz"
    "|percent|hundred|thousand|[mb]illion"
)
"""Words that belong to the number before them."""
_NAMES = "sqrt|pi|sin|cos|tan|log|ln|mod|inf|infinity|oo"
_LETTER = r"[^\W\d_\u0370-\u03ff\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209f\u2150-\u215f]"
"""Of a word: Greek letters, superscripts and fractions are mathematics."""
_SHORT_WORD = "(?:is|it|we|so|to|in|of|be|an|as|at|by|he|if|me|my|no|on|or|up|us|do|go|am)(?![a-z])"
_NO_WORD = (
    rf"(?:{_NAMES})(?![A-Za-z])"
    rf"|(?:(?<=[\dπ)}}/])|(?<=[\dπ)}}]\s))(?:{_UNITS})(?![A-Za-z])"
    r"|(?<=\d)[a-z]{2,3}(?![A-Za-z])"  # the xy of 6xy
    rf"|(?!{_SHORT_WORD})[a-z]{{2}}\s*[=^+]"  # that of xy = 6
)
_ONE_LETTER = r"(?<!\S)(?:[aI](?!\S)(?!\s*=)|(?<!\d\s)[A-Za-z](?=\s+[\d$]))"
_WORD = rf"(?<![A-Za-z\\])(?!{_NO_WORD})(?:{_LETTER}{{2,}}+(?:['’][a-z]+)?|I['’][a-z]+|{_ONE_LETTER})"
_BRACKET = rf"[(\[{{](?:(?!{_WORD})(?:[^()\[\]{{}}]|[({{][^(){{}}]{{0,50}}[)}}])){{0,200}}[)\]}}]"
_LARGE, _SMALL = (
    rf"(?:{'|'.join(units.split())})"
    for units in (
        "hours? minutes? days? weeks? months? years? feet foot yards? pounds? dollars? hrs?",
        "hours? minutes? seconds? days? months? feet foot inch(?:es)? ounces? cents?",
    )
)
_OF_TWO_UNITS = rf"\d+\s+{_LARGE}(?:,?\s+and|,)?\s+\d+\s+{_SMALL}\b"
_WHOLE = rf"{_BRACKET}|(?<=\d)\s+(?:in\s+)?base\s+(?=\d)|{_OF_TWO_UNITS}"
_ENVIRONMENT = r"\\(?:begin|end)\s*\{(?:align|equation|gather|split)[a-z]*\*?\}"
_VARIABLE_ALONE = r"\$[A-Za-z](?:\([^()$]*\))?\$|\\\([A-Za-z]\\\)"
_SENTENCE_END = r"[,;?]\s+|\.\s+|!\s+(?![a-z=+*/^<>-])|(?<!\d)(?<!\d\s):\s"
_TAG = r"<<[^<>\n]*>>|</?[a-z]+>"
_CUT = rf"{_WORD}|{_SENTENCE_END}|[⇒→—\"“”]|{_TAG}|{_ENVIRONMENT}|{_VARIABLE_ALONE}"
_PIECE = re.compile(rf"(?P<whole>{_WHOLE})|{_CUT}")
_HAS_WORDS = re.compile(rf"{_WORD}|{_OF_TWO_UNITS}|</?[a-z]+>|<<")

# What says nothing

EDGES = re.compile(r"^(?:\*{1,3}|[\s.`_$。])++(?!\d)|^(?:\*{1,3}|[\s`_$])++|(?:\*{1,3}|[\s.`_$。~])++$")
_LABEL = re.compile(r"^[^\n:]{0,29}[^\n:\s\d]:\s|^\s*(?:[-*•>]|#+|\d{1,2}[.)])\s+(?=\S)")
_COURTESY = re.compile(
    r"\b(?:hope|help|know|free|questions?|clarif\w+|thanks?|luck|welcome)\b", re.IGNORECASE
)
_NO_SOLUTION = re.compile(r"\bno (?:real )?solutions?\b", re.IGNORECASE)
_MATHEMATICS = re.compile(r"\d|[√π∞½⅓¼⅔¾]|\\|[A-Za-z)]\s*[=+^]|\b(?:pi|sqrt|inf)\b")
_BEFORE = re.compile(r"(?:[\s,;:?*#`_'’)\]}/=~]|\.(?!\d)|[$+−–-](?=\s))+")
_BEHIND = re.compile(r"(?:[\s.,;:?*#`_'’(\[{$/=+−–-])+$")
_PART_OF_NAME = re.compile(r"[A-Za-z][-−–]\d+(?![\d.,]*\s*[=+*/])")
_ADJECTIVE = re.compile(r"(?<=\d-)(?:digit|sided|fold|dimensional|letter|term|tuple|element)")
_TIGHT_UNIT = re.compile(r"(?<=\d)(?=[msghlLNJWVAF]$)")

# Equations

_EITHER = re.compile(r"\b[A-Za-z](?:_\w+)?\s*=[^=\n]{1,60}\bor\b\s*[A-Za-z](?:_\w+)?\s*=[^=\n]{1,60}$")
_EQUALS = re.compile(r"(?<![<>!:])=(?!>)")
_THEN = re.compile(r"[,;](?:\s+|(?=[A-Za-z]\s*=))|[⇒→]|\\(?:Rightarrow|implies)|=>")
_NAME = re.compile(r"\s*[A-Za-z](?:_\w+)?'?(?:\([^()]*\))?\s*")
_VARIABLE = re.compile(
    r"(?<![A-Za-z\\])(?![CP]\(|(?<=\d)[CP]\d|(?<=[\d ])[xX]\s*\$?\d)"
    rf"(?!(?:{_UNITS})(?![A-Za-z]))[A-Za-z]{{1,2}}(?![A-Za-z])|(?!π)[\u0370-\u03ff]|^\s*[²³^]"
)

# What makes another answer of a number, or none, before it and behind it

_DENIAL = (
    r"(?:\b(?:not|never|cannot|whether|maybe|perhaps|possibly|reject\w*|discard\w*)|n['’]t)"
    r"(?:\s+(?:be|equals?|to|exactly|it|is|in|an?|the))*"
)
_COMPARED = (
    r"(?:more|less|fewer|\w+er|rather|other) than(?: or equal to)?; at (?:least|most); up to; as \w+ as"
)
_NEAR = "between; over; under; above; below; beyond; almost; nearly; close to; exceeds; different from"
_BUT = r"(?:all|any\w*|every\w*)(?: \w+)? but; except; exclud\w+; without; instead of"
_COMPUTED = (
    "minus; negative; plus; times; (?:divided|divisible|bounded) by; twice; thrice; double; triple; half"
)
_PARTS = r"\w*(?:third|quarter|half|halve|fifth|[nxhtr]th)s?|square|cube|root|reciprocal|opposite|inverse"
_OF = rf"(?:{_PARTS}|multiple|power|factor|divisor|fraction|logarithm|out) of"
_PLACES = "figure; theorem; lemma; step; section; chapter; problem; example; table; equation"
_BEFORE_IT = _phrases("; ".join([_COMPARED, _NEAR, _BUT, _COMPUTED, _OF, _PLACES, "(?:may|might|could) be"]))
_OF_ANOTHER = r"\d\S*\s+to|\S*[\d$)}%]\s+(?:of|in|by)(?:\s+the)?"
_DENIED = re.compile(rf"{_DENIAL}\s+[$€£¥]?$", re.IGNORECASE)
_HEDGE = re.compile(rf"(?:{_DENIAL}|\b(?:{_BEFORE_IT})|{_OF_ANOTHER})\s+[$€£¥]?$", re.IGNORECASE)
_SCALED = r"squared; cubed; factorial; choose \d+; dozen; hundred; thousand; [mb]illion; pairs? of"
_IN_BASE = r"(?:in )?base \w+"
_WIDENED = (
    r"or (?:so|more|less|fewer|higher|lower); to \d+; to the power; out of \d+; by \d+; when divided by"
)
_REFUTED = r"(?:do|does)(?:n['’]t| not); (?:has|have) no; fails; and a (?:half|third|quarter)"
_IS_NOT = r"(?:is|was|are)(?: (?:not|wrong|incorrect|false|never|extraneous)|n['’]t)"
_BEHIND_IT = _phrases("; ".join([_SCALED, _IN_BASE, _WIDENED, _REFUTED, _IS_NOT]))
_CHANGE = re.compile(rf"\s*\b(?:{_BEHIND_IT})\b", re.IGNORECASE)
_LISTING = re.compile(
    r"(?:['’]s|\b(?:are|were|is|get|have|roots|answers|values|solutions|factors)|:)\s*[$€£¥]?$"
)

Span = tuple[int, int]


def from_line(line: str) -> str:
    """The answer that a line gives; empty if it gives none."""
    text = EDGES.sub("", (line if "=" in line else _LABEL.sub("", line)).rstrip("!"))
    if text.endswith("?"):
        return ""
    if either := _EITHER.search(text):
        return either[0]
    if not _HAS_WORDS.search(text):
        return _right_side(text)
    if _PIECE.fullmatch(text):
        return ""
    if none := _NO_SOLUTION.search(text):
        return none[0]
    found = list(stretches(text))
    if equations := [span for span in found if _EQUALS.search(text, *span)]:
        span = last_list(text, equations)
        answer = with_neighbours(text, span, _DENIED)
        goes_on = text[: span[0]].rstrip().endswith("=")  # area = 3 * 4 = 12
        return _right_side("=" * goes_on + answer) if answer == text[slice(*equations[-1])] else answer
    if found:
        return _TIGHT_UNIT.sub(" ", with_neighbours(text, last_list(text, found)))
    remark = text.startswith("(") or _COURTESY.search(text) or len(text.split()) > 4
    return "" if remark else text


def with_neighbours(text: str, span: Span, hedges: re.Pattern[str] = _HEDGE) -> str:
    """A stretch of a text with what stands beside it and makes another answer of it."""
    start, end = span
    hedge, change = hedges.search(text[:start]), _CHANGE.match(text, end)
    return text[hedge.start() if hedge else start : change.end() if change else end]


def stretches(text: str) -> Iterator[Span]:
    """Where a line has mathematics: between its words and sentences, without signs that only point to it."""
    start = 0
    for piece in [*_PIECE.finditer(text), None]:
        if piece is not None and piece["whole"]:
            continue
        low, high = start, piece.start() if piece else len(text)
        if _PART_OF_NAME.match(text, max(low - 1, 0)) or _ADJECTIVE.match(text, high):
            low = high
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
    first, joint = len(spans) - 1, r"(?:\*\*)?,?\s+(?:or|and)\s+[$€£¥*]*"
    listed = r"(?:\*\*)?[,;]\s+[$€£¥*]*|" + joint
    equations = spans[1:] and all("=" in text[slice(*span)] for span in spans[-2:])
    chain = first
    while chain and re.fullmatch(r"[,;]\s+[$€£¥]?", text[spans[chain - 1][1] : spans[chain][0]]):
        chain -= 1
    if chain < first and (equations or _LISTING.search(text[: spans[chain][0]])):
        joint = listed
    while first and re.fullmatch(joint, text[spans[first - 1][1] : spans[first][0]]):
        first, joint = first - 1, listed
    return spans[first][0], spans[-1][1]


def _right_side(text: str) -> str:
    """What an equation gives: 6 for x = 6 and 2 + 4 = 6, but all of x + y = 6, or of x = 1, y = 6."""
    parts = _THEN.split(text)
    if len(parts) > 1 and all(_NAME.fullmatch(part.partition("=")[0]) for part in parts if "=" in part):
        return text
    *left, right = _EQUALS.split(parts[-1] if "=" in parts[-1] else text)
    named = _NAME.fullmatch(left[0]) or _openers(left[0]) < 0 if left else None
    if len(left) == 1 and _VARIABLE.search(left[0]) and not named:
        return text
    return EDGES.sub("", right)
