"""Proves that the public names are there, have docstrings, and cost nothing until they are used.

Run: python -m pytest tests/test_door.py
"""

import importlib
import inspect
import subprocess
import sys

import pytest

import thinkless

MODULES = (
    *("objectives", "losses", "rewards", "modes", "trainer", "models", "grading", "generation"),
    *("problems", "evaluation", "training", "pipeline"),
)


@pytest.mark.parametrize("name", thinkless.__all__)
def test_a_public_name_is_there_and_listed(name):
    value = getattr(thinkless, name)
    assert name in dir(thinkless)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_says_what_it_is_for(name):
    assert importlib.import_module(f"thinkless.{name}").__doc__


@pytest.mark.parametrize("name", ["degrpo", "no_such_name", "_HOME"])
def test_another_name_is_an_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(thinkless, name)


def test_the_door_costs_no_torch():
    """Processor time, best of five, less that of a bare interpreter: a busy machine changes neither much."""
    code = "import resource, sys; {}; u = resource.getrusage(0); print(u.ru_utime + u.ru_stime, *sys.modules)"

    def seconds(statement: str) -> float:
        runs = [
            subprocess.run([sys.executable, "-c", code.format(statement)], capture_output=True, text=True)
            for _ in range(5)
        ]
        assert not {"torch", "transformers", "numpy", "trl"} & set(runs[0].stdout.split())
        return min(float(run.stdout.split()[0]) for run in runs)

    assert seconds("import thinkless") - seconds("pass") < 0.15
