"""Run the chapters and build the book: ``thinkless book run`` and ``thinkless book build``.

`run` executes each notebook of the book's folder with papermill into `book/executed/`, skipping the
ones that are up to date; a chapter that fails leaves its half-done copy under `book/executed/failed/`
and nothing where the book would find it. `build` refuses chapters that are missing, stale, or made
with different parameters from each other, then calls Jupyter Book with warnings as errors.
"""

import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from traitlets.config import Config

from thinkless.book.checks import MISSED
from thinkless.errors import UserError
from thinkless.files import digest, digest_file
from thinkless.runs.profiles import load_profile
from thinkless.runs.provenance import RESULTS, SOURCES

STAMP = "thinkless"
"""Key of an executed notebook's metadata that says what it was made from."""
WORLD = "laptop_world"
"""Key of a notebook's metadata that says: about the laptop world, so it runs on `laptop` at any scale."""
QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
}
"""Environment of the chapters' kernels: no progress bars in the pages, no spinning threads."""
LONGEST_ADDRESS = 100
"""Characters of a socket's path; macOS allows 103, Linux 107."""
logging.getLogger("papermill").addHandler(logging.NullHandler())  # it raises whatever it logs


class BookError(UserError):
    """A chapter failed or the book cannot be built."""


def chapters(root: Path) -> list[Path]:
    """The notebooks of the book, in the order of `_toc.yml`.

    Raises BookError if there is no table of contents or it names a chapter without a notebook.
    """
    toc = root / "_toc.yml"
    if not toc.exists():
        raise BookError(f"no _toc.yml in {root}: run this in the book's folder or in an empty one")
    parts = yaml.safe_load(toc.read_text(encoding="utf-8"))["parts"]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    notebooks = [root / "notebooks" / f"{Path(f).name}.ipynb" for f in files if "executed/" in f]
    for notebook in notebooks:
        if not notebook.exists():
            raise BookError(f"_toc.yml names {notebook.stem}, but {notebook} does not exist")
    return notebooks


