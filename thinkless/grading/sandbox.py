"""Algebra behind a wall: are two answers equal as mathematics? Never hangs, never raises on an answer.

Model output can be hostile (towers of exponents, endless brackets), and a library call cannot be
stopped from inside its thread. So algebra runs in processes of their own that are killed when a
comparison takes too long, and that may only use so much memory. Every process that asks has its own
workers, be it forked or spawned, a daemon (as the workers of a DataLoader are) or not; its threads ask
side by side. A worker is a plain subprocess: nothing is asked of the caller's main module.
"""

import atexit
import os
import resource
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import BoundedSemaphore

TIME_LIMIT = 2.0
"""Seconds of the worker's processor time that one comparison may take before it counts as unequal. Not
of the clock: on a machine that is busy with training, right answers would be called wrong."""
PATIENCE = 120.0
"""Seconds of the clock that a worker may take to answer, or to start, on however busy a machine."""
MEMORY_LIMIT = 2**30
"""Bytes of address space that a worker may grow by; enforced on Linux."""
RENEWAL = 20_000
"""Comparisons after which a worker is replaced, against slow growth."""
WORKERS = min(4, os.cpu_count() or 1)
"""Processes at most for each process that asks; the second starts when two threads ask at once."""


def equal(given: str, gold: str) -> bool:
    """Whether two answers are equal as mathematics; False where that takes too much.

    Raises RuntimeError if no worker can be started: every answer would then be called wrong.
    """
    with _slots:
        for _ in range(2):  # a worker may have died of something else than this answer: once more
            worker = _free.pop() if _free else _Worker()
            try:
                return worker.ask(given, gold)
            except TimeoutError:
                return False
            except (EOFError, OSError):
                continue
            finally:
                if worker.idle and worker.answered < RENEWAL:
                    _free.append(worker)
                else:
                    worker.kill()
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
                f"check that `{sys.executable} -c 'import mpmath'` works"
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


_slots = BoundedSemaphore(WORKERS)
_free: list[_Worker] = []
"""Workers that wait for a question."""


def _stop():
    while _free:
        _free.pop().kill()


def _forget():
    """A forked child must neither use nor stop its parent's workers, and a slot may be held for ever."""
    global _slots
    _slots = BoundedSemaphore(WORKERS)
    _free.clear()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)


# In the worker


def _serve(pipe_number: int, memory_limit: int):
    """Answer questions until the other end of the pipe is closed."""
    import thinkless.grading.algebra as algebra  # first, so that the limit counts growth only
    from thinkless.grading.compare import matches

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the caller
    sys.setrecursionlimit(20_000)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            limit = memory_limit + int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with Connection(pipe_number) as pipe:
        pipe.send("ready")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # nobody reads it from here on
        while True:
            try:
                given, gold, seconds = pipe.recv()
            except EOFError:
                return
            signal.setitimer(signal.ITIMER_PROF, seconds)  # dies of SIGPROF, also if the caller was killed
            try:
                answer = matches(given, gold, algebra)
            except Exception:  # a bad answer is data: whatever it did, it is not equal
                answer = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(answer)
