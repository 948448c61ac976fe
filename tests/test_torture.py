"""Proves that a pipeline killed again and again ends as one left alone, and that a difference would be named.

Run: python -m pytest tests/test_torture.py

`make torture` does the same 200 times; its record is in `results/`.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torture
from conftest import SMALLEST
from safetensors.torch import load_file, save_file

from thinkless.pipeline import pipeline

pytestmark = pytest.mark.slow
OVERRIDES = {**SMALLEST, "rl.repetitions": 1, "rl.arms": ["degrpo"]}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a short torture, left as it ended, and what it printed."""
    folder = tmp_path_factory.mktemp("torture")
    options = ["--kills", "3", "--seed", "1", "--overrides", json.dumps(OVERRIDES)]
    where = ["--folder", str(folder / "work"), "--record", str(folder / "record.jsonl")]
    command = [sys.executable, torture.__file__, *options, *where]
    return folder, subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_killed_pipeline_ends_as_one_left_alone(killed):
    folder, output = killed
    first, *_, last = output.splitlines()
    assert first == "seed 1"
    assert last.startswith("kills 3, survived 3, rounds 1, equal True, hours ")
    line = json.loads((folder / "record.jsonl").read_text())
    assert (line["kills"], line["survived"], line["equal"], line["difference"]) == (3, 3, True, None)


def damage_tensor(folder: Path):
    path = folder / "sft" / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"][3, 2] += 1e-6
    save_file(tensors, path)


def damage_answer(folder: Path):
    path = folder / "eval-sft" / "answers.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | {"tokens": 99}) + "\n", *others]))


def leave_file(folder: Path):
    (folder / "distill" / "think.jsonl.partial").touch()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_tensor, "sft, model/model.safetensors, lm_head.weight: "),
        (damage_answer, "eval-sft, answers.jsonl, line 1: "),
        (leave_file, "distill, files in the folder: "),
    ],
)
def test_the_first_difference_is_named(killed, damage, named, tmp_path):
    alone = killed[0] / "work" / "alone"
    shutil.copytree(alone, tmp_path / "other")
    one, other = (pipeline("smoke", 0, OVERRIDES, path) for path in (alone, tmp_path / "other"))
    assert torture.first_difference(one, other) is None
    damage(other.root)
    assert torture.first_difference(one, other).startswith(named)
