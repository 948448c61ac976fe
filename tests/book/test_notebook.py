"""What chapters use to check their parameters: papermill sets any name, so each has to be looked at.

Run: python -m pytest tests/book/test_notebook.py
"""

import re
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest

from thinkless.book.chapters import own_sockets
from thinkless.book.notebook import bars, check_parameters
from thinkless.runs.profiles import ProfileError

CHAPTERS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
GOOD = {"profile": "smoke", "seed": 0, "overrides": {}, "runs_dir": ""}


def in_cells(monkeypatch, *cells):
    shell = SimpleNamespace(user_ns={"In": ["", *cells]})
    monkeypatch.setattr("thinkless.book.notebook.get_ipython", lambda: shell)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("profle", "profile"), ("sed", "seed"), ("override", "overrides"), ("runs-dir", None), ("x", None)],
)
def test_a_parameter_that_no_chapter_has_is_refused_with_the_nearest(name, nearest, monkeypatch):
    in_cells(
        monkeypatch, "profile = 'laptop'", f"# Parameters\n{name.replace('-', '_')}2 = 'smoke'\nseed = 1\n"
    )
    with pytest.raises(ProfileError, match=f"there is no parameter '{name.replace('-', '_')}2'") as error:
        check_parameters(**GOOD)
    assert (f"did you mean {nearest!r}?" if nearest else "; ") in str(error.value)


def test_other_cells_may_set_what_they_like(monkeypatch):
    in_cells(
        monkeypatch, "profle = 'smoke'", "# Parameters\nprofile = 'smoke'\noverrides = {'a': [1]}\n", "%pwd"
    )
    check_parameters(**GOOD)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"profile": "smokee"}, "did you mean 'smoke'"),
        ({"profile": 3}, "profile 3: expected"),
        ({"seed": "1"}, "seed='1'"),
        ({"overrides": {"rl.alhpa": 1}}, "did you mean 'rl.alpha'"),
        ({"overrides": "rl.alpha"}, "overrides must be a mapping"),
        ({"runs_dir": 5}, "runs_dir=5"),
    ],
)
def test_an_impossible_value_is_refused(wrong, message):
    with pytest.raises(ProfileError, match=message):
        check_parameters(**GOOD | wrong)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS[:1], ids=lambda path: path.stem)
def test_plain_papermill_fails_in_the_first_cell(chapter, tmp_path):
    with own_sockets() as config, pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(chapter),
            str(tmp_path / "out.ipynb"),
            parameters={"profle": "smoke"},
            progress_bar=False,
            config=config,
        )
    assert error.value.evalue == "there is no parameter 'profle'; did you mean 'profile'?"


def test_a_bar_behind_each_word_is_as_high_as_its_probability():
    text = bars("Is 3 < 5?", [0.0, 0.25, 0.999, 1.0]).data
    spans = re.findall(r'title="(.*?)" style=".*? (\d+)%, #0000 (\d+)%\)">(.*?)</span>', text)
    assert spans == [
        ("0.00", "0", "0", "Is"),
        ("0.25", "25", "25", "3"),
        ("1.00", "100", "100", "&lt;"),
        ("1.00", "100", "100", "5?"),
    ]
    with pytest.raises(ValueError, match="zip"):
        bars("two words", [0.5])
