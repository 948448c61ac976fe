"""Which part of a response is its final answer.

The last ``\\boxed{...}``; else what stands in ``<answer>``; else what follows ``####``; else, in the last
lines, what follows "the answer is", or else the last formula, the right-hand side of the last ``=``, the last
number, or a line without words. Courtesies, rules and fences behind it say nothing. A box or a thought that
is never closed was cut off, and is no answer.
"""

import re
from collections import deque

from thinkless.grading.prose import EDGES, from_line, last_list, with_neighbours
from thinkless.modes import END_OF_THINKING, Mode

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*+")
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


def after_thinking(response: str) -> str | None:
    """What follows the last thought; None if that thought never ends."""
    answer = response.rpartition(END_OF_THINKING)[2]
    return None if Mode.THINK.value in answer else answer


_TAGGED = re.compile(r"<answer>((?:(?!</?answer>).)*+)</answer>", re.DOTALL)
_HASHES = re.compile(r"####[^\S\n]*+([^\n]*+)")
_HEADING = re.compile(r"(?:step|part|case)\s*\d+|conclusion", re.IGNORECASE)
_LABEL = re.compile(r"(?:the\s+)?(?:final\s+)?(?:answer|solution|result)\b[\s:.*]*+", re.IGNORECASE)
_FORMULA = re.compile(
    r"\$\$([^$]++)\$\$|(?<![\\$])\$(?!\$)([^$\n]++)\$(?!\d)"  # from $5 to $10 is no formula
    r"|\\\[((?:[^\\]|\\(?![][]))*+)\\\]|\\\(((?:[^\\]|\\(?![()]))*+)\\\)"
)
_SAYS = re.compile(
    r"(?:\b(?:answer|result|option|choice)(?:\s+is\b|[*_]*\s*[:=])|答案[是为：:])"
    r"(?:[\s:*_]*the\s+(?:final\s+)?answer\s+is\b)?"
    r"(?:[\s:*_]*(?:approximately|about|exactly|therefore|thus|indeed|simply|just|then|still|the\s+number|equal\s+to|given\s+by)\b)*[\s:*_]*+",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"[.!](?=\s|[*_]*$)|[。，]|,?\s+(?:because|since|(?<!or )so|which|where|as|after|once|when|using)\b"
    r"|,\s+(?!and\b|or\b)(?=[A-Za-z]{2})|;\s+(?=[A-Za-z]{2})|\s+[-–—]\s+(?=[a-z]{2})|\s+and\s+(?:that|this|we|it)\b"
)
_BOLD = re.compile(r"(?:\*\*)?([^*\n]+)\*\*(?!\*)")
_NAME = re.compile(r"\\?[A-Za-z]+(?:\([^()]*\))?|")
_BESIDES = re.compile(r"\b(?:where|when|for|if|since|because|with|eq\.)\s+$")
_MORE = re.compile(
    r"[\d$+*/^=−-]|\\\(|\b(?:or|and|not|nor|squared|cubed|hundred|thousand|[mb]illion|dozen|percent|times|base|more|less|half)\b|%"
)
"""What makes another answer of a formula behind which it stands."""
_ASIDE = re.compile(r"\s*\((?:see|as|from|since|because|rounded|which|by|i\.e)\b[^()]*\)[\s.]*$")
_NOISE = re.compile(r"[\s`*_#~-]*+")
_LINES, _CHARACTERS = 12, 4_000
"""How far from the end an answer without a box is looked for."""


def final_answer(response: str) -> str:
    """The part of a response that is to be graded, stripped; empty if there is none."""
    answer = after_thinking(response)
    if answer is None:
        return ""
    if _BOX.search(answer):
        return "".join(last_boxes(answer))
    if tagged := _TAGGED.findall(answer):
        answer = tagged[-1]
    if hashes := _last(_HASHES, answer):
        behind = answer[hashes.end() :]
        if said := _SAYS.search(hashes[1]):
            return _said(hashes[1][said.end() :] or behind.lstrip())
        content = _LABEL.sub("", hashes[1], count=1).strip(" *")
        if content and not _HEADING.match(content):
            return content
        answer = behind
    return _from_prose(answer)


def _from_prose(answer: str) -> str:
    """The answer of a text without marks, from its last lines."""
    lines = [line for line in answer.strip()[-_CHARACTERS:].split("\n") if not _NOISE.fullmatch(line)][
        -_LINES:
    ]
    tail = "\n".join(lines)
    said = _last(_SAYS, tail)
    formulas = [formula for formula in _FORMULA.finditer(tail) if not _NAME.fullmatch(_content(formula))]
    formulas = [each for each in formulas if not _BESIDES.search(tail[: each.start()])] or formulas
    if said and EDGES.sub("", tail[said.end() :]):
        return _said(tail[said.end() :])
    behind = tail[formulas[-1].end() :].partition("\n")[2] if formulas else tail
    for line in reversed(behind.split("\n")):
        if found := from_line(line):
            return found
    if formulas:
        start, end = last_list(tail, [formula.span() for formula in formulas])
        start -= len(tail[:start]) - len(tail[:start].rstrip("-−+*/^=:$0123456789"))  # the sign of -$5$
        answer = with_neighbours(tail, (start, end))
        if tail[end:].lstrip("*. ").startswith("?"):
            return ""
        return _content(formulas[-1]) if answer == formulas[-1][0] else answer
    return EDGES.sub("", lines[-1]) if lines else ""


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _content(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _said(text: str) -> str:
    """What follows "the answer is": a formula, or the rest of the clause."""
    if marked := _FORMULA.match(text) or _BOLD.match(text):
        rest = _ASIDE.sub("", text[marked.end() :].split("\n")[0]).lstrip("*_")
        end = _CLAUSE_END.search(rest)
        rest = rest[: end.start() if end else None]
        return (marked[0] + rest).strip(" .") if _MORE.search(rest) else _content(marked)
    line = _ASIDE.sub("", text.split("\n")[0])
    end = _CLAUSE_END.search(line)
    return EDGES.sub("", line[: end.start() if end else None])
