"""Where and with what a stage ran, for its manifest; and where the book's sources and records are."""

import os
import platform
import resource
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def _sources() -> Path:
    """The folder of the book's sources: the checkout, or where a wheel has put them."""
    beside = Path(__file__).parents[2]
    if (beside / "_toc.yml").exists():
        return beside
    recorded = [file for file in metadata.files("thinkless") or [] if file.name == "_toc.yml"]
    # pip's --target puts the book elsewhere than its own record says
    places = [*(Path(str(file.locate())).parent for file in recorded), beside / "share" / "thinkless"]
    return next((place for place in places if (place / "_toc.yml").exists()), beside)


SOURCES = _sources()
"""Where `_toc.yml`, `_config.yml`, `book/`, `notebooks/` and `results/` are."""
RESULTS = SOURCES / "results"
"""Records that are kept with the code: what long runs have found, here or on other machines."""
RECORDED_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy")


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
    """The processor's own name: Linux has a file for it, elsewhere Python knows."""
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
