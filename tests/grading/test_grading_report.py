"""Figures of the grader: gold answers against themselves, other ways to write them, and wrong answers.

Run on a sample:     python -m pytest tests/grading/test_grading_report.py
All 1,849 rows and 10,000 hostile strings, with the figures (a minute of a core that is free):
                     THINKLESS_ALL_ROWS=1 python -m pytest -s tests/grading/test_grading_report.py
"""

import os
import random
import resource
import time
from collections import Counter
from collections.abc import Iterable

import pytest
from answer_variants import AROUND_THE_BOX, IN_THE_BOX, WRONG, hostile_strings
from benchmarks import benchmark_rows

from thinkless.grading import final_answer, is_correct, sandbox

ALL_ROWS = bool(os.environ.get("THINKLESS_ALL_ROWS"))
SETS = ("aime_2024", "math_500", "gsm8k_test")


def sample(items: Iterable, size: int) -> list:
    """All of them in a full run, else `size` drawn with a fixed seed."""
    items = list(items)
    return items if ALL_ROWS or len(items) <= size else random.Random(0).sample(items, size)


def gold_answers(name: str) -> list[str]:
    """As `problems.math` reads them."""
    golds = [row["answer"] for row in benchmark_rows(f"{name}.jsonl")]
    return [final_answer(gold) for gold in golds] if name == "gsm8k_test" else golds


def figures(title: str, name: str, tried: Counter, exceptions: dict):
    """Print a table of a full run."""
    if ALL_ROWS:
        print(f"\n{title}, {name}: {tried.total()} tried, {sum(map(len, exceptions.values()))} exceptions")
        for variant, count in tried.items():
            print(f"  {count:6} {variant}: {exceptions.get(variant, [])}")


@pytest.mark.parametrize("name", SETS)
def test_gold_equals_itself(name):
    """Every row, also in a sample; GSM8K's own solutions as well, which have no box."""
    golds = gold_answers(name)
    assert len(golds) == {"aime_2024": 30, "math_500": 500, "gsm8k_test": 1319}[name]
    assert [gold for gold in golds if not is_correct(f"So it is $\\boxed{{{gold}}}$.", gold)] == []
    solutions = [row["answer"] for row in benchmark_rows(f"{name}.jsonl")]
    assert [s for s, gold in zip(solutions, golds, strict=True) if not is_correct(f"#### {s}", gold)] == []


@pytest.mark.parametrize("name", SETS)
def test_other_ways_to_write_it_are_right(name):
    responses = [
        (variant, response, gold)
        for gold in gold_answers(name)
        for variants, frame in ((IN_THE_BOX, "\\boxed{{{}}}"), (AROUND_THE_BOX, "{}"))
        for variant, rewrite in variants.items()
        if (new := rewrite(gold)) and (new != gold or variants is AROUND_THE_BOX)
        for response in [frame.format(new)]
    ]
    tried, missed = Counter(), {}
    for variant, response, gold in sample(responses, 300):
        tried[variant] += 1
        if not is_correct(response, gold):
            missed.setdefault(variant, []).append((response, gold))
    figures("Other ways to write it", name, tried, missed)
    assert missed == {}


EQUAL_ALL_THE_SAME = {
    # two rows, one value
    frozenset({r"\frac14", r"\frac{1}{4}"}),
    frozenset({r"2 \sqrt{5}", r"2\sqrt{5}"}),
    frozenset({"x=5", "5"}),
    frozenset({"1,-2", "-2,1"}),
    frozenset({r"10,\!080", "10080"}),
    frozenset({"5,600", "5600"}),
    frozenset({"14,000", "14000"}),
    # conventions: a unit, a currency or a degree sign may be left out …
    *(frozenset({f"{n}^\\circ", f"{n}"}) for n in (30, 36, 90, 120)),
    frozenset({"15\\mbox{ cm}^2", "15"}),
    frozenset({r"\$36", "36"}),
    # … and so may a base, and the brackets of a point
    frozenset({"40_9", "40"}),
    frozenset({"(-2,1)", "-2,1"}),
}
"""Pairs of gold answers of different rows that the grader calls equal, every one looked at."""


@pytest.mark.parametrize("name", SETS)
def test_answers_of_other_rows_are_wrong(name):
    golds = list(dict.fromkeys(gold_answers(name)))
    pairs = [(given, gold) for given in golds for gold in golds if given != gold]
    equal = [pair for pair in sample(pairs, 200) if is_correct(f"\\boxed{{{pair[0]}}}", pair[1])]
    figures("Answers of other rows", name, Counter({"pairs": len(pairs)}), {"pairs": equal})
    assert [pair for pair in equal if frozenset(pair) not in EQUAL_ALL_THE_SAME] == []


@pytest.mark.parametrize("name", SETS)
def test_wrong_answers_are_wrong(name):
    answers = [
        (variant, new, gold)
        for gold in dict.fromkeys(gold_answers(name))
        for variant, change in WRONG.items()
        if (new := change(gold)) and new != gold
    ]
    tried, called_right = Counter(), {}
    for variant, given, gold in sample(answers, 200):
        tried[variant] += 1
        if is_correct(f"\\boxed{{{given}}}", gold):
            called_right.setdefault(variant, []).append((given, gold))
    figures("Wrong answers", name, tried, called_right)
    assert called_right == {}


def memory_of(worker: sandbox._Worker) -> float:
    """Resident MiB of a worker."""
    with open(f"/proc/{worker.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def test_hostile_strings_get_a_verdict(monkeypatch):
    """No exception, no hang, no growth; and nobody guesses the gold answer."""
    limit = 0.5
    monkeypatch.setattr(sandbox, "TIME_LIMIT", limit)
    golds = [r"\frac{14}{37}", r"x^2+1337", "31337", r"(\pi, 1337]", r"\text{neither}"]
    before, slowest, started, sizes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0, set(), []
    strings = list(hostile_strings(10_000 if ALL_ROWS else 60, seed=0))
    for index, text in enumerate(strings):
        gold = golds[index % len(golds)]
        begun = time.monotonic()
        assert is_correct(f"\\boxed{{{text}}}" if index % 10 else text, gold) is False, (text, gold)
        slowest = max(slowest, time.monotonic() - begun)
        started |= {worker.process.pid for worker in sandbox._free}
        sizes += map(memory_of, sandbox._free)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert is_correct(r"\boxed{\frac{28}{74}}", golds[0])
    assert grown < 64  # MiB, of this process
    assert max(sizes) < 512  # the worker holds SymPy and its caches
    if ALL_ROWS:
        print(
            f"\n{len(strings)} strings: slowest {slowest:.1f} s at a limit of {limit} s, "
            f"{len(started)} workers of at most {max(sizes):.0f} MiB, caller grew by {grown:.0f} MiB"
        )
