"""Stages: work that is done once, can be killed anywhere, and says what it did.

A stage computes into its own folder, ``runs/<profile>/seed<k>/<stage>/``, from a profile and from
the folders of the stages it needs. The folder of a finished stage holds `manifest.json`, written
last, so that its existence means the rest is complete. `Runner.run` then

- skips a stage whose manifest matches what is asked for (its key: stage, settings, seed and inputs);
- resumes one that was begun with the same key (the stage finds its own checkpoints in the folder);
- puts a folder with another key aside under ``.archive/`` and brings back one that matches, so that
  going to and fro between two settings costs nothing twice.

What a stage computes is none of this file's business: see `stages.py`.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from thinkless.errors import StageError
from thinkless.files import digest, digest_file, digest_files, read_json, write_json
from thinkless.runs.launch import accelerate_launch, this_machine
from thinkless.runs.provenance import commit, hardware, usage, versions
from thinkless.runs.settings import Profile

MANIFEST, BEGUN, ARCHIVE = "manifest.json", "begun.json", ".archive"
LOCK_PATIENCE = 5
"""Seconds to wait for a stage's lock: a killed run's workers notice within two."""
NO_ROOM = re.compile(
    r"\(os error \d+\)|inline_container.*(unexpected pos|PytorchStreamWriter)|iostream error"
)
"""What safetensors and torch say where a disk is full: they write below Python, and raise no OSError."""
FOLLOWING = 2
"""Seconds between two looks at what the first machine has done."""


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
    prepare: Callable[["Run"], None] | None = None
    """Writes what `compute` starts from. Runs before it, in one process only, however many will compute."""


@dataclass(frozen=True)
class Run:
    """The things that a stage gets to work with."""

    profile: Profile
    seed: int
    folder: Path
    inputs: dict[str, Path]
    """Folder of each input stage, by stage name."""


class Runner:
    """Runs stages of one pipeline for one profile and seed, each after the stages it needs."""

    def __init__(
        self,
        stages: dict[str, Stage],
        profile: Profile,
        seed: int,
        runs_dir: str | Path,
        command: Callable[[str], list[str]] | None = None,
    ):
        """`command(name)` is the argument list that runs one stage in a process of its own; needed
        for `run_many` with several workers and for stages of several processes."""
        self.stages, self.profile, self.seed, self.command = stages, profile, seed, command
        self.root = Path(runs_dir).resolve() / profile.name / f"seed{seed}"

    def folder(self, name: str) -> Path:
        """The stage's folder. Raises StageError for an unknown name."""
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
        """Hash what the stage's result depends on. Its input stages must be finished."""
        stage = self.stages[name]
        inputs = {upstream: self.manifest(upstream)["files"] for upstream in stage.inputs}
        settings = json.loads(json.dumps(stage.settings(self.profile), default=str))
        return digest([name, settings, self.seed, inputs])

    def is_done(self, name: str) -> bool:
        """Whether the stage and all its inputs are finished for exactly these settings.

        Raises StageError for a damaged manifest, or a file that changed or went missing since.
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
        for file, expected in files.items():
            if digest_file(folder / file) != expected:
                state = "changed" if (folder / file).exists() else "is gone"
                raise StageError(
                    f"{folder / file} {state} since stage {name} wrote it: delete the folder {folder} "
                    "to run the stage again"
                )
        return True

    def run(self, name: str) -> Path:
        """Make sure the stage is done, and return its folder; see the module's docstring."""
        folder = self.folder(name)
        for upstream in self.stages[name].inputs:
            self.run(upstream)
        if self.is_done(name):
            return folder
        if this_machine(self.profile.launch.machines).rank > 0:
            self._follow(name)
            return folder
        with self._mine(name):
            self._prepare(name)
            self._execute(name)
        return folder

    def adopt(self, name: str, source: Path):
        """Take a finished folder of the same key as this stage's. Files are linked: nobody changes them."""
        folder = self.folder(name)
        with self._mine(name):
            self._prepare(name)
            if not (folder / MANIFEST).exists():
                partial = folder.with_name(f".{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(source, partial, copy_function=_link_or_copy)
                shutil.rmtree(folder)
                partial.rename(folder)

    @contextmanager
    def _mine(self, name: str) -> Iterator[None]:
        """Hold the stage's lock; turn disk errors into StageError."""
        folder = self.folder(name)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{name}.lock", timeout=LOCK_PATIENCE):
                yield
        except Timeout:
            raise StageError(f"stage {name} is already running in another process ({folder})") from None
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                place, reason = error.filename or folder, error.strerror
            elif NO_ROOM.search(str(error)):
                place, reason = folder, "no room for a file"
            elif isinstance(error, OSError):  # Transformers raises it for folders it cannot read
                raise StageError(f"stage {name} failed: {error}") from error
            else:
                raise
            raise StageError(
                f"cannot write to {place} ({reason}): choose another runs_dir or free some space; "
                "what was finished is kept"
            ) from None

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
        with ended_at_exit(running):
            while waiting or running:
                while waiting and len(running) < self.profile.launch.workers:
                    name = waiting.pop(0)
                    running[name] = self.start(name)
                time.sleep(1)
                on_progress()
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    self.check_exit(name, running.pop(name).returncode)

    def start(self, name: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
        """Begin a stage in a process of its own, on one thread unless `environment` says otherwise; ask
        `check_exit` when it has ended."""
        assert self.command is not None
        self.root.mkdir(parents=True, exist_ok=True)
        return self._start(name, self.command(name), **{"OMP_NUM_THREADS": "1", **(environment or {})})

    def _start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen:
        """A process that writes to the stage's log and ends when this process does."""
        with self._log(name).open("w") as log:
            return subprocess.Popen(
                [*command, "--owned"],
                stdin=subprocess.PIPE,  # closes when this process ends, however it ends
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    def _log(self, name: str) -> Path:
        machine = this_machine(self.profile.launch.machines).rank
        return self.root / (f".{name}.{machine}.log" if machine else f".{name}.log")

    def check_exit(self, name: str, returncode: int):
        """Raises StageError with the last line that the stage printed, if it failed."""
        if returncode:
            log = self._log(name)
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            cause = next((line for line in reversed(lines) if "error:" in line.lower()), lines[-1])
            raise StageError(f"stage {name} ended with exit code {returncode}: {cause} (whole log: {log})")

    def _prepare(self, name: str):
        """Leave in the stage's folder what belongs to its key, and nothing else."""
        folder, key = self.folder(name), self.key(name)
        archive = self.root / ARCHIVE
        present = next(
            (read_json(folder / f).get("key") for f in (MANIFEST, BEGUN) if (folder / f).exists()), None
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
            for half in folder.glob("tmp????????"):  # what `datasets` was writing when it was killed
                half.unlink()
            write_json(folder / BEGUN, {"key": key})

    def _execute(self, name: str):
        folder, stage = self.folder(name), self.stages[name]
        if (folder / MANIFEST).exists():  # it came back from the archive
            return
        started, (cpu_before, _) = time.perf_counter(), usage()
        if stage.prepare is not None:
            stage.prepare(self._run(name))
        write_json(folder / BEGUN, {"key": self.key(name), "prepared": True})
        # a large model's stage gives a GPU's memory back when its process ends: the next engine needs it
        large = self.profile.model.kind == "pretrained" and torch.cuda.is_available()
        if self.command is not None and (large or self._shared(name)):
            self._launch(name)
        else:
            self.compute(name)
        cpu, memory = usage()
        missing = [output for output in stage.outputs if not (folder / output).exists()]
        if missing:
            raise StageError(f"stage {name} ended without writing {', '.join(missing)} in {folder}")
        write_json(
            folder / MANIFEST,
            {
                "stage": name,
                "profile": self.profile.name,
                "key": self.key(name),
                "profile_hash": digest(self.profile.model_dump()),
                "settings": stage.settings(self.profile),
                "seed": self.seed,
                "inputs": {upstream: self.manifest(upstream)["key"] for upstream in stage.inputs},
                "files": digest_files(folder, stage.outputs),
                "metrics": read_json(folder / "result.json"),
                "commit": commit(),
                "versions": versions(),
                "hardware": hardware(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - started, 1),
                "cpu_seconds": round(cpu - cpu_before, 1),
                "peak_memory_mib": round(memory),
            },
        )
        (folder / BEGUN).unlink()

    def _shared(self, name: str) -> bool:
        """Whether several processes train one model in this stage."""
        return self.stages[name].distributed and self.profile.launch.processes > 1

    def _launch(self, name: str):
        """This machine's processes of a stage, until they end."""
        assert self.command is not None
        python, *arguments = self.command(name)
        launcher = [python, *(accelerate_launch(self.profile.launch) if self._shared(name) else ())]
        self.check_exit(name, self._start(name, [*launcher, *arguments, "--rank"]).wait())

    def _follow(self, name: str):
        """On a machine that is not the first: lend its processes to a stage, once, until it is done."""
        begun, needed = self.folder(name) / BEGUN, self.stages[name].distributed
        while not self.is_done(name):
            # not before the first machine has prepared it, which may take an hour: torch waits ten minutes
            prepared = {"key": self.key(name), "prepared": True} if needed else None
            if prepared and begun.exists() and read_json(begun) == prepared:
                self._launch(name)
                needed = False  # the first machine hashes the model now, and begun.json is still there
            time.sleep(FOLLOWING)

    def compute(self, name: str):
        """The computation alone, in this process; `run` wraps it. One rank of several calls this."""
        metrics = self.stages[name].compute(self._run(name))
        if int(os.environ.get("RANK", "0")) == 0:
            write_json(self.folder(name) / "result.json", metrics)

    def _run(self, name: str) -> Run:
        inputs = {upstream: self.folder(upstream) for upstream in self.stages[name].inputs}
        return Run(self.profile, self.seed, self.folder(name), inputs)


@contextmanager
def ended_at_exit(running: Mapping[Any, subprocess.Popen]) -> Iterator[None]:
    """End the processes that are still in `running` when the block is left, however it is left."""
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def _link_or_copy(source: str, target: str):
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
