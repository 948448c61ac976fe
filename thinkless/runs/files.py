"""Files that say what happened: complete or absent, and readable by anyone.

`write_json` never leaves half a file; `read_metrics` forgives the last line that a kill cut off. The
rest describes where and with what a stage ran, for its manifest.
"""

import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from thinkless.errors import UserError

METRICS = "metrics.jsonl"
RESULTS = Path(__file__).parents[2] / "results"
"""Records that are kept with the code: what long runs have found, here or on other machines."""
RECORDED_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy")


class StageError(UserError, RuntimeError):
    """A stage cannot run or be trusted."""


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
    """See `write_text`."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_text(path: Path, text: str):
    """Writes under another name first, so that `path` is complete or as it was before."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
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


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _digest_content(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(path: Path) -> str | None:
    """SHA-256 of a file's content, read again only if its size or time changed; None if it is absent."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _digest_content(path, status.st_size, status.st_mtime_ns)


def digest_files(folder: Path, outputs: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file among `outputs`, files or folders inside `folder`, by relative path."""
    digests = {}
    for output in outputs:
        for path in sorted((folder / output).rglob("*") if (folder / output).is_dir() else [folder / output]):
            if path.is_file():
                digests[path.relative_to(folder).as_posix()] = digest_file(path) or ""
    return digests


@cache
def commit() -> str:
    """The package's git commit, with "+" if its files differ from it; "unknown" outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
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


def hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "processor": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "gpus": gpus,
    }


def _processor() -> str:
    """What the processor calls itself: Linux has a file for it, elsewhere Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def usage() -> tuple[float, float]:
    """CPU seconds of this process and its finished children, and their peak memory in MiB."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return seconds, max(own.ru_maxrss, children.ru_maxrss) / 1024


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in RECORDED_PACKAGES
    }
