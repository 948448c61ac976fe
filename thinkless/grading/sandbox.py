"""math-verify behind a wall: are two answers equal as mathematics? Never hangs, never raises on an answer.

Model output can be hostile (towers of exponents, endless brackets), and a library call cannot be
stopped from inside its thread. So math-verify runs in a process of its own that is killed when a
comparison takes too long, and that may only use so much memory. Every process that asks has its own
worker, be it forked or spawned, a daemon (as the workers of a DataLoader are) or not; its threads take
turns. The worker is a plain subprocess: nothing is asked of the caller's main module.
"""

import atexit
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

TIME_LIMIT = 5.0
"""Seconds of the worker's processor time that one comparison may take before it counts as unequal. Not
of the clock: on a machine that is busy with training, right answers would be called wrong."""
PATIENCE = 120.0
"""Seconds of the clock that a worker may take to answer, or to start, on however busy a machine."""
MEMORY_LIMIT = 2 * 1024**3
"""Bytes of address space that the worker may grow by; enforced on Linux."""
RENEWAL = 5_000
"""Comparisons after which a worker is replaced: the parser's caches only grow."""


def equal(given: str, gold: str) -> bool:
    """Whether two answers in LaTeX are equal as mathematics; False where that takes too much.

    Raises RuntimeError if no worker can be started: every answer would then be called wrong.
    """
    global _worker
    with _lock:
        for _ in range(2):  # a worker may have died of something else than this answer: once more
            if _worker is None or _worker.answered >= RENEWAL or _worker.process.poll() is not None:
                _stop()
                _worker = _Worker()
            try:
                return _worker.ask(given, gold)
            except TimeoutError:
                return False
            except (EOFError, OSError):
                continue
            finally:
                if not _worker.idle:
                    _stop()
    return False


class _Worker:
    """A running process that answers one question at a time."""

    def __init__(self):
        self.pipe, theirs = Pipe()
        command = f"from thinkless.grading.sandbox import _serve; _serve({theirs.fileno()}, {MEMORY_LIMIT})"
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", command],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.answered = 0
        self.idle = False
        """Whether the worker waits for a question. If not, what it sends next belongs to an old one."""
        try:
            if not self.pipe.poll(PATIENCE):
                raise TimeoutError(f"not ready after {PATIENCE:.0f} s")
            self.pipe.recv()
        except (EOFError, OSError) as error:
            self.kill()
            assert self.process.stderr is not None
            last_words = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(
                f"the grader cannot start its worker process ({last_words[-1] if last_words else error}): "
                f"check that `{sys.executable} -c 'import math_verify'` works"
            ) from None
        self.idle = True

    def ask(self, given: str, gold: str) -> bool:
        """Raises TimeoutError if it takes too long, EOFError or OSError if the worker died otherwise."""
        self.idle = False
        self.pipe.send((given, gold, TIME_LIMIT))
        if not self.pipe.poll(PATIENCE):
            raise TimeoutError
        try:
            answer = self.pipe.recv()
        except EOFError:
            if self.process.wait() == -signal.SIGPROF:
                raise TimeoutError from None
            raise
        self.idle, self.answered = True, self.answered + 1
        return answer

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.pipe.close()


_lock = Lock()
_worker: _Worker | None = None


def _stop():
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker = None


def _forget():
    """A forked child must neither use nor stop its parent's worker, and the lock may be held for ever."""
    global _lock, _worker
    _lock, _worker = Lock(), None


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)


# In the worker


def _serve(pipe_number: int, memory_limit: int):
    """Answer questions until the other end of the pipe is closed."""
    import math_verify  # noqa: F401  imported first, so that the limit counts growth only

    logging.disable()  # it warns that its own time limits are off; ours replace them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the caller
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            limit = memory_limit + int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with Connection(pipe_number) as pipe:
        _verify("1/2", "0.5")
        pipe.send("ready")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # nobody reads it from here on
        while True:
            try:
                given, gold, seconds = pipe.recv()
            except EOFError:
                return
            signal.setitimer(signal.ITIMER_PROF, seconds)  # dies of SIGPROF, also if the caller was killed
            answer = _verify(given, gold)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(answer)


def _verify(given: str, gold: str) -> bool:
    from math_verify import verify

    try:
        drop_units = not gold[-1:].isalpha() or not gold[-2:-1].isdigit()  # in 2m, m is no metre
        parsed = [_parse(text, drop_units) for text in (gold, given)]
        return verify(
            *parsed,
            float_rounding=_decimals(parsed[0]),
            allow_set_relation_comp=True,
            timeout_seconds=None,
        )
    except Exception:  # a bad answer is data: whatever it did, it is not equal
        return False


@lru_cache(maxsize=1024)
def _parse(text: str, drop_units: bool) -> list[Any]:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    rewriting = NormalizationConfig(
        basic_latex=True, units=drop_units, malformed_operators=True, nits=True, boxed="all"
    )
    targets = [LatexExtractionConfig(normalization_config=rewriting), ExprExtractionConfig()]
    return parse(f"\\boxed{{{text}}}", targets, parsing_timeout=None)


def _decimals(gold: list[Any]) -> int:
    """Decimals to which two numbers must agree: six, or six significant digits of a smaller one."""
    try:
        size = abs(float(gold[0]))
    except Exception:  # not a number
        return 6
    return 5 - math.floor(math.log10(size)) if 0 < size < 1 else 6
