"""Stages: work that is done once, can be killed anywhere, and says what it did.

A stage computes into its own folder, ``runs/<profile>/seed<k>/<stage>/``, from a profile and from
the folders of the stages it needs. The folder of a finished stage holds `manifest.json`, written
last, so that its existence means the rest is complete. `Runner.run` then

- skips a stage whose manifest matches what is asked for (its key: stage, settings, seed and inputs);
- resumes one that was begun with the same key (the stage finds its own checkpoints in the folder);
- puts a folder with another key aside under ``.archive/`` and brings back one that matches, so that
  going to and fro between two settings costs nothing twice.

What a stage computes is none of this file's business: see `pipeline.py`.
"""

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from thinkless.profiles import Profile

MANIFEST, BEGUN, METRICS, ARCHIVE = "manifest.json", "begun.json", "metrics.jsonl", ".archive"
RECORDED_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy")


class StageError(RuntimeError):
    """A stage cannot run or be trusted; the message is one line that names the way out."""


@dataclass(frozen=True)
class Stage:
    """A named computation. `settings` picks the part of the profile that its result depends on."""

    name: str
    settings: Callable[[Profile], dict[str, Any]]
    compute: Callable[["Run"], dict[str, Any]]
    """Writes into `run.folder` and returns the metrics for the manifest."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """Files and folders that must exist in the folder when the stage is done."""
    distributed: bool = False
    """Whether it may be launched as several processes that train one model."""


@dataclass(frozen=True)
class Run:
    """What a stage gets to work with."""

    profile: Profile
    seed: int
    folder: Path
    inputs: dict[str, Path]
    """Folder of each input stage, by stage name."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk. Raises StageError naming the folder to delete if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        return value
    except (ValueError, OSError) as error:
        raise StageError(
            f"{path} is damaged ({error}): delete the folder {path.parent} to run the stage again"
        ) from None


