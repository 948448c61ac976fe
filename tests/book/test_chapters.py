"""The book's runner: a failed, stale or foreign chapter never gets into the book.

Run: ``python -m pytest tests/book/test_chapters.py``
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from thinkless.__main__ import main
from thinkless.book import formats
from thinkless.book.chapters import own_sockets
from thinkless.book.checks import MISSED

REPOSITORY = Path(__file__).parents[2]
PARAMETERS = 'profile = "smoke"\nseed = 0\noverrides = {}\nruns_dir = "runs"'


def write_chapter(root, name, code):
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def root(tmp_path):
    """A book of two chapters of one line each."""
    (tmp_path / "notebooks").mkdir()
    files = "".join(f"      - file: book/executed/{name}\n" for name in ("00_one", "01_two"))
    (tmp_path / "_toc.yml").write_text(
        f"format: jb-book\nroot: intro\nparts:\n  - caption: All\n    chapters:\n{files}"
    )
    for name in ("00_one", "01_two"):
        write_chapter(tmp_path, name, "print(seed + 41)")
    return tmp_path


def run(root, *more):
    return main(["book", "run", "--root", str(root), "--profile", "smoke", *more])


def error_line(capfd):
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_what_a_book_in_one_file_needs_is_said_in_one_line(root, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(formats, "PANDOC", "pandoc-that-nobody-has")
    assert main(["book", "epub", "--root", str(root)]) == 1
    assert "no Pandoc to bind with: pip install pandoc-that-nobody-has" in error_line(capfd)
    assert main(["book", "pdf", "--root", str(root)]) == 1
    assert "no browser to draw with: install one of chromium, " in error_line(capfd)
    (tmp_path / "chromium").touch(mode=0o755)
    assert main(["book", "pdf", "--root", str(root)]) == 1
    assert "00_one has not been run" in error_line(capfd)


@pytest.mark.slow
def test_chapters_run_once_and_again_only_when_something_changed(root, capfd):
    assert run(root, "--seed", "1") == 0
    text = (root / "book/executed/00_one.ipynb").read_text()
    assert "42" in text
    assert "papermill" not in json.loads(text)["metadata"]
    capfd.readouterr()
    assert run(root, "--seed", "1") == 0
    assert capfd.readouterr().out.count("up to date") == 2
    write_chapter(root, "01_two", "print('changed')")
    assert run(root, "--seed", "1") == 0
    assert capfd.readouterr().out.count("up to date") == 1
    assert run(root, "--seed", "2") == 0
    assert "up to date" not in capfd.readouterr().out


@pytest.fixture
def taken_port(monkeypatch):
    """Every TCP port that a kernel is promised belongs to somebody else when it gets there."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        find = "jupyter_client.connect.LocalPortCache.find_available_port"
        monkeypatch.setattr(find, lambda *_: stranger.getsockname()[1])
        yield


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kernels have TCP ports on Windows")
def test_a_kernel_needs_no_port_and_leaves_no_file(root, taken_port, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # pytest's own folders have long names
        monkeypatch.setattr(tempfile, "tempdir", short)
        write_chapter(root, "00_one", "print(41 + 1)  # in this process, as if by pipeline()")
        assert run(root, "--only", "00") == 0
        assert "42" in (root / "book/executed/00_one.ipynb").read_text()
        assert not list(Path(short).glob("kernel*"))


def test_a_kernel_has_ports_where_a_path_would_be_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    Path(tempfile.tempdir).mkdir()
    with own_sockets() as config:
        assert not config.KernelManager


@pytest.mark.slow
def test_a_chapter_without_stages_runs_beside_those_with_some(root, capfd):
    """Each waits for the other's file, so one after the other would never end."""
    wait = (
        "import pathlib, time\nmine, other = pathlib.Path({!r}), pathlib.Path({!r})\n"
        "mine.touch()\nwhile not other.exists(): time.sleep(0.1)"
    )
    write_chapter(root, "00_one", wait.format("one", "two"))
    write_chapter(root, "01_two", wait.format("two", "one") + "  # as if by pipeline()")
    assert run(root, "--timeout", "300") == 0
    assert capfd.readouterr().out.count(" s\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize("comment", ["", "  # as if by pipeline()"])
def test_a_chapter_that_raises_is_named_and_kept_out(root, capfd, comment):
    assert run(root) == 0
    write_chapter(root, "01_two", "raise ValueError('no\\nluck')" + comment)
    capfd.readouterr()
    assert run(root) == 1
    line = error_line(capfd)
    assert "01_two.ipynb failed in cell" in line
    assert "ValueError: no luck" in line
    assert not (root / "book/executed/01_two.ipynb").exists()
    assert main(["book", "build", "--root", str(root)]) == 1
    assert "01_two has not been run" in error_line(capfd)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "seconds", "message"),
    [
        ("import time; time.sleep(600)", "5", "01_two.ipynb: a cell took more than 5 s"),
        ("import os; os._exit(1)", "600", "01_two.ipynb: its kernel died"),
    ],
)
def test_a_chapter_that_never_ends_or_loses_its_kernel_is_named(root, capfd, code, seconds, message):
    write_chapter(root, "01_two", code)
    assert run(root, "--only", "01", "--timeout", seconds) == 1
    assert message in error_line(capfd)


