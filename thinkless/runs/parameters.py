"""The parameters of a run that are no profile: checked where they come in, from a chapter or a command."""

from pathlib import Path
from typing import Any

from thinkless.runs.profiles import ProfileError

SEEDS = 2**31
"""A seed is below this. NumPy takes 2**32, and repetitions and processes have seeds that follow the run's."""


def check_seed(seed: Any):
    """Raises ProfileError unless `seed` is a whole number that leaves room for the seeds that follow it."""
    if type(seed) is not int or not 0 <= seed < SEEDS:  # True is no seed either
        raise ProfileError(f"seed={seed!r}: expected a whole number from 0 to {SEEDS - 1}")


def runs_folder(named: str | Path = "") -> Path:
    """Where stages keep their results: the folder `named`, else `runs/` of the book around the working place.

    A chapter in JupyterLab works in `notebooks/`, papermill and the command line often in the book's folder:
    all find the same runs. Outside any book it is `runs/` of the working directory. Raises ProfileError if
    `named` is no path.
    """
    if not isinstance(named, str | Path):
        raise ProfileError(f"runs_dir={named!r}: expected the path of a folder")
    if named:
        return Path(named).expanduser().resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "_toc.yml").exists()), here) / "runs"
