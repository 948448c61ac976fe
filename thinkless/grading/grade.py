"""Is the final answer of a response right? Bounded in time and memory, and never an exception.

The final answer is what stands after the reasoning: the last ``\\boxed{...}`` (the last n boxes where
the gold answer is a list of n), else what follows ``####``, else the right-hand side of the last ``=``,
else the last number, else the last line. A box or a ``<think>`` that is never closed was cut off: wrong.

Plain numbers and words are compared at once, see `text.py`. The rest is mathematics, and is left to
math-verify behind a wall, see `sandbox.py`.
"""

import re
from functools import lru_cache

import thinkless.grading.sandbox as sandbox
from thinkless.grading.text import canonical, compare, last_boxes
from thinkless.modes import END_OF_THINKING

LONGEST_ANSWER = 2_000
"""Characters; a longer "final answer" is babble and is wrong without being parsed."""

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_EQUALS = re.compile(r"(?<![<>!:])=")
_RELATION = re.compile(r"[=<>]|\\[lgn]eq?(?![A-Za-z])")
_FORMULA = re.compile(r"(?<![\\$])\$(?=\S)([^$\n]++)(?<=\S)\$(?!\d)")


def final_answer(response: str) -> str:
    """The part of a response that is to be graded, stripped; empty if there is none."""
    answer = response.rpartition(END_OF_THINKING)[2]
    if "\\boxed" in answer or "\\fbox" in answer:
        return "".join(last_boxes(answer))
    if "####" in answer:
        return answer.rpartition("####")[2].strip()
    last_line = answer.strip().splitlines()[-1] if answer.strip() else ""
    formulas = _FORMULA.findall(last_line)
    if formulas:
        return formulas[-1]
    if "=" in last_line:
        return last_line.rpartition("=")[2].strip(" .$")
    numbers = _NUMBER.findall(last_line)
    return numbers[-1] if numbers else last_line.strip(" .$")


def is_correct(response: str, answer: str) -> bool:
    """Whether the final answer of `response` equals the gold `answer`, as text or as mathematics.

    A response that cannot be parsed, takes too long or exhausts the worker's memory is wrong. So is
    one whose thinking began and never ended. Raises TypeError if either argument is not a string, and
    RuntimeError if no worker process can be started.
    """
    if not isinstance(response, str) or not isinstance(answer, str):
        raise TypeError(
            f"is_correct takes two strings, got {type(response).__name__} and {type(answer).__name__}"
        )
    if "<think>" in response and END_OF_THINKING not in response:
        return False
    given, gold = final_answer(response), answer.strip()
    if not given or len(given) > LONGEST_ANSWER:
        return False
    if given == gold or _equal(given, gold):
        return True
    count = _elements(gold)
    boxes = last_boxes(response.rpartition(END_OF_THINKING)[2], count) if count > 1 else []
    together = ", ".join(boxes)
    return len(boxes) > 1 and len(together) <= LONGEST_ANSWER and _equal(together, gold)


def _elements(gold: str) -> int:
    """Count the elements of a gold answer: 3 for ``1, 2, 3`` or ``\\{1, 2, 3\\}``, 1 for ``(1, 2)``."""
    depth, count = 0, 1 + gold.count("\\pm")
    for character in re.sub(r"\\[{}]|\d,(?:\\!\s*)?\d{3}(?!\d)", "", gold):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        count += character == "," and depth == 0
    return count


@lru_cache(maxsize=4096)
def _equal(given: str, gold: str) -> bool:
    given, gold = canonical(given), canonical(gold)
    if "," not in given and not _RELATION.search(gold):  # "x = 5" for 5
        given = _EQUALS.split(given)[-1]
    verdict = compare(given, gold)
    return sandbox.equal(given, gold) if verdict is None else verdict
