r"""Proves which part of a response is graded: boxes, marks, what models write without any; in linear time.

Run: python -m pytest tests/grading/test_text.py
"""

import time
from contextlib import suppress

import pytest

from thinkless.grading import final_answer, is_correct
from thinkless.grading.compare import Undecided, matches
from thinkless.grading.text import last_boxes


@pytest.mark.parametrize(
    ("text", "count", "boxes"),
    [
        (r"\boxed{1} \boxed{2} \boxed{3}", 2, ["2", "3"]),
        (r"\boxed{1}", 3, ["1"]),
        (r"\boxed{1} \boxed{2", 2, []),  # cut off
        (r"\boxed{1} \boxed", 1, []),
        (r"\boxed{a_{1}} \fbox{ \{b\} }", 2, ["a_{1}", r"\{b\}"]),
        (r"\boxed{1} $\boxed 2$.", 2, ["1", "2"]),
        (r"\boxed{1} \boxedtext{2}", 1, ["1"]),  # another command
        (r"\boxed{\begin{matrix} 1 \\ 2 \end{matrix}}", 1, [r"\begin{matrix} 1 \\ 2 \end{matrix}"]),
        (r"\boxed{1 \\}", 1, [r"1 \\"]),  # a line break, then a brace
        ("no box", 1, []),
    ],
)
def test_last_boxes(text, count, boxes):
    assert last_boxes(text, count) == boxes


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        # formulas in every kind of sign, and not the dollars of a price
        (r"it is \(\frac{7}{15}\).", r"\frac{7}{15}"),
        ("\\[\n\\frac{7}{15}\n\\]", r"\frac{7}{15}"),
        (r"The answer is $ \frac{7}{15} $.", r"\frac{7}{15}"),
        ("Thus $$x = 5$$", "x = 5"),
        ("It costs $5 and sells for $7.", "$7"),
        ("$200,000 - $130,000 = $70,000", "70,000"),
        # marks
        ("2+40=42\n#### 42\n\nI hope this helps!", "42"),
        ("#### Final Answer: 42", "42"),
        ("#### Final Answer\n\n42", "42"),
        ("#### The answer is 42", "42"),
        ("#### Step 1\n2+40=42\n#### Step 2\nSo it is 42.", "42"),
        ("<answer>\n42\n</answer>", "42"),
        ("<answer>The answer is 42.</answer>", "42"),
        # what is said
        ("The answer is (B).", "(B)"),
        ("The correct option is B.", "B"),
        ("**Answer:** 10 - 2√5", "10 - 2√5"),
        ("Final Answer: The final answer is $42$. I hope it is correct.", "42"),
        ("The answer is 72, in total, so the farmer earns that much.", "72"),
        ("I thought the answer is 5. No, the answer is 6.", "6"),
        ("The answer is 5 or 6.", "5 or 6"),
        ("The answer is not 5.", "not 5"),
        ("答案是42。", "42"),
        # courtesies, rules, fences
        ("It is **73**.\n\n---", "73"),
        ("It is **73**.\n\nLet me know if you have any questions!", "73"),
        ("```\n73\n```", "73"),
        # lines
        ("It is −3 degrees.", "−3"),
        ("It is 8:34 p.m.", "8:34 p.m"),
        ("She has 10-4 = 6 left", "6"),
        ("So x = 5 or x = 6.", "x = 5 or x = 6"),
        ("There are 3 boxes with 25%.", "25%"),
        ("It is either 41 or 42.", "41 or 42"),
        ("They are 3, 4 and $5.", "3, 4 and $5"),
        ("It is $5$ or $6$.", "$5$ or $6$"),
        ("The roots are $x=1$, $x=2$, and $x=3$.", "$x=1$, $x=2$, and $x=3$"),
        ("Of 3, 4 is the larger.", "4"),
        ("It cannot be equal to 6.", "cannot be equal to 6"),
        ("It isn't 6.", "n't 6"),
        ("It is more than 6.", "more than 6"),
        ("The difference between them is 6.", "6"),
        ("The pens that he has not sold are 6.", "6"),
        ("It is 5 million.", "5 million"),
        ("Evelyn", "Evelyn"),
        ("- 42", "42"),
        ("### 42", "42"),
        ("> **Total:** 42", "42"),
        # mathematics is whole, or not at all
        ("The area is 9π.", "9π"),
        ("The length is 2√3 cm.", "2√3 cm"),
        ("The length is 2\\sqrt{3}.", "2\\sqrt{3}"),
        ("The polynomial is x^2 - 1.", "x^2 - 1"),
        ("It is 1 1/2 cups.", "1 1/2"),
        ("It is 5 × 10^3.", "5 × 10^3"),
        ("It is log_2 8.", "log_2 8"),
        ("There are 10! ways.", "10!"),
        ("There are 10! Good.", "10"),
        ("The vertex is (3, -4).", "(3, -4)"),
        ("It lies in [5, 6).", "[5, 6)"),
        ("The ratio is 3 : 4.", "3 : 4"),
        ("5; 6", "5; 6"),
        ("5 - 6", "5 - 6"),
        ("A COVID-19 case in 3 days", "3"),
        ("It takes a 5-day trip", "5"),
        ("It is 5m.", "5 m"),
        ("It is 60 km/h on average.", "60 km/h"),
        # equations
        ("So 2x = 6", "2x = 6"),
        ("So x + y = 6 there", "x + y = 6"),
        ("The total is 3 * 4 = 12 apples", "12"),
        ("3x = 15, x = 5", "5"),
        ("x = 1, y = 2", "x = 1, y = 2"),
        ("So x = 2 and y = 3.", "x = 2 and y = 3"),
        # what stands beside a number
        ("It is at least 6.", "at least 6"),
        ("It is negative 6.", "negative 6"),
        ("It ranges from 5 to 6.", "5 to 6"),
        ("It is twice 10.", "twice 10"),
        ("It is 52 in base 8.", "52 in base 8"),
        ("It is 5 squared.", "5 squared"),
        ("6 is not the answer.", "6 is not"),
        ("6 or so", "6 or so"),
        ("It is 7.\nIs it 6?", "7"),
        # what looks like a word or a name, and is a sign; and the other way round
        ("The area is 4 x 6 = 24 square feet.", "24"),
        ("So there are C(5,2) * C(4,1) = 40 ways.", "40"),
        ("The probability is .5.", ".5"),
        ("So y = x² + 1.", "x² + 1"),
        ("V = 4/3 πr³ = 36π", "36π"),
        ("Area = πr² = 9π", "9π"),
        ("The area is 6xy.", "6xy"),
        ("So xy = 6", "xy = 6"),
        ("Thus r² = 25.", "r² = 25"),
        ("So n! = 120.", "n! = 120"),
        ("It takes 5 hours and 30 minutes.", "5 hours and 30 minutes"),
        ("15 + 30 = <<15+30=45>>45 apples.", "45"),
        ("A 4-digit number.", "A 4-digit number"),
        ("The domain is (-inf, 2) U (2, inf).", "(-inf, 2) U (2, inf)"),
        ("The area is 9π cm^2.", "9π cm^2"),
        ("The roots are 3, 5.", "3, 5"),
        ("a = 1, b = 2, c = 3", "a = 1, b = 2, c = 3"),
        ("There is no solution.", "no solution"),
        ("*45*", "45"),
        ("He pays a total of $45.", "$45"),
        ("It is the square root of 9.", "root of 9"),
        ("We reject x = 6.", "reject x = 6"),
        ("x = 6 is extraneous.", "x = 6 is extraneous"),
        # what stands beside a formula
        ("It is not $5$.", "not $5$"),
        ("It's -$5$.", "-$5$"),
        ("Is it $5$?", ""),
        ("The area is $9\\pi$ where $r = 3$.", "9\\pi"),
        ("The value of $x$ is **7**.", "7"),
        ("The answer is $5$ or $6$.", "$5$ or $6$"),
        ("The answer is $5$ million.", "$5$ million"),
        ("The answer is $5$, as claimed.", "5"),
        (r"So the answer is **$\frac{3}{4}$**.", r"\frac{3}{4}"),
        ("Answer: **24** cm²", "24"),
        ("10 + 14 = **24 apples**", "24"),
        ("The answer is therefore 24.", "24"),
    ],
)
def test_without_a_box(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    "response",
    [
        r"<think>\boxed{5}",
        r"<think>a</think><think>b \boxed{5}",
        r"\boxed{5}<think>",
        "<think>5</think>",
        r"\boxed{5",
    ],
)
def test_an_unfinished_response_has_no_answer(response):
    assert final_answer(response) == ""
    assert not is_correct(response, "5")


