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
from thinkless.runs.runner import ARCHIVE

pytestmark = pytest.mark.slow
OVERRIDES = {**SMALLEST, "rl.repetitions": 1, "rl.arms": ["degrpo"]}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a short torture that was killed after its first kill; what its second call says."""
    folder = tmp_path_factory.mktemp("torture")
    options = ["--kills", "3", "--seed", "1", "--overrides", json.dumps(OVERRIDES)]
    where = ["--folder", str(folder / "work"), "--record", str(folder / "record.jsonl")]
    command = [sys.executable, torture.__file__, *options, *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        while "kill 1 of 3" not in first.stdout.readline():
            assert first.poll() is None
        first.kill()
    return folder, subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_killed_pipeline_ends_as_one_left_alone(killed):
    folder, output = killed
    first, second, *_, last = output.splitlines()
    assert first == "seed 1"
    assert "kill 2 of 3" in second  # of the first call, one kill and the run that is left alone are kept
    assert last.startswith("kills 3, survived 3, rounds 1, equal True, hours ")
    line = json.loads((folder / "record.jsonl").read_text())
    assert (line["kills"], line["survived"], line["equal"], line["difference"]) == (3, 3, True, None)


def test_two_at_once_do_each_stage_once_and_end_as_one(killed, tmp_path):
    """The one that comes late to a stage waits a little, then goes on behind it or leaves in one line."""
    one = pipeline("smoke", 0, OVERRIDES, killed[0] / "work" / "alone")
    other = pipeline("smoke", 0, OVERRIDES, tmp_path)
    where = ["--profile", "smoke", "--overrides", json.dumps(OVERRIDES), "--runs-dir", str(tmp_path)]
    command = [sys.executable, "-m", "thinkless", "train", *where]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    for process, error in zip(both, errors, strict=True):
        *_, said = error.splitlines() or [""]
        assert process.returncode == 0 or "is already running in another process" in said, error
    assert 0 in {process.returncode for process in both}, errors
    assert not (other.root / ARCHIVE).exists()
    assert torture.first_difference(one, other) is None


def damage_tensor(folder: Path):
    path = folder / "sft" / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] += 1e-6
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
        (damage_tensor, "sft, model/model.safetensors, model.norm.weight: "),
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
