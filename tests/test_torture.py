"""`make torture`, small: three kills, and a change of one number that the comparison must name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torture
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow
KILLS = 3


@pytest.fixture(scope="module")
def tortured(tmp_path_factory):
    """The folder after three kills, and what the command printed and recorded."""
    folder = tmp_path_factory.mktemp("torture")
    command = [sys.executable, torture.__file__, "--kills", str(KILLS), "--folder", str(folder / "work")]
    record = folder / "record.jsonl"
    done = subprocess.run([*command, "--record", str(record)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "work", done.stdout.splitlines()[-1], json.loads(record.read_text())


def test_a_pipeline_that_is_killed_ends_as_if_it_had_not_been(tortured):
    _, last, record = tortured
    assert last.startswith(f"{KILLS} kills, {KILLS} survived, equal, ")
    assert record["equal"]
    assert record["difference"] is None
    assert sum(record["killed_in"].values()) == record["kills"] == KILLS


def test_the_journal_is_gone_on_from(tortured):
    """What was done is not done again: the same command ends at once, with the same record."""
    folder, _, record = tortured
    again = torture.torture(folder, KILLS, seed=0)
    assert {**again, "finished": ""} == {**record, "finished": ""}


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("rl-grpo-0/model/model.safetensors", "weight", "rl-grpo-0: model/model.safetensors: tensor "),
        ("eval-sft/answers.jsonl", "line", "eval-sft: answers.jsonl"),
        ("sft/checkpoints/left.txt", "new", "sft: files"),
    ],
)
def test_the_first_difference_is_named(tortured, tmp_path, file, change, said):
    """Files are changed together with their hashes, as an unequal run would have written them."""
    reference = tortured[0] / "undisturbed"
    other = tmp_path / "other"
    shutil.copytree(reference, other)
    assert torture.first_difference(reference, other) is None
    path = other / "smoke" / "seed0" / file
    stage = path.parents[len(Path(file).parts) - 2]
    if change == "weight":
        tensors = load_file(path)
        name = sorted(tensors)[-1]
        tensors[name].view(-1)[0] += 1e-6
        save_file(tensors, path, metadata={"format": "pt"})
    elif change == "line":
        path.write_text(path.read_text().replace('"correct": false', '"correct": true', 1))
    else:
        path.parent.mkdir()
        path.touch()
    manifest = json.loads((stage / "manifest.json").read_text())
    if (name := path.relative_to(stage).as_posix()) in manifest["files"]:
        manifest["files"][name] = torture.digest_file(path)
        (stage / "manifest.json").write_text(json.dumps(manifest))
        for below in (other / "smoke" / "seed0").glob("*/manifest.json"):  # keys of what was made from it
            made = json.loads(below.read_text())
            made["key"] = torture.pipeline("smoke", runs_dir=other).key(made["stage"])
            below.write_text(json.dumps(made))
    assert (torture.first_difference(reference, other) or "").startswith(said)