@pytest.mark.slow
def test_a_stale_chapter_is_not_built(root, capfd):
    assert run(root) == 0
    write_chapter(root, "00_one", "print('newer')")
    assert main(["book", "build", "--root", str(root)]) == 1
    assert "00_one is stale" in error_line(capfd)


@pytest.mark.slow
def test_chapters_run_again_when_the_records_changed(root, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr("thinkless.book.chapters.RESULTS", tmp_path / "results")
    records = tmp_path / "results" / "evidence.jsonl"
    records.parent.mkdir()
    records.write_text("{}")
    for name in ("00_one", "01_two"):
        write_chapter(root, name, "1  # no pipeline(...), but run in this process, where the folder is moved")
    assert run(root) == 0
    assert run(root) == 0
    assert capfd.readouterr().out.count("up to date") == 2
    records.write_text('{"stage": "sft"}')
    assert run(root) == 0
    assert "up to date" not in capfd.readouterr().out


@pytest.mark.slow
def test_chapters_made_with_different_parameters_are_not_built(root, capfd):
    assert run(root) == 0
    assert run(root, "--only", "01", "--seed", "5") == 0
    assert main(["book", "build", "--root", str(root)]) == 1
    assert "run all chapters alike" in error_line(capfd)


@pytest.mark.slow
def test_a_half_written_copy_counts_as_missing(root, capfd):
    assert run(root) == 0
    output = root / "book/executed/00_one.ipynb"
    output.write_text(output.read_text()[:100])
    assert main(["book", "build", "--root", str(root)]) == 1
    assert "00_one has not been run" in error_line(capfd)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "77"], "no chapter starts so"),
        (["--profile", "smok"], "did you mean 'smoke'?"),
        (["--overrides", '{"rl": {"alphaa": 1}}'], "did you mean 'rl.alpha'?"),
    ],
)
def test_a_mistake_is_one_line(root, arguments, message, capfd):
    assert main(["book", "run", "--root", str(root), *arguments]) == 1
    assert message in error_line(capfd)


def test_a_chapter_without_a_parameter_is_refused(root, capfd):
    notebook = root / "notebooks/00_one.ipynb"
    notebook.write_text(notebook.read_text().replace("runs_dir = ", "runs_folder = "))
    assert run(root) == 1
    assert "does not declare the parameter 'runs_dir'" in error_line(capfd)


