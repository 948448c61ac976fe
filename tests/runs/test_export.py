"""Proves that an exported model stands alone, and that its card says what was recorded and nothing else.

Run: python -m pytest tests/runs/test_export.py
"""

import json

import pytest
import yaml
from conftest import SMALLEST
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkless.__main__ import main
from thinkless.errors import StageError
from thinkless.generation.chat import LONGEST, open_chat
from thinkless.pipeline import pipeline
from thinkless.runs.export import CARD, export, model_card, push_model


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A warmed-up model of the smallest kind, and its evaluation."""
    runner = pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path_factory.mktemp("runs"))
    runner.run("eval-sft")
    return runner


def test_the_folder_loads_as_any_model_does_and_holds_the_same_weights(runner, tmp_path):
    folder = export(runner, "sft", tmp_path / "hybrid")
    model = AutoModelForCausalLM.from_pretrained(folder)
    trained = AutoModelForCausalLM.from_pretrained(runner.folder("sft") / "model").state_dict()
    assert all((value == trained[name]).all() for name, value in model.state_dict().items())
    assert "<short>" in AutoTokenizer.from_pretrained(folder).get_vocab()


def test_a_chat_with_it_keeps_to_the_length_of_its_training(runner, tmp_path):
    folder = export(runner, "sft", tmp_path / "hybrid")
    longest = runner.manifest("sft")["metrics"]["longest_answer"]
    assert open_chat(str(folder)).sampling.max_tokens == longest < LONGEST
    assert open_chat(str(folder), max_tokens=5).sampling.max_tokens == 5


def test_the_card_shows_the_figures_of_the_evaluation_and_where_they_come_from(runner, tmp_path):
    text = (export(runner, "sft", tmp_path / "hybrid") / CARD).read_text()
    metrics = runner.manifest("eval-sft")["metrics"]
    assert f"| accuracy, mode free | {metrics['accuracy']:.3f} |" in text
    assert f"On {metrics['questions']} held-out questions" in text
    assert f"| stage | sft, key {runner.manifest('sft')['key'][:12]} |" in text
    data = yaml.safe_load(text.split("---\n")[1])
    figures = {row["type"]: row["value"] for row in data["model-index"][0]["results"][0]["metrics"]}
    assert figures["think_rate"] == pytest.approx(metrics["think_rate"], abs=1e-4)
    assert data["pipeline_tag"] == "text-generation"


def test_without_an_evaluation_the_card_claims_nothing(runner):
    card = model_card(runner, "base", "base")
    assert "Not yet evaluated." in card.text
    assert card.data.eval_results is None


@pytest.mark.parametrize(
    ("stage", "message"),
    [("distill", "makes no model"), ("rl-degrpo-0", "has not finished"), ("sfd", "there is no stage 'sfd'")],
)
def test_what_cannot_be_exported(runner, stage, message, tmp_path):
    with pytest.raises(StageError, match=message):
        export(runner, stage, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_model_of_other_settings_is_not_exported(runner, tmp_path):
    other = pipeline(
        "smoke", overrides={**SMALLEST, "sft.learning_rate": 1e-5}, runs_dir=runner.root.parents[1]
    )
    with pytest.raises(StageError, match=r"made with other settings.*run sft first"):
        export(other, "sft", tmp_path / "hybrid")


def test_a_folder_that_exists_is_not_written_over(runner, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(StageError, match="exists already"):
        export(runner, "sft", tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious"


def test_without_a_hub_pushing_says_so_in_one_line(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = export(runner, "sft", tmp_path / "hybrid")
    with pytest.raises(StageError, match=r"cannot push to not/a/name") as error:
        push_model(folder, "not/a/name")
    assert "\n" not in str(error.value)


def test_the_command_prints_the_folder(runner, tmp_path, capsys):
    overrides = json.dumps(SMALLEST)
    arguments = ["--profile", "smoke", "--runs-dir", str(runner.root.parents[1]), "--overrides", overrides]
    assert main(["export", "sft", str(tmp_path / "hybrid"), *arguments]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "hybrid")
