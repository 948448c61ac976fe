"""The chapters' form: what the template asks of every notebook in notebooks/.

Run: ``python -m pytest tests/test_notebooks.py``
"""

import ast
import re
import statistics
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = {"profile", "seed", "overrides", "runs_dir"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def chapter(request):
    return nbformat.read(request.param, as_version=4)


def code(chapter):
    return [cell for cell in chapter.cells if cell.cell_type == "code"]


def prose(chapter):
    return "\n\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")


def test_every_chapter_of_the_table_of_contents_is_here():
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert {path.stem for path in NOTEBOOKS} == set(re.findall(r"book/executed/(\w+)", toc))


def test_nothing_is_stored_but_the_source(chapter):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(chapter))


def test_the_first_code_cell_declares_the_four_parameters(chapter):
    first = code(chapter)[0]
    assert first.metadata.get("tags") == ["parameters"]
    assert {node.target.id for node in ast.parse(first.source).body} == PARAMETERS


def test_the_second_code_cell_checks_them(chapter):
    assert "\ncheck_parameters(profile, seed, overrides, runs_dir)\n" in code(chapter)[1].source


def test_what_a_chapter_takes_from_the_package_is_there(chapter):
    """Quick to know, minutes before the cell would fail."""

    def offers(module, name):
        found = import_module(module)
        return hasattr(found, name) or (hasattr(found, "__path__") and find_spec(f"{module}.{name}"))

    nodes = [node for cell in code(chapter) for node in ast.walk(ast.parse(cell.source))]
    ours = [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("thinkless")]
    taken = [(node.module, alias.name) for node in ours for alias in node.names]
    assert taken
    assert [".".join(pair) for pair in taken if not offers(*pair)] == []


def test_cells_are_short(chapter):
    lengths = [len(cell.source.splitlines()) for cell in code(chapter)]
    assert max(lengths) <= 40
    assert statistics.median(lengths) <= 10


def test_the_template_is_followed(chapter):
    text = prose(chapter)
    assert text.startswith("# ")
    for part in ("At a glance", "What you should see", "## Exercises", "## Recap", "## Next"):
        assert part in text, part
    assert text.count("{exercise}") == text.count("{solution}") >= 1


def test_results_are_checked(chapter):
    """By an assert that compares or computes, which holds on any machine, or by a box of what is expected."""

    def is_check(node):
        if isinstance(node, ast.Assert):
            return any(isinstance(part, ast.Compare | ast.Call) for part in ast.walk(node.test))
        return isinstance(node, ast.Call) and ast.unparse(node.func) == "show_expected"

    nodes = [node for cell in code(chapter) for node in ast.walk(ast.parse(cell.source))]
    assert sum(map(is_check, nodes)) >= 3


def test_every_chapter_says_which_digits_move(chapter):
    if "Which digits to trust" not in prose(chapter)[:40]:
        assert "{doc}`c_digits`" in chapter.cells[0].source


def test_every_figure_has_a_text_alternative(chapter):
    for cell in code(chapter):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "figures.show":
                assert "alt" in {keyword.arg for keyword in node.keywords}
        assert ".show()" not in cell.source


def test_no_branch_on_the_profile(chapter):
    for cell in code(chapter):
        assert not re.search(r"""profile(\.name)?\s*[!=]=|["']smoke["']""", cell.source)


def test_no_path_of_a_machine(chapter):
    assert not re.search(r"/(home|root|tmp|work|Users)/", nbformat.writes(chapter))
