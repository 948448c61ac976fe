"""SIGKILL at random moments through the whole pipeline, which must end as if nobody had disturbed it.

Run: python tests/torture.py [--kills 200] [--seed 0] [--folder FOLDER] [--record results/torture.jsonl]

`thinkless train --profile smoke` runs once undisturbed. Then it is killed and begun again, in one folder,
until it ends; then so in a fresh folder, until there were enough kills. What every stage promises is compared
with the undisturbed run. Each attempt is a process group of its own, forked from a process that has only imported
the package: so moments fall into the work, not into ten seconds of imports, and no state outlives an attempt.
The moments follow from the seed. Kill this command itself and call it again: it goes on from its attempts.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from safetensors.torch import load_file  # noqa: E402

from thinkless.__main__ import end_with_owner, main  # noqa: E402
from thinkless.files import json_lines, read_json  # noqa: E402
from thinkless.pipeline import pipeline  # noqa: E402
from thinkless.runs.provenance import commit, hardware  # noqa: E402

SHARE = 1 / 6
"""The latest moment of a kill, as a share of the undisturbed run's time."""
CLOCKS = {"step_time"}
"""Measurements that differ between any two runs."""


def attempt(folder: Path, kill_after: float | None) -> tuple[int | None, float]:
    """Run the pipeline in `folder`; returns its exit code, None if it was killed, and its seconds."""
    ours, theirs = os.pipe()  # closes when this process ends, and ends the attempt with it
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(ours, 0)
        os.close(theirs)
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        end_with_owner()
        code = 1
        try:
            code = main(["train", "--profile", "smoke", "--runs-dir", str(folder)])
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(ours)
    try:
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if kill_after is not None and time.monotonic() - started >= kill_after:
                os.killpg(child, signal.SIGKILL)
                break
            time.sleep(0.002)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(theirs)
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code, time.monotonic() - started


def first_difference(reference: Path, other: Path) -> str | None:
    """The first thing in which two finished pipelines differ, the times apart; None if there is none."""
    stages, others = (pipeline("smoke", runs_dir=folder) for folder in (reference, other))
    for name in stages.stages:
        here, there = stages.folder(name), others.folder(name)
        if not others.is_done(name):  # which hashes every file that was promised
            return f"{name}: not done"
        if found := _unequal(f"{name}: files", _files(here), _files(there)):
            return found
        made, makes = stages.manifest(name), others.manifest(name)
        for file in made["files"]:
            if made["files"][file] != makes["files"][file]:
                return f"{name}: {file}{_inside(here / file, there / file)}"
        for what in ("key", "settings", "seed", "inputs", "metrics"):
            if found := _unequal(f"{name}: {what}", made[what], makes[what]):
                return found
        for file in sorted(here.glob("*.json*")):
            if file.name != "manifest.json" and (inside := _inside(file, there / file.name)):
                return f"{name}: {file.name}{inside}"
    return None


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _inside(here: Path, there: Path) -> str:
    """Where two files differ, as the end of a sentence; empty if they do not, the times apart."""
    if here.suffix == ".safetensors":
        ours, theirs = load_file(here), load_file(there)
        for name in ours:
            if name not in theirs or not ours[name].equal(theirs[name]):
                return f": tensor {name}"
    if here.suffix in (".json", ".jsonl"):
        read: Callable[[Path], Any] = (
            read_json if here.suffix == ".json" else lambda path: [line.value for line in json_lines(path)]
        )
        return _unequal("", read(here), read(there)) or ""
    return "" if here.read_bytes() == there.read_bytes() else ": other bytes"


def _unequal(place: str, ours: Any, theirs: Any) -> str | None:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        pairs = {key: (ours.get(key), theirs.get(key)) for key in [*ours, *theirs] if key not in CLOCKS}
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = dict(enumerate(zip(ours, theirs, strict=True)))
    else:
        return None if ours == theirs else f"{place}: {theirs!r:.200}, undisturbed {ours!r:.200}"
    return next((found for key, two in pairs.items() if (found := _unequal(f"{place}, {key}", *two))), None)


def torture(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill `kills` times, over as many rounds as that takes; the record of it."""
    folder.mkdir(parents=True, exist_ok=True)
    reference, journal = folder / "undisturbed", folder / "attempts.jsonl"
    attempts = [line.value for line in json_lines(journal, may_be_cut=True)] if journal.exists() else []
    if not attempts:
        shutil.rmtree(reference, ignore_errors=True)

    def note(entry: dict[str, Any]):
        attempts.append(entry)
        with journal.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in attempts)

    if not attempts:
        code, seconds = attempt(reference, None)
        if code:
            sys.exit(f"the undisturbed run failed: {folder}/undisturbed.log")
        note({"round": 0, "seconds": seconds, "end": "undisturbed"})
    longest = SHARE * attempts[0]["seconds"]
    print(f"seed {seed}: kills after at most {longest:.1f} s; {folder}", flush=True)

    def done(end: str) -> int:
        return sum(entry["end"] == end for entry in attempts)

    while done("killed") < kills or attempts[-1]["end"] == "killed":
        if attempts[-1]["end"] not in ("killed", "finished", "undisturbed"):
            break
        killed, number = done("killed"), done("finished") + 1
        here = folder / f"round{number}"
        after = random.Random(f"{seed} {killed}").uniform(0, longest) if killed < kills else None
        code, seconds = attempt(here, after)
        entry = {"round": number, "seconds": round(seconds, 3), "end": "killed"}
        if code is None:
            begun = sorted(here.glob("smoke/seed0/*/begun.json"), key=lambda path: path.stat().st_mtime)
            entry["stage"] = begun[-1].parent.name if begun else "between stages"
        elif code:
            lines = here.with_suffix(".log").read_text(errors="replace").strip().splitlines()
            entry["end"] = f"failed after a kill: {' '.join(lines[-1:])}"
        else:
            entry["end"] = first_difference(reference, here) or "finished"
            if entry["end"] == "finished":
                shutil.rmtree(here)
        note(entry)
        if entry["end"] != "killed" or done("killed") % 10 == 0:
            hours = sum(entry["seconds"] for entry in attempts) / 3600
            print(f"{done('killed')} kills, round {number}, {hours:.2f} h: {entry['end']}", flush=True)

    last = attempts[-1]["end"]
    return {
        "what": "thinkless train --profile smoke, killed at random moments, beside an undisturbed run",
        "command": f"python tests/torture.py --kills {kills} --seed {seed}",
        "commit": commit(),
        "hardware": hardware(),
        "seed": seed,
        "kills": done("killed"),
        "survived": done("killed") - last.startswith("failed"),
        "rounds": attempts[-1]["round"],
        "killed_in": dict(Counter(entry["stage"] for entry in attempts if "stage" in entry).most_common()),
        "equal": last == "finished",
        "difference": None if last == "finished" else last,
        "hours": round(sum(entry["seconds"] for entry in attempts) / 3600, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Kill the pipeline at random moments, and compare.")
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--folder", type=Path, help="by default one of this commit and seed in _build/torture"
    )
    options.add_argument("--record", type=Path, help="append the record to this file")
    chosen = options.parse_args()
    place = chosen.folder or ROOT / "_build" / "torture" / f"{commit()}-seed{chosen.seed}"
    record = torture(place.resolve(), chosen.kills, chosen.seed)
    if chosen.record:
        with chosen.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    told = "equal" if record["equal"] else f"not equal: {record['difference']}"
    print(f"{record['kills']} kills, {record['survived']} survived, {told}, {record['hours']} h")
    sys.exit(not record["equal"])
