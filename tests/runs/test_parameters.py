"""Seeds and the folder of runs: one default place for chapters, papermill and commands; nonsense in one line.

Run: python -m pytest tests/runs/test_parameters.py
"""

from pathlib import Path

import pytest

from thinkless.__main__ import main
from thinkless.pipeline import pipeline
from thinkless.runs.parameters import SEEDS, check_seed, runs_folder
from thinkless.runs.profiles import ProfileError


@pytest.fixture
def book(tmp_path):
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "notebooks" / "deeper").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("where", ["", "notebooks", "notebooks/deeper"])
def test_anywhere_in_the_book_its_runs_are_the_default(book, where, monkeypatch):
    """JupyterLab's kernels work in notebooks/; papermill's where it was called; a command's anywhere."""
    monkeypatch.chdir(book / where)
    assert pipeline("smoke").root == pipeline("smoke", runs_dir="").root == book / "runs" / "smoke" / "seed0"


def test_a_book_in_a_book_has_runs_of_its_own(book, monkeypatch):
    (book / "notebooks" / "_toc.yml").touch()
    monkeypatch.chdir(book / "notebooks" / "deeper")
    assert runs_folder() == book / "notebooks" / "runs"


def test_outside_any_book_they_are_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs_folder() == tmp_path / "runs"


def test_a_named_folder_is_taken_as_it_is(book, monkeypatch):
    monkeypatch.chdir(book / "notebooks")
    monkeypatch.setenv("HOME", str(book))
    assert runs_folder("runs") == book / "notebooks" / "runs"
    assert runs_folder(Path("../mine [v2]")) == book / "mine [v2]"
    assert runs_folder("~/mine") == book / "mine"


@pytest.mark.parametrize("named", [5, None, True, {}])
def test_what_is_no_path_is_refused(named):
    with pytest.raises(ProfileError, match=r"runs_dir=.*: expected the path of a folder"):
        pipeline("smoke", runs_dir=named)


@pytest.mark.parametrize("seed", ["1", "one", 1.5, 1.0, True, None, -1, SEEDS, 2**32, 2**64])
def test_a_seed_that_is_none_is_refused_at_once(seed):
    with pytest.raises(ProfileError, match=r"seed=.*: expected a whole number from 0 to 2147483647"):
        pipeline("smoke", seed)


@pytest.mark.parametrize("parameters", [{"profile": "smoke\0"}, {"profile": "smoke", "runs_dir": "a\0b"}])
def test_a_name_that_no_file_may_have(parameters):
    with pytest.raises(ProfileError, match="NUL"):
        pipeline(**parameters)


def test_the_smallest_and_largest_seed():
    check_seed(0)
    check_seed(SEEDS - 1)


def test_a_command_says_so_in_one_line(capsys):
    assert main(["stage", "base", "--profile", "smoke", "--seed", str(2**32)]) == 1
    assert capsys.readouterr().err == "error: seed=4294967296: expected a whole number from 0 to 2147483647\n"