def write_json(path: Path, value: dict[str, Any]):
    """Writes under another name first, so that `path` is complete or absent."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`, oldest first; a last line cut off by a kill is left out."""
    path = folder / METRICS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _digest_files(folder: Path, outputs: Sequence[str]) -> dict[str, str]:
    digests = {}
    for output in outputs:
        for path in sorted((folder / output).rglob("*") if (folder / output).is_dir() else [folder / output]):
            if path.is_file():
                digests[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


@cache
def _commit() -> str:
    """The package's git commit, with "+" if its files differ from it; "unknown" outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True
        ).stdout
        return commit[:12] + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "gpus": gpus,
    }


def _usage() -> tuple[float, float]:
    """CPU seconds of this process and its finished children, and their peak memory in MiB."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return seconds, max(own.ru_maxrss, children.ru_maxrss) / 1024


class Runner:
    """Runs stages of one pipeline for one profile and seed, each after the stages it needs."""

    def __init__(
        self,
        stages: dict[str, Stage],
        profile: Profile,
        seed: int,
        runs_dir: str | Path = "runs",
        command: Callable[[str], list[str]] | None = None,
    ):
        """`command(name)` is the argument list that runs one stage in a process of its own; needed
        for `run_many` with several workers and for stages of several processes."""
        self.stages, self.profile, self.seed, self.command = stages, profile, seed, command
        self.root = Path(runs_dir).resolve() / profile.name / f"seed{seed}"

    def folder(self, name: str) -> Path:
        """Where the stage lives. Raises StageError for an unknown name."""
        if name not in self.stages:
            raise StageError(f"there is no stage {name!r}: there are {', '.join(self.stages)}")
        return self.root / name

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a finished stage. Raises StageError if it has none or it is damaged."""
        path = self.folder(name) / MANIFEST
        if not path.exists():
            raise StageError(f"stage {name} has not finished in {path.parent}: run it first")
        return read_json(path)

    def key(self, name: str) -> str:
        """What the stage's result depends on, as a hash. Its input stages must be finished."""
        stage = self.stages[name]
        inputs = {upstream: self.manifest(upstream)["files"] for upstream in stage.inputs}
        settings = json.loads(json.dumps(stage.settings(self.profile), default=str))
        return _digest([name, settings, self.seed, inputs])

    def is_done(self, name: str) -> bool:
        """Whether the stage and all its inputs are finished for exactly these settings.

        Raises StageError for a damaged manifest, or one whose files have since gone missing.
        """
        stage, folder = self.stages[name], self.folder(name)
        if not all(self.is_done(upstream) for upstream in stage.inputs) or not (folder / MANIFEST).exists():
            return False
        manifest = read_json(folder / MANIFEST)
        try:
            key, files = manifest["key"], manifest["files"]
        except KeyError as missing:
            raise StageError(
                f"{folder / MANIFEST} lacks {missing}: delete the folder {folder} to run the stage again"
            ) from None
        if key != self.key(name):
            return False
        gone = [file for file in files if not (folder / file).is_file()]
        if gone:
            raise StageError(
                f"stage {name} lost its file {gone[0]}: delete the folder {folder} to run it again"
            )
        return True

    def run(self, name: str) -> Path:
        """Make sure the stage is done, and return its folder; see the module's docstring."""
        folder = self.folder(name)
        for upstream in self.stages[name].inputs:
            self.run(upstream)
        if self.is_done(name):
            return folder
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{name}.lock", timeout=0):
                self._prepare(name)
                self._execute(name)
        except Timeout:
            raise StageError(f"stage {name} is already running in another process ({folder})") from None
        except OSError as error:
            raise StageError(
                f"cannot write to {error.filename or folder}: {error.strerror or error}; choose another "
                "runs_dir or free some space"
            ) from None
        return folder

    def run_many(self, names: Sequence[str], on_progress: Callable[[], None] = lambda: None):
        """Run independent stages, `launch.workers` at a time, calling `on_progress` every second.

        With several workers each stage gets a process and one thread. The first failure stops the
        others, at their last checkpoint, and raises StageError with the last line it printed.
        """
        for name in names:
            for upstream in self.stages[name].inputs:
                self.run(upstream)
        waiting = [name for name in names if not self.is_done(name)]
        if self.profile.launch.workers == 1 or self.command is None:
            for name in waiting:
                self.run(name)
                on_progress()
            return
        running: dict[str, subprocess.Popen] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.profile.launch.workers:
                    name = waiting.pop(0)
                    self.root.mkdir(parents=True, exist_ok=True)
                    with (self.root / f".{name}.log").open("w") as log:
                        running[name] = subprocess.Popen(
                            self.command(name),
                            stdout=log,
                            stderr=log,
                            env={**os.environ, "OMP_NUM_THREADS": "1"},
                        )
                time.sleep(1)
                on_progress()
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    self._check_exit(name, running.pop(name).returncode)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()

    def _check_exit(self, name: str, returncode: int):
        if returncode:
            log = self.root / f".{name}.log"
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise StageError(
                f"stage {name} ended with exit code {returncode}: {lines[-1]} (whole log: {log})"
            )

    def _prepare(self, name: str):
        """Leave in the stage's folder what belongs to its key, and nothing else."""
        folder, key = self.folder(name), self.key(name)
        archive = self.root / ARCHIVE
        present = next(
            (read_json(folder / f)["key"] for f in (MANIFEST, BEGUN) if (folder / f).exists()), None
        )
        if folder.exists() and present != key:
            archive.mkdir(exist_ok=True)
            aside = archive / f"{name}-{(present or 'unknown')[:12]}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        kept = archive / f"{name}-{key[:12]}"
        if kept.exists() and not folder.exists():
            kept.rename(folder)
        folder.mkdir(exist_ok=True)
        if not (folder / MANIFEST).exists():
            write_json(folder / BEGUN, {"key": key})

    def _execute(self, name: str):
        folder, stage = self.folder(name), self.stages[name]
        if (folder / MANIFEST).exists():  # it came back from the archive
            return
        started, (cpu_before, _) = time.perf_counter(), _usage()
        processes = self.profile.launch.processes
        if stage.distributed and processes > 1 and self.command is not None:
            launch = [
                "-m",
                "accelerate.commands.launch",
                "--num_processes",
                str(processes),
                "--num_machines",
                "1",
            ]
            launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
            python, *arguments = self.command(name)
            with (self.root / f".{name}.log").open("w") as log:
                rank = subprocess.run([python, *launch, *arguments, "--rank"], stdout=log, stderr=log)
            self._check_exit(name, rank.returncode)
        else:
            self.compute(name)
        cpu, memory = _usage()
        missing = [output for output in stage.outputs if not (folder / output).exists()]
        if missing:
            raise StageError(f"stage {name} ended without writing {', '.join(missing)} in {folder}")
        write_json(
            folder / MANIFEST,
            {
                "stage": name,
                "profile": self.profile.name,
                "key": self.key(name),
                "profile_hash": _digest(self.profile.model_dump()),
                "settings": stage.settings(self.profile),
                "seed": self.seed,
                "inputs": {upstream: self.manifest(upstream)["key"] for upstream in stage.inputs},
                "files": _digest_files(folder, stage.outputs),
                "metrics": read_json(folder / "result.json"),
                "commit": _commit(),
                "versions": {"python": platform.python_version()}
                | {p: metadata.version(p) for p in RECORDED_PACKAGES},
                "hardware": _hardware(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - started, 1),
                "cpu_seconds": round(cpu - cpu_before, 1),
                "peak_memory_mib": round(memory),
            },
        )
        (folder / BEGUN).unlink()

    def compute(self, name: str):
        """The computation alone, in this process; `run` wraps it. One rank of several calls this."""
        stage, folder = self.stages[name], self.folder(name)
        inputs = {upstream: self.folder(upstream) for upstream in stage.inputs}
        metrics = stage.compute(Run(self.profile, self.seed, folder, inputs))
        if int(os.environ.get("RANK", "0")) == 0:
            write_json(folder / "result.json", metrics)


def fail(error: Exception) -> int:
    """Print an expected error as one line on standard error; returns the exit code 1."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
