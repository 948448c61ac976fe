"""What a pipeline took: counted again by hand.

Run: python -m pytest tests/book/test_bench.py
"""

import json

import pytest
from conftest import SMALLEST
from transformers import LlamaConfig, LlamaForCausalLM

from thinkless.__main__ import main
from thinkless.book.bench import matrix_rate, sorted_at, tokens_of, weights_of
from thinkless.models import load
from thinkless.pipeline import pipeline
from thinkless.problems import chain


def steps(*rates):
    return [{"think_rate/level1": low, "think_rate/level2": high} for low, high in rates]


def test_the_modes_are_sorted_when_every_level_is_on_its_side():
    assert sorted_at(steps((0.5, 0.5), (0.1, 0.9))) is None  # the means of both are .3 and .7
    assert sorted_at(steps((0.5, 0.9), *[(0.0, 1.0)] * 5)) == 5
    assert sorted_at(steps(*[(0.0, 0.0)] * 9)) is None  # a collapse sorts nothing
    assert sorted_at([{"loss": 0.0}]) is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_rate_is_one_that_processors_have(precision):
    assert 1e8 < matrix_rate(precision, seconds=0.05) < 1e14


@pytest.mark.parametrize("tied", [True, False])
def test_a_table_is_no_product_unless_it_is_the_head(tied):
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=100, tie_word_embeddings=tied, **shape))
    attention, feed_forward, norms = 4 * 8 * 8, 3 * 8 * 16, 3 * 8
    assert weights_of(model) == (attention + feed_forward + norms, 100 * 8)


@pytest.mark.slow
def test_a_finished_pipeline_is_counted_and_recorded_once(tmp_path, capsys):
    options = ["--profile", "smoke", "--runs-dir", str(tmp_path), "--overrides", json.dumps(SMALLEST)]
    bench = ["bench", *options, "--results", str(tmp_path)]
    assert main(["stage", "sft", *options]) == 0
    assert main(bench) == 1
    assert "no DeGRPO run of this pipeline is finished" in capsys.readouterr().err
    assert main(["stage", "rl-degrpo-0", *options]) == 0
    assert main(bench) == main(bench) == 0
    (line,) = map(json.loads, (tmp_path / "bench.jsonl").read_text().splitlines())
    assert line["runs"] == [{"stage": "rl-degrpo-0", "step": None, "cpu_seconds": None}]

    runner = pipeline("smoke", overrides=SMALLEST, runs_dir=tmp_path)
    rows = chain.textbook(runner.profile.problems.world(), runner.profile.base.rows, seed=0)
    vocabulary = sorted(runner.profile.problems.world().vocabulary(), key=len, reverse=True)

    def pieces(text):
        for piece in vocabulary:
            text = text.replace(piece, "\0")
        return text.count("\0")

    written = sum(pieces(c) + 1 for c in rows["completion"])  # with an end token each
    assert tokens_of(runner, "base") == (sum(map(pieces, rows["prompt"])), written)
    assert "floor, share" in capsys.readouterr().out

    rl, folder = runner.profile.rl, runner.folder("rl-degrpo-0")
    shown = [json.loads(text) for text in (folder / "groups.jsonl").read_text().splitlines()]
    read, of_rl = tokens_of(runner, "rl-degrpo-0")
    questions = rl.steps * rl.prompts_per_step
    assert read == round(questions * sum(pieces(row["prompt"]) for row in shown) / len(shown))
    assert 2 * questions * rl.group_size <= of_rl <= questions * rl.group_size * runner.profile.longest("rl")
    # two for a forward pass, four for a backward one, and two more where there is a reference
    body, head = weights_of(load(folder / "model")[0])
    operations = (8 + 2 * (rl.beta > 0)) * (body * (read + of_rl) + head * of_rl)
    cell = line["stages"]["rl-degrpo-0"]
    spent, rate = cell["CPU seconds"], 1e9 * line["matrix_gflops"]
    assert cell["floor, share"] == pytest.approx(operations / rate / spent, rel=0.02, abs=1e-4)
