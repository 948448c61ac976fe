"""What a pipeline took: counted again by hand.

Run: python -m pytest tests/book/test_bench.py
"""

import json

import pytest
from conftest import SMALLEST

from thinkless.__main__ import main
from thinkless.book.bench import matrix_rate, sorted_at, tokens_of
from thinkless.pipeline import pipeline
from thinkless.problems import chain


def steps(*rates):
    return [{"think_rate/level1": low, "think_rate/level2": high} for low, high in rates]


def test_the_modes_are_sorted_when_every_level_is_on_its_side():
    assert sorted_at(steps((0.5, 0.5), (0.1, 0.9))) is None  # the means of both are .3 and .7
    assert sorted_at(steps((0.5, 0.9), *[(0.0, 1.0)] * 5)) == 5
    assert sorted_at(steps(*[(0.0, 0.0)] * 9)) is None  # a collapse sorts nothing
    assert sorted_at([{"loss": 0.0}]) is None


def test_the_rate_is_one_that_processors_have():
    assert 1e8 < matrix_rate(seconds=0.05) < 1e13


@pytest.mark.slow
def test_a_finished_pipeline_is_counted_and_recorded_once(tmp_path, capsys):
    options = ["--profile", "smoke", "--runs-dir", str(tmp_path), "--overrides", json.dumps(SMALLEST)]
    bench = ["bench", *options, "--results", str(tmp_path)]
    assert main(["stage", "sft", *options]) == 0
    assert main(bench) == 1
    assert "no DeGRPO run of this pipeline is finished" in capsys.readouterr().err
    assert main(["stage", "rl-degrpo-0", *options]) == 0
    assert main(bench) == main(bench) == 0
    (line,) = (tmp_path / "bench.jsonl").read_text().splitlines()
    assert json.loads(line)["runs"] == [{"stage": "rl-degrpo-0", "step": None, "cpu_seconds": None}]

    runner = pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path)
    rows = chain.textbook(runner.profile.problems.world(), runner.profile.base.rows, seed=0)
    vocabulary = sorted(runner.profile.problems.world().vocabulary(), key=len, reverse=True)

    def pieces(text):
        for piece in vocabulary:
            text = text.replace(piece, "\0")
        return text.count("\0")

    written = sum(pieces(p + c) + 1 for p, c in zip(rows["prompt"], rows["completion"], strict=True))
    assert tokens_of(runner, "base") == written  # with an end token each
    assert "floor, share" in capsys.readouterr().out