def copy_sources(root: Path):
    """Begin a book in an empty folder: its pages and notebooks, from where they are kept."""
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(SOURCES / name, root / name)
    shutil.copytree(SOURCES / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(SOURCES / "book", root / "book", ignore=shutil.ignore_patterns("executed", "__pycache__"))


def executed(notebook: Path) -> Path:
    """The path of a notebook's executed copy."""
    return notebook.parent.parent / "book" / "executed" / notebook.name


def options_for(notebook: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a chapter is run with: those of `laptop` if it is about a world they do not have."""
    problems = load_profile(options["profile"], options["overrides"]).problems
    about = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    if problems.kind == "chain" or not about.get(WORLD):
        return dict(options)
    return {**options, "profile": "laptop", "overrides": {}}


def _parameters(notebook: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters to inject. Raises BookError if the notebook does not declare one of them."""
    try:
        declared = papermill.inspect_notebook(str(notebook))
    except ValueError as error:  # no notebook at all, or one without a language
        raise BookError(f"{notebook.name} is not a Python notebook: {error}") from None
    for name in options:
        if name not in declared:
            raise BookError(
                f"{notebook.name} does not declare the parameter {name!r}: it declares {list(declared)}"
            )
    return dict(options)


def stamp(notebook: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Hash everything that an executed chapter depends on: source, package, records, profile, versions."""
    here = Path(__file__)
    package = [path for path in here.parents[1].rglob("*.*") if path.suffix != ".pyc" and path != here]
    return {
        "notebook": digest_file(notebook),
        "package": digest([digest_file(path) for path in sorted(package)]),
        "records": digest([digest_file(path) for path in sorted(RESULTS.rglob("*.*"))]),
        "profile": digest(load_profile(options["profile"], options["overrides"]).model_dump()),
        "parameters": json.loads(json.dumps(dict(options))),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "trl", "plotly")},
    }


def _recorded_stamp(path: Path) -> dict[str, Any] | None:
    """The stamp of an executed notebook, without its seconds; None if it is absent or unreadable."""
    try:
        recorded = nbformat.read(path, as_version=4).metadata[STAMP]
    except (OSError, KeyError, nbformat.reader.NotJSONError, ValueError):
        return None
    return {key: value for key, value in recorded.items() if key != "seconds"}


def _section(notebook: Path, source: str) -> str:
    """The heading under which a cell of a chapter stands; the chapter's name if there is none."""
    heading = notebook.stem
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.source == source:
            break
        if cell.cell_type == "markdown" and (titles := re.findall(r"^#+ (.*)", cell.source, re.MULTILINE)):
            heading = titles[-1]
    return heading


def missed(root: Path) -> list[str]:
    """The expectations that the executed chapters show as missed, a line each."""
    lines = []
    for notebook in chapters(root):
        path = executed(notebook)
        for cell in nbformat.read(path, as_version=4).cells if path.exists() else []:
            for output in cell.get("outputs", []):
                lines += [f"{notebook.stem}: {line}" for line in output.get("metadata", {}).get(MISSED, [])]
    return lines


def report_missed(root: Path, *, strict: bool):
    """Say which expectations were missed. Raises BookError, with all of them in one line, if `strict`."""
    lines = missed(root)
    title = f"{len(lines)} expectation{'' if len(lines) == 1 else 's'} missed"
    if lines and strict:
        raise BookError(f"{title}: {'; '.join(lines)} (without --strict the book is built all the same)")
    if lines:
        print("\n  ".join([f"{title} (the pages say more):", *lines]), flush=True)


def run_chapter(notebook: Path, options: Mapping[str, Any], *, timeout: int | None = None) -> float:
    """Execute one chapter into `book/executed/`; returns the seconds it took.

    `timeout` bounds each cell, in seconds. Raises BookError naming the failing cell.
    """
    output = executed(notebook)
    failed = output.parent / "failed" / notebook.name
    failed.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    started, made_from = time.perf_counter(), stamp(notebook, options)
    book = _execute(notebook, failed, _parameters(notebook, options), timeout)
    seconds = time.perf_counter() - started
    for cell in book.cells:  # papermill's own notes hold paths of this machine
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    book.metadata.pop("papermill", None)
    book.metadata[STAMP] = {**made_from, "seconds": round(seconds, 1)}
    nbformat.write(book, failed)
    failed.replace(output)
    return seconds


@contextmanager
def own_sockets() -> Iterator[Config]:
    """Configuration that lets papermill reach a kernel through files in a new folder, where systems can.

    A TCP port is chosen first and taken seconds later, when the kernel is up: others may get it in between.
    """
    with tempfile.TemporaryDirectory(prefix="kernel", ignore_cleanup_errors=True) as folder:
        place = {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
        fits = sys.platform != "win32" and len(f"{folder}/kernel-ipc-5") <= LONGEST_ADDRESS
        yield Config({"KernelManager": place if fits else {}})


def _execute(notebook: Path, output: Path, parameters: dict[str, Any], timeout: int | None) -> Any:
    """The notebook as papermill ran it, written to `output` cell by cell; what goes wrong is a BookError."""
    # at its end, ipykernel reports the interrupt that asked for it
    flags = ["--log-level=CRITICAL", "--IPKernelApp.extra_extensions=thinkless.book.checks"]
    try:
        with own_sockets() as config:
            return papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                progress_bar=False,
                execution_timeout=timeout,
                extra_arguments=flags,
                cwd=str(notebook.parent.parent),
                config=config,
            )
    except papermill.PapermillExecutionError as error:
        broken = "; this holds on any machine, so something is broken: `make test` says what"
        what = (
            f" failed in cell {error.cell_index}, {_section(notebook, error.source)!r}: {error.ename}: "
            f"{error.evalue}{broken if error.ename == 'AssertionError' else ''}"
        )
    except CellTimeoutError:
        what = f": a cell took more than {timeout} s" if timeout else ": an output did not come: run it again"
    except DeadKernelError:
        what = ": its kernel died, perhaps for want of memory"
    raise BookError(f"{notebook.name}{what} (its output so far: {output})")


def run(root: Path, options: Mapping[str, Any], only: str | None = None, *, timeout: int | None = None):
    """Execute the chapters that are not up to date, two at a time, printing when each begins and ends."""
    os.environ.update(QUIET)
    load_profile(options["profile"], options["overrides"])
    if root.is_dir() and not any(root.iterdir()):
        copy_sources(root)
    notebooks = chapters(root)
    chosen = [notebook for notebook in notebooks if only is None or notebook.stem.startswith(only)]
    if not chosen:
        raise BookError(
            f"--only {only}: no chapter starts so; there are {', '.join(n.stem for n in notebooks)}"
        )
    todo = {n: f"[{number}/{len(chosen)}] {n.stem:<20}" for number, n in enumerate(chosen, start=1)}
    stale = [notebook for notebook in chosen if not _up_to_date(notebook, todo[notebook], options)]
    training = list(filter(trains, stale)) or stale
    ignored = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    beside = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), ignored)
    try:
        reading = [
            beside.submit(_run_beside, n, todo[n], options, timeout) for n in stale if n not in training
        ]
        for notebook in training:
            _run(notebook, todo[notebook], options, timeout)
            for other in filter(Future.done, reading):
                other.result()  # one that failed is not kept back until the last
        for other in reading:
            other.result()
    except BrokenProcessPool:
        raise BookError("the process of a chapter died, perhaps for want of memory: run it again") from None
    finally:
        beside.shutdown(cancel_futures=True)


def trains(notebook: Path) -> bool:
    """Whether a chapter asks for stages of a pipeline; the others draw from records and run beside them."""
    return "pipeline(" in notebook.read_text(encoding="utf-8")


def _run_beside(*chapter: Any):
    """Let Ctrl-C end a chapter, not the worker that waits for the next one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _run(*chapter)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _up_to_date(notebook: Path, title: str, options: Mapping[str, Any]) -> bool:
    """Whether a chapter needs no run; says so."""
    if _recorded_stamp(executed(notebook)) != stamp(notebook, options_for(notebook, options)):
        return False
    print(f"{title} up to date", flush=True)
    return True


def _run(notebook: Path, title: str, options: Mapping[str, Any], timeout: int | None):
    print(f"{title} running", flush=True)
    seconds = run_chapter(notebook, options_for(notebook, options), timeout=timeout)
    print(f"{title} {seconds:6.0f} s", flush=True)


def check(root: Path) -> list[dict[str, Any]]:
    """The parameters that the chapters were run with.

    Raises BookError unless every chapter is executed, up to date, and made like the others.
    """
    stamps = {}
    for notebook in chapters(root):
        recorded = _recorded_stamp(executed(notebook))
        if recorded is None:
            raise BookError(f"{notebook.stem} has not been run: run 'thinkless book run' first")
        if recorded != stamp(notebook, recorded["parameters"]):
            raise BookError(f"{notebook.stem} is stale: run 'thinkless book run' again")
        stamps[notebook] = recorded["parameters"]
    first, parameters = next(iter(stamps.items()))
    for notebook, other in stamps.items():
        if other != options_for(notebook, parameters):
            raise BookError(
                f"{notebook.stem} was run with {other} but {first.stem} with {parameters}: "
                "run all chapters alike"
            )
    return list(stamps.values())


def jupyter_book(root: Path, builder: str) -> Path:
    """Build with one of Jupyter Book's builders; returns its folder. Raises BookError for a warning."""
    program, folder = "from jupyter_book.cli.main import main; main()", root / "_build" / builder
    options = ["--builder", builder, "--all", "-W", "-n", "--keep-going"]
    command = [sys.executable, "-c", program, "build", str(root), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    if result.returncode or not (folder / "index.html").exists():
        log = root / "_build" / "build.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(result.stdout + result.stderr, encoding="utf-8")
        warnings = [line for line in result.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
        raise BookError(f"Jupyter Book failed: {(warnings or ['see the log'])[0]} (whole log: {log})")
    return folder


def build(root: Path) -> Path:
    """Build the book from chapters that pass `check`, with the models they made; returns the page to open."""
    parameters = check(root)
    page = jupyter_book(root, "html") / "index.html"
    from thinkless.book.live import (  # they load torch, which running chapters does not need
        laptop_runner,
        publish,
    )

    publish(laptop_runner(root, parameters), page.parent / "_static" / "live")
    return page