def test_a_thought_may_end_twice():
    assert is_correct(r"<think>The tag </think> ends it. \boxed{3}", "3")
    assert is_correct(r"<think>a</think><think>b</think>\boxed{5}", "5")


PROSE = [
    "Please let me know if you need any further clarification on any step!",
    "the value of x is the number of ways to choose a committee (order does not matter)!",
    "I am not sure about this one, but it might well be a prime!",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_no_mathematics_and_takes_no_time(text):
    """Nothing of it may reach the sandbox, where letters are factors and `!` is a factorial."""
    begun = time.process_time()
    for gold in ("73", r"\frac{1}{2}", "x^2", r"\text{even}"):
        assert not is_correct(text, gold)
        assert not is_correct(rf"\boxed{{{text}}}", gold)
    assert time.process_time() - begun < 0.05


PIECES = [
    *"1 a,.%({[|}])-+$\\~一!^_<=",
    "1 ",
    "1,",
    "1,111",
    "12 cm ",
    " ab/",
    "x = ",
    r"\frac1",
    r"\frac{",
    r"\text{a}",
    "1/",
]
PIECES += [
    "aa ",
    r"\!",
    r"\{",
    r"\sqrt",
    r"\left(",
    r"\pm",
    "and ",
    "0.1",
    r"\dot1",
    "<answer>",
    "#### ",
    r"\[",
    r"\(",
    "answer is ",
]


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long(piece):
    """Patterns that backtrack would take for ever here, and a grammar that tries twice on each level."""
    begun = time.process_time()
    for text in (piece * 2_000, "1" + piece * 2_000 + "!", "1 " + piece * 2_000 + "\n;"):
        with suppress(Undecided, RecursionError):  # to the sandbox with them
            matches(text[:2_000], "7")
        final_answer(text * 10)
        last_boxes(text, 3)
    assert time.process_time() - begun < 3
