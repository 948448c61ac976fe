"""The live model: what is written for the page, and that a browser computes from it what Python computes.

Run: ``python -m pytest tests/book/test_live.py``
"""

import json
import shutil
from pathlib import Path

import pytest
from chromium import CHROMIUM, Chromium
from conftest import SMALLEST

from thinkless.book.live import QUESTIONS, publish
from thinkless.generation import TransformersGenerator
from thinkless.models import load
from thinkless.modes import Mode
from thinkless.pipeline import pipeline

STATIC = Path(__file__).parents[2] / "book" / "_static"
STAGES = ["base", "sft", "rl-grpo-0", "rl-degrpo-0"]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """The finished models of a tiny pipeline. They have learned next to nothing, so their answers are long and odd."""
    runner = pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path_factory.mktemp("runs"))
    for stage in STAGES:
        runner.run(stage)
    return runner


@pytest.fixture(scope="module")
def page(runner, tmp_path_factory):
    """A page on disk with the models and the forward pass, and nothing else."""
    folder = tmp_path_factory.mktemp("a page")
    assert publish(runner, folder / "live") == STAGES
    shutil.copy(STATIC / "live_model.js", folder)
    scripts = ["live_model.js", "live/index.js", *(f"live/{stage}.js" for stage in STAGES)]
    tags = "".join(f'<script src="{script}"></script>' for script in scripts)
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{tags}", encoding="utf-8")
    return folder / "page.html"


def read(script: Path) -> dict:
    """The value that the last line of a script assigns."""
    return json.loads(script.read_text(encoding="utf-8").splitlines()[-1].partition(" = ")[2].rstrip(";"))


@pytest.mark.slow
def test_the_index_says_what_the_models_are(runner, page):
    index = read(page.parent / "live" / "index.js")
    print(json.dumps(index)[:3000])
