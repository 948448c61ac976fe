r"""Proves what holds of any answer: a verdict in time, both ways round, no credit for what is mixed up.

Run: python -m pytest tests/grading/test_any_answer.py

Answers are those of `test_kinds.py` and changes of them; `make fuzz` draws others each time.
"""

import re
import time

from answer_variants import PIECES
from hypothesis import assume, given
from hypothesis import strategies as st
from test_kinds import KINDS, lines

from thinkless.grading import is_correct
from thinkless.grading.sandbox import TIME_LIMIT

ANSWERS = sorted({answer for kind in KINDS for _, *pair in lines(kind) for answer in pair})
UNGUESSABLE = [r"\frac{1414}{3737}", r"x^2+1337", "31337", r"(\pi, 1337]", r"\text{thirty-seven}"]
answers = st.sampled_from(ANSWERS)
cuts = st.integers(0, 40)
soups = st.lists(st.sampled_from(PIECES) | answers | st.text(max_size=3), max_size=12).map("".join)
spliced = st.builds(lambda a, b, i, j: a[:i] + b[j:], answers, answers, cuts, cuts)
broken = st.builds(lambda a, piece, i: a[:i] + piece + a[i:], answers, st.sampled_from(PIECES), cuts)
anything = st.one_of(soups, spliced, broken, st.text(max_size=80))


def judged(response: str, gold: str) -> bool:
    """The verdict, which costs this process less than the two seconds that a comparison may take."""
    begun = time.process_time()
    verdict = is_correct(response, gold)
    assert time.process_time() - begun < TIME_LIMIT
    assert verdict in (True, False)
    return verdict


@given(anything, st.sampled_from(UNGUESSABLE))
def test_nothing_equals_an_answer_that_nobody_could_guess(text, gold):
    for response in (text, f"\\boxed{{{text}}}", f"The answer is {text}"):
        assert not judged(response, gold), (response, gold)


@given(anything, answers)
def test_equality_has_no_direction(text, gold):
    """But for what is read in several ways in an answer, and in one in a gold answer: 12,144 and 5 m."""
    assume(text.strip() and not re.search(r"[{}<#]|box", text))
    assume(not re.search(r"\d\s*,\s*\d|\d(?:\s|~|\\[ ,;])|\{,\}", f"{text};{gold}"))
    there, back = judged(f"\\boxed{{{text}}}", gold), judged(f"\\boxed{{{gold}}}", text)
    assert there is back, (text, gold)


BRACKET = re.compile(r"\\[{}]|[\[\]()]")
"""One that stands for itself; the braces of a command decide where the box ends."""


def test_an_answer_without_one_of_its_brackets_is_wrong():
    cut = [
        (gold, gold[: bracket.start()] + gold[bracket.end() :])
        for gold in ANSWERS
        if re.search(r"\d", gold) and not re.search(r"\\text|[a-z]{4}", gold)
        for bracket in BRACKET.finditer(gold)
    ]
    assert len(cut) > 80
    assert [(gold, text) for gold, text in cut if judged(f"\\boxed{{{text}}}", gold)] == []
