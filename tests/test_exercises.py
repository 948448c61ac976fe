"""The exercises of a chapter: each solution is run where its reader would run it, and passes the check there.

Run: ``python -m pytest tests/test_exercises.py``
"""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = nbformat.read(ROOT / "notebooks" / "04_policy_gradients.ipynb", as_version=4)


def programs(directive: str) -> dict[str, str]:
    """The code of every `exercise` or of every `solution`, by label."""
    text = "\n".join(cell.source for cell in CHAPTER.cells if cell.cell_type == "markdown")
    if directive == "exercise":
        blocks = re.findall(r"````\{exercise\}\n:label: (\S+)\n(.*?)\n````", text, re.DOTALL)
    else:
        blocks = re.findall(r"````\{solution\} (\S+)\n(.*?)\n````", text, re.DOTALL)
    return {name: "\n".join(re.findall(r"```python\n(.*?)```", body, re.DOTALL)) for name, body in blocks}


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """What the chapter's own code leaves behind, on the smallest profile."""
    namespace = {}
    for cell in CHAPTER.cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
        if cell.metadata.get("tags") == ["parameters"]:
            namespace |= {"profile": "smoke", "runs_dir": str(tmp_path_factory.mktemp("runs"))}
    return namespace


def test_there_are_three_at_least_and_each_has_its_check():
    exercises, solutions = programs("exercise"), programs("solution")
    assert len(exercises) >= 3
    assert set(solutions) == set(exercises)
    for name, gap in exercises.items():
        assert re.search(r"^check_\w+\(\w+\)$", gap, re.MULTILINE), name


@pytest.mark.slow
@pytest.mark.parametrize("name", programs("solution"))
def test_the_solution_passes_the_check_and_the_gap_does_not(chapter, name):
    exec(programs("solution")[name], dict(chapter))
    with pytest.raises((AssertionError, TypeError, ValueError, AttributeError, RuntimeError)):
        exec(programs("exercise")[name], dict(chapter))
