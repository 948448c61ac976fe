"""Proves that the example of the library page runs as it is pasted, on a tiny model of its kind.

Run: python -m pytest tests/test_library.py
"""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_layout import make_qwen25_layout
from transformers import AutoModelForCausalLM

import thinkless
from thinkless.models import load_tokenizer
from thinkless.modes import Mode, mode_of

PAGE = (Path(__file__).parents[1] / "book" / "library.md").read_text(encoding="utf-8")


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return code


def test_the_example_fits_on_a_screen_and_uses_public_names_only():
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 30
    used = re.findall(r"thinkless\.(\w+)", example())
    assert set(used) <= set(thinkless.__all__)


def test_every_public_name_is_on_the_page():
    named = set(re.findall(r":: thinkless\.(?:\w+\.)?(\w+)", PAGE))
    assert named == set(thinkless.__all__) - {"__version__"}


@pytest.mark.parametrize("name", thinkless.__all__)
def test_no_property_begins_like_a_type(name):
    """Sphinx's napoleon takes what stands before a colon in a property's first line for its type."""
    value = getattr(thinkless, name)
    members = vars(value).items() if inspect.isclass(value) else ()
    documented = [(n, m.__doc__) for n, m in members if isinstance(m, property) and m.__doc__]
    assert not [n for n, text in documented if ": " in text.splitlines()[0]]


@pytest.mark.slow
def test_the_example_trains(tmp_path):
    """As pasted, but for the model, which is tiny and random, and for how much is done."""
    make_qwen25_layout(tmp_path / "tiny")
    code = example()
    for own, small in (
        ("Qwen/Qwen2.5-0.5B-Instruct", "tiny"),
        ("max_completion_length=512", "max_completion_length=8"),
        ("max_steps=20", "max_steps=2"),
    ):
        assert own in code
        code = code.replace(own, small)
    (tmp_path / "example.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "degrpo" / "model")
    tokenizer = load_tokenizer(tmp_path / "degrpo" / "model")
    ids = tokenizer.encode("<short>42", add_special_tokens=False)
    assert mode_of(ids, tokenizer) is Mode.SHORT
    assert trained.get_input_embeddings().num_embeddings >= len(tokenizer)
    assert "think_rate" in done.stdout
