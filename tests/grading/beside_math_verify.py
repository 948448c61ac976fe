r"""This grader beside math-verify as it is, in one run: agreement, wrong accepts, wrong rejects, time a row.

Run: python tests/grading/beside_math_verify.py [triples.json] [--rows 5000] [--record results/grader.json]

Rows: the lines of `test_kinds.py`; other spellings and wrong answers of the gold of AIME 2024, MATH-500 and
GSM8K, as in `test_grading_report.py`, so many of each, drawn with seed 0; and a file of (response, gold,
expected), if one is given. math-verify is asked as its documentation shows, with all its defaults:
`verify(parse(f"${gold}$"), parse(response))`.
"""

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "grading")]

from answer_variants import AROUND_THE_BOX, IN_THE_BOX, WRONG  # noqa: E402
from benchmarks import benchmark_rows  # noqa: E402
from test_kinds import KINDS, lines  # noqa: E402

from thinkless.grading import final_answer, is_correct  # noqa: E402
from thinkless.runs.provenance import commit, hardware  # noqa: E402

Row = tuple[str, str, bool]
VERSIONS = {
    name: metadata.version(name) for name in ("math-verify", "latex2sympy2_extended", "sympy", "mpmath")
}
SETS = ("aime_2024", "math_500", "gsm8k_test")


def kinds() -> list[Row]:
    return [
        (f"\\boxed{{{answer}}}", gold, verdict == "right")
        for k in KINDS
        for verdict, answer, gold in lines(k)
    ]


def golds() -> list[str]:
    """As `problems.benchmarks` reads them."""
    found = [(name, row["answer"]) for name in SETS for row in benchmark_rows(f"{name}.jsonl")]
    return [final_answer(gold) if name == "gsm8k_test" else gold for name, gold in found]


def spellings() -> list[Row]:
    frames = ((IN_THE_BOX, "\\boxed{{{}}}"), (AROUND_THE_BOX, "{}"))
    return [
        (frame.format(new), gold, True)
        for gold in golds()
        for variants, frame in frames
        for rewrite in variants.values()
        if (new := rewrite(gold)) and (new != gold or variants is AROUND_THE_BOX)
    ]


def wrong_answers() -> list[Row]:
    pairs = [
        (new, gold) for gold in golds() for change in WRONG.values() if (new := change(gold)) and new != gold
    ]
    return [(f"\\boxed{{{new}}}", gold, False) for new, gold in pairs]


def math_verify(response: str, gold: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(response)))


def measure(grader: Callable[[str, str], bool], rows: list[Row]) -> dict[str, float]:
    """Of one grader on one set. Time is the processor's, but for what a worker does; the clock's as well."""
    grader("\\boxed{x+1}", "1+x")  # imports and workers are there
    accepts = rejects = 0
    slowest, begun = 0.0, time.perf_counter()
    for response, gold, expected in rows:
        started = time.perf_counter()
        verdict = grader(response, gold)
        slowest = max(slowest, time.perf_counter() - started)
        accepts += verdict and not expected
        rejects += expected and not verdict
    return {
        "rows": len(rows),
        "agreement": round(1 - (accepts + rejects) / len(rows), 4),
        "wrong_accepts": accepts,
        "wrong_rejects": rejects,
        "milliseconds_a_row": round((time.perf_counter() - begun) / len(rows) * 1e3, 3),
        "slowest_seconds": round(slowest, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("triples", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    logging.disable()  # math-verify warns of what it cannot parse
    rng = random.Random(0)
    sets = {"kinds": kinds()}
    sets |= {"spellings": spellings(), "wrong answers": wrong_answers()}
    sets = {name: rng.sample(rows, min(len(rows), options.rows)) for name, rows in sets.items()}
    if options.triples:
        triples = json.loads(options.triples.read_text(encoding="utf-8"))
        sets["triples"] = [(row["response"], row["gold"], row["expected"]) for row in triples]
    records = []
    for name, rows in sets.items():
        for grader in (is_correct, math_verify):
            records.append({"set": name, "grader": grader.__name__, **measure(grader, rows)})
            print(json.dumps(records[-1]), flush=True)
    if options.record:
        what = "The grader (is_correct) beside math-verify with its defaults, on the same rows"
        command = f"python tests/grading/beside_math_verify.py triples.json --rows {options.rows}"
        made = {"command": command, "commit": commit(), "hardware": hardware(), "seed": 0}
        text = json.dumps({"what": what, **made, "versions": VERSIONS, "rows": records}, indent=1)
        options.record.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
