"""Kill a whole pipeline at random moments until it has ended anyway, and compare it with one left alone.

Run: python tests/torture.py [--kills 200] [--seed 0] [--profile smoke] [--folder _build/torture]

`thinkless train` runs in a process group of its own, which gets SIGKILL, and is called again. A life lasts
on average as long as the stage that it begins with takes when left alone, so that short stages are hit as
often as long ones. Half of the kills come at any moment, the others at the first change of a file after it,
where writing is under way. A pipeline that has ended is compared with the one left alone, tensor by tensor
and record by record, and the next one begins in a fresh folder. Killed itself, the same command goes on. A
line is appended to `--record`.

Every life is forked from this process, which has imported everything: kills land in the work.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process with threads cannot be forked
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from safetensors.numpy import load_file

import thinkless.stages  # noqa: F401  every life begins with it
from thinkless.__main__ import end_with_owner, main
from thinkless.files import digest_file, json_lines, read_json, write_json
from thinkless.pipeline import pipeline
from thinkless.runs.metrics import METRICS
from thinkless.runs.provenance import RESULTS, commit, hardware, versions
from thinkless.runs.runner import MANIFEST, Runner

TIMES = {"step_time"}
"""Measured by the clock, so that no two runs agree."""


def start(command: list[str], log: Path) -> int:
    """The id of a child that carries out `command`, in a process group of its own; it ends when we do."""
    read, _ = pipe = os.pipe()
    child = os.fork()
    if child:
        os.setpgid(child, child)  # as it does itself: whoever comes first, a kill finds the group
        os.close(read)
        OWNED[child] = pipe[1]
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        os.close(pipe[1])
        for other in OWNED.values():
            os.close(other)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for source, target in ((read, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        end_with_owner()
        code = main(command)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


OWNED: dict[int, int] = {}
"""Our end of each living child's standard input."""


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder, in which somebody is at work."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            found[path] = status.st_size, status.st_mtime_ns
    return found


def live(command: list[str], folder: Path, log: Path, seconds: float | None, at_write: bool) -> int | None:
    """Carry out `command` for so many seconds, and until a file changes if `at_write`; then kill its group.

    Returns its exit code if it ended before that, else None. `seconds` of None: leave it alone.
    """
    child, deadline, before = start(command, log), time.monotonic() + (seconds or 0), None
    try:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if seconds is not None and time.monotonic() >= deadline:
                if not at_write:
                    break
                now = files(folder)
                if before not in (None, now):
                    break
                before = now
            time.sleep(0.002)
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    finally:
        os.close(OWNED.pop(child))


def outcome(runner: Runner) -> Iterator[tuple[str, Any]]:
    """What a finished pipeline has found, piece by piece, in the order of its stages."""
    for stage in runner.stages:
        folder, manifest = runner.folder(stage), read_json(runner.folder(stage) / MANIFEST)
        yield (
            f"{stage}, files in the folder",
            sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")),
        )
        yield f"{stage}, key", manifest["key"]
        for name, value in manifest["metrics"].items():
            if name not in TIMES:
                yield f"{stage}, {name}", value
        for file in [*manifest["files"], *([METRICS] if (folder / METRICS).exists() else [])]:
            where = f"{stage}, {file}"
            if file.endswith(".safetensors"):
                for name, tensor in load_file(folder / file).items():
                    yield f"{where}, {name}", hashlib.sha256(tensor.tobytes()).hexdigest()
            elif file.endswith(".jsonl"):
                for number, line in enumerate(json_lines(folder / file), start=1):
                    yield f"{where}, line {number}", {k: v for k, v in line.value.items() if k not in TIMES}
            else:
                yield where, digest_file(folder / file)


def first_difference(one: Runner, other: Runner) -> str | None:
    """Where two finished pipelines part, with both values; None if they are equal."""
    ours, theirs = dict(outcome(one)), dict(outcome(other))
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            return f"{name}: {theirs.get(name, 'absent')}, left alone {ours.get(name, 'absent')}"
    return None


def stage_reached(runner: Runner) -> str | None:
    """The first stage that is not finished; None if all are."""
    return next((name for name in runner.stages if not (runner.folder(name) / MANIFEST).exists()), None)


