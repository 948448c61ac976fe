"""The exercises of a chapter: each solution is run where its reader would run it, and passes the check there.

Run: ``python -m pytest tests/test_exercises.py``
"""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHECKED = (
    "00_when_to_think",
    "01_world",
    "02_distillation",
    "03_sft",
    "04_policy_gradients",
    "05_grpo_to_degrpo",
    "06_rl",
    "07_full_scale",
    "08_evaluation",
    "09_language_model",
    "10_paper_checked",
    "a_calibration",
    "b_ablations",
    "c_digits",
)
"""Chapters whose exercises have gaps to fill."""


@cache
def read(chapter):
    return nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4)


def programs(chapter: str, directive: str) -> dict[str, str]:
    """The code of every `exercise` or of every `solution`, by label; those without code are left out."""
    text = "\n".join(cell.source for cell in read(chapter).cells if cell.cell_type == "markdown")
    if directive == "exercise":
        blocks = re.findall(r"````\{exercise\}\n:label: (\S+)\n(.*?)\n````", text, re.DOTALL)
    else:
        blocks = re.findall(r"````\{solution\} (\S+)\n(.*?)\n````", text, re.DOTALL)
    found = {name: "\n".join(re.findall(r"```python\n(.*?)```", body, re.DOTALL)) for name, body in blocks}
    return {name: program for name, program in found.items() if program}


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """What a chapter's own code leaves behind, on the smallest profile."""
    runs_dir = tmp_path_factory.mktemp("runs")

    @cache
    def run(chapter):
        namespace = {}
        for cell in read(chapter).cells:
            if cell.cell_type == "code":
                exec(cell.source, namespace)
            if cell.metadata.get("tags") == ["parameters"]:
                namespace |= {"profile": "smoke", "runs_dir": str(runs_dir)}
        return namespace

    return run


@pytest.mark.parametrize("chapter", CHECKED)
def test_there_are_three_at_least_and_each_has_its_check(chapter):
    exercises, solutions = programs(chapter, "exercise"), programs(chapter, "solution")
    assert len(exercises) >= 3
    assert set(solutions) == set(exercises)
    for name, gap in exercises.items():
        assert re.search(r"^check_\w+\(\w+\)$", gap, re.MULTILINE), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "name"), [(chapter, name) for chapter in CHECKED for name in programs(chapter, "solution")]
)
def test_the_solution_passes_the_check_and_the_gap_does_not(left_behind, chapter, name):
    exec(programs(chapter, "solution")[name], dict(left_behind(chapter)))
    with pytest.raises((AssertionError, TypeError, ValueError, AttributeError, RuntimeError)):
        exec(programs(chapter, "exercise")[name], dict(left_behind(chapter)))
