"""Proves that imports only point down, so that every file can be read before the ones that use it.

Run: python -m pytest tests/test_layers.py
"""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thinkless"

README = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
ROOMS = tuple(
    name
    for name in re.findall(r"^    (\w+)(?:\.py|/) ", README, re.MULTILINE)
    if name not in ("__init__", "profiles")  # the door opens all rooms; profiles/ is data
)
"""The modules and folders of the package in README's order: each may use only those before it."""

KNOWS_NOTHING_OF = {
    "objectives": {"trl", "transformers", "datasets"},
    "losses": {"trl", "transformers", "datasets"},
    "problems.chain": {"torch", "transformers", "trl"},
    "problems.stories": {"torch", "transformers", "trl"},
    "grading.grade": {"torch", "transformers", "trl"},
    "runs.settings": {"torch", "transformers", "trl"},
    "runs.profiles": {"torch", "transformers", "trl"},
    "runs.runner": {"transformers", "trl", "datasets"},
    "generation": {"trl", "datasets", "vllm", "openai"},
    "generation.interface": {"torch", "trl", "datasets"},
    "generation.transformers": {"trl", "datasets"},
    "generation.vllm": {"torch", "trl", "datasets", "vllm"},
    "generation.server": {"torch", "trl", "datasets", "openai", "httpx2"},
    "evaluation.report": {"trl", "torch", "plotly"},
}
"""Libraries that a module must do without in its own top-level imports, whatever its layer."""


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name below it; `""` is the package itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Every name a file imports, wherever in the file: ``from a import b`` gives ``a`` and ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(module: str) -> str:
    return module.partition(".")[0]


def upward_imports(package: Path, rooms: tuple[str, ...]) -> list[str]:
    """The imports of a later room, as sentences."""
    wrong = []
    for module, path in modules(package).items():
        own = {name.removeprefix("thinkless.") for name in imports(path) if name.startswith("thinkless.")}
        if module:  # the front door opens all rooms
            later = set(rooms[rooms.index(room(module)) + 1 :])
            wrong += [f"{module} imports {name}" for name in own if room(name) in later]
    return sorted(wrong)


def circles(package: Path) -> list[str]:
    """Modules that import themselves by way of others, whatever room they are in."""
    files = modules(package)
    uses = {}
    for module, path in files.items():
        own = {name.removeprefix("thinkless.") for name in imports(path) if name.startswith("thinkless.")}
        uses[module] = {name for name in own if name in files and name != module}

    def reached(module: str) -> set[str]:
        found: set[str] = set()
        waiting = list(uses[module])
        while waiting:
            if (name := waiting.pop()) not in found:
                found.add(name)
                waiting += uses[name]
        return found

    return sorted(module for module in uses if module in reached(module))


def test_imports_point_down():
    assert upward_imports(PACKAGE, ROOMS) == []


def test_no_module_imports_itself_by_way_of_others():
    assert circles(PACKAGE) == []


def test_every_module_has_its_room():
    assert {room(module) for module in modules(PACKAGE)} - {""} == set(ROOMS)


def test_the_tests_have_the_packages_folders():
    ours, theirs = (
        {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))}
        for folder in (PACKAGE, Path(__file__).parent)
    )
    assert theirs - {"with_vllm"} == ours


def test_an_upward_import_is_found(tmp_path):
    """The tests above can fail: on an import upward, inside a function, of a submodule, in a circle."""
    (tmp_path / "problems").mkdir()
    (tmp_path / "modes.py").write_text("def f():\n    from thinkless import pipeline\n")
    (tmp_path / "grading.py").write_text(
        "from thinkless.generation.server import Server\nimport thinkless.modes\n"
    )
    (tmp_path / "problems" / "chain.py").write_text("import thinkless.problems.files\n")
    (tmp_path / "problems" / "files.py").write_text("from thinkless.problems import chain\n")
    assert upward_imports(tmp_path, ROOMS) == [
        "grading imports generation.server",
        "grading imports generation.server.Server",
        "modes imports pipeline",
    ]
    assert circles(tmp_path) == ["problems.chain", "problems.files"]


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    """In pyproject.toml by the name of the distribution; jupyter and vllm are run as programs, too."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"].values()
    declared = project_names([*project["dependencies"], *(name for names in optional for name in names)])
    roots = {name.partition(".")[0] for path in modules(PACKAGE).values() for name in imports(path)}
    foreign = roots - set(sys.stdlib_module_names) - {"thinkless"}
    distributions = metadata.packages_distributions()
    used = {distributions.get(name, [name])[0] for name in foreign}

    def canonical(names):
        return {re.sub(r"[-_.]+", "-", name).lower() for name in names}

    assert canonical(used) <= canonical(declared)
    assert canonical(project_names(project["dependencies"])) <= canonical(used)


def project_names(requirements):
    return {re.match(r"[\w.-]+", name)[0] for name in requirements}


@pytest.mark.parametrize("module", KNOWS_NOTHING_OF)
def test_libraries_that_a_module_does_without(module):
    tree = ast.parse(modules(PACKAGE)[module].read_text(encoding="utf-8"))
    top_level = {
        name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        )
    }
    assert not top_level & KNOWS_NOTHING_OF[module]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("grading.sandbox", {"torch", "transformers", "trl"}),
        *(
            (name, {"transformers.modeling_utils", "trl"})
            for name in ("pipeline", "book.sweep", "book.notebook")
        ),
    ],
)
def test_a_process_starts_without_what_it_may_not_need(module, heavy):
    """What a grading worker, a command, or a chapter that trains nothing pulls in is paid at every start."""
    code = f"import thinkless.{module}, sys; print(*{heavy} & {{*sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
