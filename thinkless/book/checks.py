"""The two kinds of check in a chapter, as the book's runner hears of them.

An `assert` states what must hold on any machine. If one fails in a batch, one line is all that its author
sees, and a bare AssertionError leaves it empty: this extension of IPython fills it. A figure with a spread
is compared with an expectation instead (`expectations.py`); the page keeps the missed ones under `MISSED`.
"""

import ast
import gc
from typing import Any

MISSED = "thinkless_missed"
"""Key of an output's metadata: the expectations that it shows as missed, a line each."""


def load_ipython_extension(shell: Any):
    """Called by IPython, for ``--IPKernelApp.extra_extensions=thinkless.book.checks``."""
    gc.set_threshold(100_000)  # as in the command line: a chapter's imports make a million objects that stay
    shell.ast_transformers.append(ExplainedAsserts())


class ExplainedAsserts(ast.NodeTransformer):
    """Gives every `assert` without a message one: its source, and the values on both sides if it compares."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        if node.msg is None:
            parts = [ast.unparse(part) for part in _compared(node.test)]
            values = "".join(f"({part!r}, {part})," for part in parts)
            here = f"__import__('importlib').import_module({__name__!r})"
            explain = f"{here}.explain({ast.unparse(node.test)!r}, [{values}])"
            node.msg = ast.parse(explain, mode="eval").body
        return ast.fix_missing_locations(node)


def _compared(test: ast.expr) -> list[ast.expr]:
    """The sides of a comparison, also of one that ends in ``.all()`` or ``.any()``."""
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute):
        test = test.func.value
    return [test.left, *test.comparators] if isinstance(test, ast.Compare) else []


def explain(source: str, values: list[tuple[str, Any]]) -> str:
    """One line: what was asserted, and the value of every part that is not written out in it."""
    known = [
        f"{part} is {' '.join(str(value).split())[:200]}" for part, value in values if part != repr(value)
    ]
    return "; ".join([f"expected {source}", *known])
