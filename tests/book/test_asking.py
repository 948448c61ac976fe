"""A benchmark that a finished model was asked: counted by hand from what it answered.

Run: python -m pytest tests/book/test_asking.py
"""

import json

import pandas as pd
import pytest
from conftest import SMALLEST

from thinkless.__main__ import main
from thinkless.book import benchmarks
from thinkless.book.benchmarks import by_level, read_benchmarks
from thinkless.errors import StageError
from thinkless.evaluation import Report
from thinkless.pipeline import pipeline

QUESTIONS = [
    {"question": "1 + 1?", "answer": "Add them.\n1 + 1 = 2\n#### 2"},
    {"question": "2 * 3?", "answer": "2 * 3 = 6\n#### 6"},
    {"question": "3 + 4?", "answer": "3 + 4 = 7\n#### 7"},
]


def test_figures_are_of_the_free_answers_alone():
    answers = pd.DataFrame(
        [
            (0, 1, "free", "think", True, 20, None),
            (0, 1, "free", "short", False, 4, "never_ends"),
            (1, 2, "free", None, False, 6, "no_control_token"),
            (1, 2, "short", "short", True, 400, None),
        ],
        columns=["number", "level", "setting", "mode", "correct", "tokens", "fault"],
    )
    found = by_level(Report(answers, 0.5))
    assert found["1"] == {
        "questions": 1,
        "answers": 2,
        "right": 1,
        "think_rate": 0.5,
        "tokens": 12,
        "faults": 1,
    }
    assert found["2"] == {"questions": 1, "answers": 1, "right": 0, "think_rate": 0, "tokens": 6, "faults": 1}
    assert found["all"] == {
        "questions": 2,
        "answers": 3,
        "right": 1,
        "think_rate": 0.33333,
        "tokens": 10,
        "faults": 2,
    }


@pytest.mark.slow
def test_a_model_s_record_takes_the_place_of_its_last(tmp_path, capsys, monkeypatch):
    file = tmp_path / "gsm8k.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    options = ["--profile", "smoke", "--runs-dir", str(tmp_path), "--overrides", json.dumps(SMALLEST)]
    asked = ["evaluate", "sft", "gsm8k", *options, "--path", str(file), "--results", str(tmp_path / "found")]
    assert main(asked) == 1
    assert "stage sft is not finished with these settings" in capsys.readouterr().err
    assert main(["stage", "sft", *options]) == 0
    assert main(["evaluate", "sft", "gsm9k", *options]) == 1
    assert "unknown problem set 'gsm9k': expected one of deepscaler" in capsys.readouterr().err
    assert main([*asked, "--limit", "1"]) == main(asked) == 0
    (row,) = read_benchmarks(tmp_path / "found")
    sizes = {level: figures["questions"] for level, figures in row["by_level"].items()}
    assert sizes == {"1": 2, "2": 1, "all": 3}  # steps of the reference solutions
    assert row["key"] == pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path).manifest("sft")["key"]

    records = tmp_path / "found" / "benchmarks.jsonl"
    records.write_text(json.dumps({**row, "stage": "rl-degrpo-0"}) + "\n" + records.read_text())
    with monkeypatch.context() as closed:
        closed.setattr(benchmarks, "open_generator", None)
        assert main(asked) == 0  # this model has answered these questions
    file.write_text(file.read_text().replace("#### 6", "#### 8"))
    with monkeypatch.context() as closed:
        closed.setattr(benchmarks, "open_generator", None)
        with pytest.raises(TypeError):
            main(asked)  # other answers are right now
    other = json.dumps({**SMALLEST, "sft.learning_rate": 0.1})
    assert main([part if part != json.dumps(SMALLEST) else other for part in asked]) == 1
    assert "stage sft is not finished with these settings" in capsys.readouterr().err
    assert main([*asked, "--limit", "2"]) == 0
    other, again = read_benchmarks(tmp_path / "found")
    assert (other["stage"], again["stage"]) == ("rl-degrpo-0", "sft")
    assert again["by_level"]["all"]["questions"] == 2


def test_damaged_records_are_named(tmp_path):
    (tmp_path / "benchmarks.jsonl").write_text('{"benchmark": "gsm8k"}\n')
    with pytest.raises(
        StageError, match=r"benchmarks\.jsonl.* lacks by_level, overrides, pipeline_seed, profile, stage"
    ):
        read_benchmarks(tmp_path)