def torture(folder: Path, profile: str, overrides: dict[str, Any], kills: int, seed: int) -> dict[str, Any]:
    """Kill so often, in as many rounds as it takes; see the module. Returns the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    state, log, began = folder / "state.json", folder / "life.log", time.monotonic()
    asked = {"profile": profile, "overrides": overrides, "seed": seed}
    done = {**asked, "done": 0, "at_write": 0, "rounds": 0, "alone": None, "seconds": 0.0, "difference": None}
    done["stages"] = {}  # kills in each
    if state.exists():
        done = read_json(state)
        if {name: done[name] for name in asked} != asked:
            sys.exit(f"error: {folder} holds another torture: delete it, or name another folder")
    before = done["seconds"]

    def runs(name: str) -> tuple[list[str], Runner]:
        where = ["--profile", profile, "--overrides", json.dumps(overrides), "--runs-dir", str(folder / name)]
        return ["train", *where], pipeline(profile, 0, overrides, folder / name)

    def say(text: str):
        done["seconds"] = before + time.monotonic() - began
        write_json(state, done)
        print(
            f"{done['seconds']:7.0f} s  kill {done['done']} of {kills}, round {done['rounds'] + 1}: {text}",
            flush=True,
        )

    def failed(code: int) -> str:
        return f"ended with exit code {code}: {log.read_text(errors='replace').strip().splitlines()[-1]}"

    print(f"seed {seed}", flush=True)
    if done["alone"] is None:
        shutil.rmtree(folder / "alone", ignore_errors=True)  # measured whole
        started = time.monotonic()
        if code := live(runs("alone")[0], folder, log, None, False):
            sys.exit(f"error: left alone, {failed(code)}")
        done["alone"] = time.monotonic() - started
        say(f"left alone, it takes {done['alone']:.0f} s")
    left_alone = runs("alone")[1]
    while done["done"] < kills and not done["difference"]:
        name = f"round{done['rounds'] + 1}"
        command, runner = runs(name)
        code, reached = None, stage_reached(runner)
        while code is None:
            rng = random.Random(f"{seed} {done['rounds']} {done['done']}")
            stage = reached or list(runner.stages)[-1]
            rate = 1 / read_json(left_alone.folder(stage) / MANIFEST)["seconds"]
            seconds = rng.expovariate(rate) if done["done"] < kills else None
            at_write = rng.random() < 0.5
            code = live(command, folder / name, log, seconds, at_write)
            if code is None:
                reached = stage_reached(runner)
                done["done"] += 1
                done["at_write"] += at_write
                done["stages"][reached or "end"] = done["stages"].get(reached or "end", 0) + 1
                say(f"{seconds:.1f} s{', at a write' if at_write else ''}, in {reached or 'the end'}")
        done["difference"] = failed(code) if code else first_difference(left_alone, runner)
        if not done["difference"]:
            done["rounds"] += 1
            say("ended, and is equal")
            shutil.rmtree(folder / name)
    say(done["difference"] or "all are equal")
    return done


def record(done: dict[str, Any]) -> dict[str, Any]:
    """The line for `results/`."""
    command = (
        f"python tests/torture.py --kills {done['done']} --seed {done['seed']} --profile {done['profile']}"
    )
    return {
        "what": "A pipeline killed with SIGKILL at random moments, beside one left alone",
        "command": command,
        "kills": done["done"],
        "at_a_write": done["at_write"],
        "stages": done["stages"],
        "survived": done["done"] - bool(done["difference"]),
        "rounds": done["rounds"],
        "equal": not done["difference"],
        "difference": done["difference"],
        "seconds_alone": round(done["alone"], 1),
        "hours": round(done["seconds"] / 3600, 2),
        "commit": commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
    }


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--folder", type=Path, default=Path("_build/torture"))
    parser.add_argument("--record", type=Path, default=RESULTS / "torture.jsonl")
    options = parser.parse_args()
    done = torture(options.folder.resolve(), options.profile, options.overrides, options.kills, options.seed)
    line = record(done)
    with options.record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    (options.folder / "state.json").unlink()
    names = ("kills", "survived", "rounds", "equal", "hours")
    print(", ".join(f"{name} {line[name]}" for name in names))
    return 0 if line["equal"] else 1


if __name__ == "__main__":
    sys.exit(run())
