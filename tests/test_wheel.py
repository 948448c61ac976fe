"""Proves that an installed package needs no checkout: data, records and the book's sources come along.

Run: python -m pytest tests/test_wheel.py
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
PARTS = (
    *("pyproject.toml", "README.md", "LICENSE", "_config.yml", "_toc.yml"),
    *("book", "notebooks", "results", "thinkless"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    (source := folder / "source").mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("executed", "__pycache__", ".*")
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source)
    offline = ["--no-deps", "--no-build-isolation"]
    subprocess.run([*PIP, "wheel", *offline, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def run(wheel):
    """`run(folder, *arguments)` calls the installed package's command line there, without the checkout."""
    prefix = wheel.parent / "prefix"
    subprocess.run(
        [*PIP, "install", "--ignore-installed", "--no-deps", "--prefix", str(prefix), str(wheel)], check=True
    )
    site = sysconfig.get_path("purelib", "posix_prefix", {"base": str(prefix)})

    def call(where: Path, *arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": site}
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)

    return call


@pytest.mark.slow
def test_it_runs_from_where_it_was_installed(run, tmp_path):
    done = run(tmp_path, "-c", "import thinkless; print(thinkless.__file__, thinkless.__version__)")
    assert "prefix/lib" in done.stdout, done.stderr


@pytest.mark.slow
def test_it_finds_its_records_where_pip_was_told_to_put_it(wheel, tmp_path):
    """With --target the records are not where the installation says that they are."""
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(tmp_path), str(wheel)], check=True)
    program = "from thinkless.runs.provenance import RESULTS as r; print(r, (r / 'evidence.jsonl').exists())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"{tmp_path}/share/thinkless/results True", done.stderr


@pytest.mark.slow
def test_a_plan_needs_no_checkout(run, tmp_path):
    done = run(tmp_path, "-m", "thinkless", "plan", "--profile", "h100x4")
    assert done.returncode == 0, done.stderr
    assert "Plan of h100x4" in done.stdout


@pytest.mark.slow
def test_a_chapter_on_evidence_runs_in_an_empty_folder(run, tmp_path):
    """It needs the notebooks, the records and the published figures."""
    done = run(tmp_path, "-m", "thinkless", "book", "run", "--profile", "smoke", "--only", "10")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "book" / "executed" / "10_paper_checked.ipynb").exists()


@pytest.mark.slow
def test_the_environments_own_installation_stays(run, tmp_path):
    command = [sys.executable, "-P", "-c", "import thinkless; print(thinkless.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "prefix" not in done.stdout
    assert done.returncode == 0


@pytest.mark.slow
def test_a_folder_with_something_else_in_it_is_left_alone(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run(tmp_path, "-m", "thinkless", "book", "run", "--profile", "smoke")
    assert done.returncode == 1
    assert "run this in the book's folder or in an empty one" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
