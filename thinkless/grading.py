"""Is the final answer of a response right? Bounded in time and memory, and never an exception.

The final answer is what stands after the reasoning: the last ``\\boxed{...}``, else what follows
``####``, else the right-hand side of the last ``=``, else the last number, else the last line.
Answers that are equal as text are right at once. Everything else is compared as mathematics by
math-verify, in a worker process that is killed if it takes too long: model output can be hostile
(towers of exponents, endless brackets), and a library call cannot be stopped from inside its thread.
"""

import logging
import multiprocessing
import re
import resource
from atexit import register
from functools import lru_cache
from threading import Lock

from pebble import ProcessExpired, ProcessPool

from thinkless.modes import END_OF_THINKING

TIME_LIMIT = 5.0
"""Seconds that one comparison may take before it counts as wrong."""
MEMORY_LIMIT = 2 * 1024**3
"""Bytes of address space that the worker may grow by."""
LONGEST_ANSWER = 2_000
"""Characters; a longer "final answer" is babble and is wrong without being parsed."""

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def final_answer(response: str) -> str:
    """The part of a response that is to be graded, stripped; empty if there is none."""
    answer = response.rpartition(END_OF_THINKING)[2]
    boxed = _last_boxed(answer)
    if boxed is not None:
        return boxed.strip()
    if "####" in answer:
        return answer.rpartition("####")[2].strip()
    last_line = answer.strip().splitlines()[-1] if answer.strip() else ""
    if "=" in last_line:
        return last_line.rpartition("=")[2].strip(" .$")
    numbers = _NUMBER.findall(last_line)
    return numbers[-1] if numbers else last_line.strip(" .$")


def _last_boxed(text: str) -> str | None:
    """Content of the last \\boxed{...} with its braces balanced; None if absent or never closed."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for position in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return None


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
    if given == gold:
        return True
    if not given or len(given) > LONGEST_ANSWER:
        return False
    if len(given) == 1 and len(gold) == 1:  # two different characters: no mathematics makes them equal
        return False
    return _equal_as_mathematics(given, gold)


@lru_cache(maxsize=4096)
def _equal_as_mathematics(given: str, gold: str) -> bool:
    for _ in range(2):
        worker = _worker()
        try:
            return worker.schedule(_verify, args=(given, gold), timeout=TIME_LIMIT).result()
        except (ProcessExpired, RuntimeError):  # the worker died, perhaps not of this answer: once more
            continue
        except Exception:  # a bad answer is data: whatever it did to the worker, it is not equal
            break
    return False


_lock = Lock()
_pool: ProcessPool | None = None


def _worker() -> ProcessPool:
    """The one worker process, started at the first comparison that needs it.

    Raises RuntimeError if it does not start: every answer would then be called wrong.
    """
    global _pool
    with _lock:
        if _pool is None or not _pool.active:
            pool = ProcessPool(
                max_workers=1, initializer=_limit_memory, context=multiprocessing.get_context("spawn")
            )
            register(pool.stop)
            try:
                pool.schedule(_verify, args=("1/2", "0.5")).result()
            except Exception as error:
                pool.stop()
                raise RuntimeError(
                    f"the grader cannot start its worker process ({error}): call it from a file, not from "
                    'standard input, whose code stands below `if __name__ == "__main__":`'
                ) from error
            _pool = pool
        return _pool


def _limit_memory():
    import math_verify  # noqa: F401  imported first, so that the limit counts growth only

    logging.disable()  # it warns at every call that its own time limits are off; ours replace them
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, used + MEMORY_LIMIT))


def _verify(given: str, gold: str) -> bool:
    from math_verify import parse, verify

    parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, given)]
    return verify(*parsed, timeout_seconds=None)
