"""Proves that imports only point down, so that every file can be read before the ones that use it.

Run: python -m pytest tests/test_layers.py
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thinkless"

LAYERS = [
    {"answers", "verifier", "problems.files"},
    {"modes", "problems", "problems.chain", "problems.math", "objectives", "losses"},
    {"checks", "models", "records", "schema"},
    {"chat_template", "serving"},
    {"grading", "problems.sets"},
    {"settings"},
    {"launching", "profiles"},
    {"rewards", "generation.interface", "findings"},
    {"generation.server", "generation.transformers", "generation.vllm"},
    {"generation"},
    {"collect"},
    {"distill", "recorded", "evaluation", "stages", "trainer", "planning", "planning.hardware"},
    {"training", "cards", "routers", "planning.costs", "planning.memory"},
    {"teachers", "calibration", "planning.workload"},
    {"pipeline", "planning.timing", "planning.preflight"},
    {"planning.plan"},
    {"planning.text"},
    {"expectations"},
    {"chat", "evidence", "export", "notebook", "plots", "published"},
    {"evidence_plots"},
    {"__main__"},
    {"book"},
]
"""From the bottom up. A new module goes into the lowest layer above everything that it imports."""

KNOWS_NOTHING_OF = {
    "objectives": {"trl", "transformers", "datasets"},
    "losses": {"trl", "transformers", "datasets"},
    "problems.chain": {"torch", "transformers", "trl"},
    "grading": {"torch", "transformers", "trl"},
    "settings": {"torch", "transformers", "trl"},
    "profiles": {"torch", "transformers", "trl"},
    "stages": {"transformers", "trl", "datasets"},
    "generation": {"trl", "datasets", "vllm", "openai"},
    "generation.interface": {"torch", "trl", "datasets"},
    "generation.transformers": {"trl", "datasets"},
    "generation.vllm": {"torch", "trl", "datasets", "vllm"},
    "generation.server": {"torch", "trl", "datasets", "openai", "httpx2"},
    "evaluation": {"trl", "torch", "plotly"},
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


def upward_imports(package: Path, layers: list[set[str]]) -> list[str]:
    layer = {module: number for number, names in enumerate(layers) for module in names}
    wrong = []
    for module, path in modules(package).items():
        own = {name.removeprefix("thinkless.") for name in imports(path) if name.startswith("thinkless.")}
        wrong += [
            f"{module} imports {name}" for name in own & set(layer) if layer[name] >= layer.get(module, -1)
        ]
    return sorted(wrong)


def test_imports_point_down():
    assert upward_imports(PACKAGE, LAYERS) == []


def test_every_module_has_its_layer():
    assert set(modules(PACKAGE)) - {""} <= set().union(*LAYERS)


def test_an_upward_import_is_found(tmp_path):
    """The test above can fail: on an import upward, sideways, inside a function, or of a submodule."""
    (tmp_path / "problems").mkdir()
    (tmp_path / "modes.py").write_text("def f():\n    from thinkless import pipeline\n")
    (tmp_path / "rewards.py").write_text(
        "from thinkless.generation import Generator\nimport thinkless.modes\n"
    )
    (tmp_path / "problems" / "chain.py").write_text("import thinkless.grading\n")
    assert upward_imports(tmp_path, LAYERS) == [
        "modes imports pipeline",
        "problems.chain imports grading",
        "rewards imports generation",
    ]


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


def test_a_grading_worker_starts_without_torch():
    """It imports this module in every new process, so what that pulls in is paid at every restart."""
    code = (
        "import thinkless.grading, sys; print(*sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
