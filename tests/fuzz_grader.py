"""Draw other examples for every property of the grader, until the time is over or one fails.

Run: python tests/fuzz_grader.py [--minutes 10] [--seed N]

A seed is drawn unless one is given; each round prints its own, and the next one's is one more. A property
that fails is shrunk and printed with the seed that finds it again, and the exit code is 1.
"""

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, is_hypothesis_test, seed, settings

sys.path[:0] = [str(Path(__file__).parent / "grading"), str(Path(__file__).parents[1])]
# before the properties are imported: they take what they do not set themselves from it
settings.register_profile(
    "fuzz",
    deadline=None,
    derandomize=False,
    max_examples=300,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")

import test_any_answer  # noqa: E402
import test_grade  # noqa: E402
import test_spellings  # noqa: E402

PROPERTIES = [
    value
    for module in (test_spellings, test_any_answer, test_grade)
    for value in vars(module).values()
    if is_hypothesis_test(value)
]


def fuzz(properties: Sequence[Callable[[], None]], minutes: float, first: int) -> int:
    """Rounds of all properties, one at least; returns the exit code."""
    deadline, number = time.monotonic() + 60 * minutes, first
    while True:
        print(f"seed {number}: {len(properties)} properties", flush=True)
        for check in properties:
            try:
                seed(number)(check)()
            except Exception:
                traceback.print_exc()
                print(f"{check.__name__} fails: --seed {number} finds it again", flush=True)
                return 1
        if time.monotonic() >= deadline:
            return 0
        number += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    options = parser.parse_args()
    sys.exit(fuzz(PROPERTIES, options.minutes, options.seed))