@pytest.mark.slow
def test_a_book_is_built_in_and_around_folders_with_brackets(root, capfd):
    """They are patterns to Sphinx. What stages and readers keep in the book's folder is no page of it."""
    book = root.parent / "w[x] (1)"
    root.rename(book)
    shutil.copy(REPOSITORY / "_config.yml", book)
    for name in ("_ext", "_static"):
        shutil.copytree(REPOSITORY / "book" / name, book / "book" / name)
    (book / "book" / "references.bib").touch()
    (book / "book" / "intro.md").write_text("# Intro\n")
    (book / "_toc.yml").write_text((book / "_toc.yml").read_text().replace("root: intro", "root: book/intro"))
    for folder in ("runs [v2]", "runs", "notebooks/.ipynb_checkpoints", "mine"):
        (book / folder).mkdir()
        (book / folder / "README.md").write_text("# Intro\n")
    for name in ("00_one", "01_two"):
        notebook = nbformat.read(book / "notebooks" / f"{name}.ipynb", as_version=4)
        notebook.cells.insert(0, new_markdown_cell(f"({name})=\n# {name}"))
        nbformat.write(notebook, book / "notebooks" / f"{name}.ipynb")
    assert run(book, "--runs-dir", str(book / "runs [v2]")) == 0, capfd.readouterr().err
    shutil.copytree(book / "book" / "executed", book / "book" / "executed" / "failed", dirs_exist_ok=True)
    assert main(["book", "build", "--root", str(book)]) == 0, capfd.readouterr().err
    assert {page.name for page in (book / "_build/html/book").rglob("*.html")} == {
        "intro.html",
        "00_one.html",
        "01_two.html",
    }


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_leaves_no_kernel(root):
    """A terminal sends it to the command and to what it started."""
    write_chapter(
        root, "01_two", "import os\nopen('pid', 'w').write(str(os.getpid()))\nimport time; time.sleep(600)"
    )
    command = [sys.executable, "-m", "thinkless", "book", "run", "--profile", "smoke", "--root", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (root / "pid").exists() or not (root / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 1
    assert error == "error: interrupted; what was finished is kept, and the same command goes on\n"
    assert (root / "book/executed/00_one.ipynb").exists()
    assert not (root / "book/executed/01_two.ipynb").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((root / "pid").read_text()), 0)


@pytest.mark.slow
def test_a_kernel_that_dies_is_one_line_to_the_reader(root):
    """Whatever libraries log of it; a Ctrl-C that comes at the wrong moment has them say the same."""
    write_chapter(root, "01_two", "import os; os._exit(1)")
    command = [sys.executable, "-m", "thinkless", "book", "run", "--profile", "smoke", "--root", str(root)]
    (line,) = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    assert line.startswith(
        "error: 01_two.ipynb: its kernel died, perhaps for want of memory (its output so far:"
    )


@pytest.mark.slow
def test_a_named_folder_of_runs_is_where_it_was_named(root, capfd, monkeypatch, tmp_path_factory):
    """The command may be given elsewhere than in the book's folder, where the chapters work."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    code = "from thinkless.pipeline import pipeline; print(pipeline(profile, seed, overrides, runs_dir).root)"
    write_chapter(root, "01_two", code)
    for arguments, runs in (([], root / "runs"), (["--runs-dir", "mine"], elsewhere / "mine")):
        assert run(root, "--only", "01", *arguments) == 0, capfd.readouterr().err
        assert str(runs / "smoke" / "seed0") in (root / "book/executed/01_two.ipynb").read_text()


def test_a_folder_that_is_no_book_is_named(tmp_path, capfd):
    (tmp_path / "mine.txt").touch()
    assert run(tmp_path) == 1
    assert "no _toc.yml" in error_line(capfd)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_broken_check_is_one_line_that_says_what_where_and_how_far(root, capfd):
    cells = ["# One\n\n## The limit", "limit = 2\nvalue = 3", "assert value < limit"]
    kinds = [new_markdown_cell, new_code_cell, new_code_cell]
    notebook = nbformat.read(root / "notebooks/00_one.ipynb", as_version=4)
    notebook.cells += [kind(cell) for kind, cell in zip(kinds, cells, strict=True)]
    nbformat.write(notebook, root / "notebooks/00_one.ipynb")
    assert run(root) == 1
    line = error_line(capfd)
    assert "00_one.ipynb failed in cell" in line
    assert "'The limit': AssertionError: expected value < limit; value is 3; limit is 2" in line
    assert "holds on any machine" in line


def test_missed_expectations_are_listed_and_fail_only_if_strict(root, capfd):
    shown = {MISSED: ["regret 0.200, expected at most 0.100"]}
    code = f"from IPython.display import display\ndisplay({{'text/plain': ''}}, raw=True, metadata={shown})"
    write_chapter(root, "01_two", code)
    assert run(root) == 0
    listed = capfd.readouterr().out.splitlines()[-2:]
    assert listed[0].startswith("1 expectation missed")
    assert listed[1].strip() == "01_two: regret 0.200, expected at most 0.100"
    assert run(root, "--strict") == 1
    assert "1 expectation missed: 01_two: regret 0.200, expected at most 0.100" in error_line(capfd)
    write_chapter(
        root, "01_two", code.replace("regret 0.200, expected at most 0.100", "").replace("['']", "[]")
    )
    assert run(root, "--strict") == 0
    assert "missed" not in capfd.readouterr().out


@pytest.mark.slow
def test_a_chapter_made_to_miss_is_built_and_says_so(root, capfd):
    """The real chapter on the world, with a model that reads twenty pages of its textbook."""
    for path in (root / "notebooks").iterdir():
        path.unlink()
    shutil.copy(REPOSITORY / "notebooks" / "01_world.ipynb", root / "notebooks" / "01_two.ipynb")
    (root / "_toc.yml").write_text(
        (root / "_toc.yml").read_text().replace("      - file: book/executed/00_one\n", "")
    )
    short = {"base.rows": 640, "problems.held_out_questions": 40}
    options = ["--overrides", json.dumps(short), "--runs-dir", str(root / "runs")]
    assert main(["book", "run", "--root", str(root), *options]) == 0
    missed = "01_two: worked answers right, weakest level 0.000, expected at least 0."
    assert missed in capfd.readouterr().out
    page = (root / "book/executed/01_two.ipynb").read_text()
    assert "expectations missed" in page
    assert main(["book", "run", "--root", str(root), *options, "--strict"]) == 1
    assert missed in error_line(capfd)
