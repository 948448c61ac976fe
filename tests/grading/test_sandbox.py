"""Proves that a comparison is bounded in time and memory, whoever asks: threads, forks, daemons, scripts.

Run: python -m pytest tests/grading/test_sandbox.py
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from thinkless.grading import is_correct, sandbox
from thinkless.grading.sandbox import equal

SLOW = "+".join(["(x+2^{-9000})!"] * 90)
"""An honest sum, to be computed to 18,000 bits: longer than the time limit."""
START = "print(__import__('thinkless.grading.sandbox').grading.sandbox.equal('x+1', '1+x'))"


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("given", "gold", "verdict"),
    [
        (r"\frac{x}{2}", "0.5x", True),
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        ("x+1", "x-1", False),
        ("0.0000314", r"\frac{\pi}{100000}", False),  # equal to six decimals, not to six digits
        ("0.0000314159265", r"\frac{\pi}{100000}", True),
        ("0.707107", r"\frac{\sqrt{2}}{2}", True),
        ("0.70711", r"\frac{\sqrt{2}}{2}", False),
        ("0.0314159", r"\frac{\pi}{100}", True),
        (r"3.141593", r"\pi", True),  # six decimals
        (r"3.14159", r"\pi", False),
        ("5", "5c", False),  # a variable, and no cent
        (r"5\text{ c}", "5", True),
        (r"\frac{", "x", False),
        ("+".join("1" * 990), "990", True),
        ("+".join("x" * 990), "990x", True),
    ],
)
def test_equal_as_mathematics(given, gold, verdict):
    assert equal(given, gold) is verdict


@pytest.mark.parametrize(
    "hostile",
    ["9^{9^{9^{9}}}", "(" * 1_900, r"\frac{" * 300 + "}" * 300, "1" * 1_900 + "!", SLOW, "\x00", "\ud800"],
    ids=["tower", "brackets", "fractions", "factorial", "slow", "nul", "surrogate"],
)
def test_hostile_answers_are_unequal_and_the_next_is_judged(hostile, monkeypatch):
    begun = time.monotonic()
    monkeypatch.setattr(sandbox, "TIME_LIMIT", 0.5)
    assert equal(hostile, "17x") is False
    assert time.monotonic() - begun < 30  # of the clock, on however busy a machine
    monkeypatch.undo()
    assert equal(r"\frac{34}{2}x", "17x") is True


def test_memory_is_bounded():
    """The worker lists what it may use; this is the limit that stops it."""
    assert equal("x+1", "1+x")
    with open(f"/proc/{sandbox._free[-1].process.pid}/limits") as limits:
        line = next(line for line in limits if line.startswith("Max address space"))
    with open(f"/proc/{sandbox._free[-1].process.pid}/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    assert int(line.split()[3]) < used + sandbox.MEMORY_LIMIT + 2**26


def test_a_worker_without_memory_left_calls_answers_wrong_and_goes_on(monkeypatch):
    monkeypatch.setattr(sandbox, "MEMORY_LIMIT", 2**27)
    sandbox._stop()
    assert equal("2^{10^{10}}", "17x") is False
    assert equal(r"\frac{34}{2}x", "17x") is True
    monkeypatch.undo()
    sandbox._stop()


def test_a_killed_worker_costs_nobody_the_right_answer():
    for number in range(2):
        assert equal(f"x+{number}", f"{number}+x")
        os.kill(sandbox._free[-1].process.pid, signal.SIGKILL)


def test_a_worker_is_renewed(monkeypatch):
    sandbox._stop()
    monkeypatch.setattr(sandbox, "RENEWAL", 2)
    assert equal("x+10", "10+x")
    (worker,) = sandbox._free
    assert equal("x+11", "11+x")
    assert sandbox._free == []
    assert not is_alive(worker.process.pid)
    assert equal("x+12", "12+x")


def test_an_interrupted_question_does_not_answer_the_next():
    """As Ctrl-C in a notebook: the late answer must not be read as that of another question."""

    def interrupt(*_):
        raise KeyboardInterrupt

    assert equal("x+1", "1+x")
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            equal(SLOW, "17x")
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert equal("x+1", "2+x") is False
    assert equal("x+1", "1+x") is True


# Who asks


def ask(number: int) -> list[bool]:
    return [is_correct(rf"\boxed{{x+{number}}}", gold) for gold in (f"{number}+x", "x+1000")]


def test_threads_ask_side_by_side(monkeypatch):
    sandbox._stop()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [[True, False]] * 40
    assert 1 <= len(sandbox._free) <= sandbox.WORKERS
    assert len({worker.process.pid for worker in sandbox._free}) == len(sandbox._free)


def test_a_slow_answer_does_not_hold_up_another():
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(equal, SLOW, "17x")
        time.sleep(0.2)
        assert equal("x+7", "7+x")
        assert not slow.done() or sandbox.WORKERS == 1
        assert slow.result() is False


def answer_into(queue, number: int):
    queue.put(ask(number))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_daemons_of_either_kind_have_workers_of_their_own(method):
    """As the workers of a DataLoader: daemons may have no children of multiprocessing."""
    assert equal("x+1", "1+x")
    worker = sandbox._free[-1]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=answer_into, args=(queue, 2000), daemon=True)
    process.start()
    assert queue.get(timeout=120) == [True, False]
    process.join(60)
    assert process.exitcode == 0
    assert sandbox._free[-1] is worker
    assert is_alive(worker.process.pid)
    assert equal("x+2", "2+x")


def test_a_fork_while_another_thread_asks():
    """The slots are taken in the parent for ever, as the child sees it."""
    with ExitStack() as taken:
        for _ in range(sandbox.WORKERS):
            taken.enter_context(sandbox._slots)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if ask(3000) == [True, False] else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_script_from_standard_input_needs_no_main_guard(tmp_path):
    result = subprocess.run([sys.executable, "-"], input=START, capture_output=True, text=True, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_a_worker_that_cannot_start_says_so(tmp_path):
    """A right answer must not be called wrong because a library is missing."""
    (tmp_path / "mpmath.py").write_text("raise ImportError('broken on purpose')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    result = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("RuntimeError: the grader cannot start its worker process (ImportError: broken")
    assert "-c 'import mpmath'` works" in message
    assert "False" not in result.stdout


@pytest.mark.parametrize("busy", [False, True])
def test_no_worker_outlives_its_caller(busy):
    """Not even if the caller is killed in the middle of a comparison that never ends."""
    code = (
        "import thinkless.grading.sandbox as v; v.TIME_LIMIT = 0.3; v.equal('x+1', '1+x');"
        "print(v._free[-1].process.pid, flush=True);"
        f"v.equal('{SLOW if busy else 'x'}', '17x'); input()"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    worker = int(caller.stdout.readline())
    assert is_alive(worker)
    if busy:
        time.sleep(0.1)
    caller.kill()
    caller.communicate()
    for _ in range(3_000):
        if not is_alive(worker):
            return
        time.sleep(0.1)
    raise AssertionError("the worker still runs")
