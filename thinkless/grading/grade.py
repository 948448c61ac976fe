"""Is the final answer of a response right? Bounded in time and memory, and never an exception.

`text.py` finds the final answer, `answers.py` says what it is, and `compare.py` whether two of them are
equal. What exact arithmetic cannot decide goes to `algebra.py` in a process of its own, see `sandbox.py`.
What counts as right is written in ``book/grading.md``, with a table that the tests execute.
"""

from functools import lru_cache

import thinkless.grading.sandbox as sandbox
from thinkless.grading.answers import parse
from thinkless.grading.compare import Undecided, matches
from thinkless.grading.text import after_thinking, final_answer, last_boxes
from thinkless.grading.values import Group, Named

LONGEST_ANSWER = 2_000
"""Characters; a longer "final answer" is babble and is wrong without being parsed."""


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
    given, gold = final_answer(response), "".join(last_boxes(answer)) or answer.strip()
    if not given or max(len(given), len(gold)) > LONGEST_ANSWER:
        return False
    if given == gold or _equal(given, gold):
        return True
    count = _elements(gold)
    boxes = last_boxes(after_thinking(response) or "", count) if count > 1 else []
    together = ", ".join(boxes)
    return len(boxes) > 1 and len(together) <= LONGEST_ANSWER and _equal(together, gold)


def _elements(gold: str) -> int:
    """Count the elements of a gold answer: 3 for ``1, 2, 3`` or ``\\{1, 2, 3\\}``, 1 for ``(1, 2)``."""
    try:
        value = parse(gold)
    except RecursionError:
        return 1
    value = value.value if isinstance(value, Named) else value
    return len(value.members) if isinstance(value, Group) and value.kind == "list" else 1


@lru_cache(maxsize=4096)
def _equal(given: str, gold: str) -> bool:
    try:
        return matches(given, gold)
    except (Undecided, RecursionError):  # a sum of a thousand terms is deeper than Python's stack here
        return sandbox.equal(given, gold)
