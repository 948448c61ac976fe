"""The live model: what is written for the page, and that a browser computes from it what Python computes.

Run: ``python -m pytest tests/book/test_live.py``
"""

import shutil
from pathlib import Path

import pytest
import torch
from chromium import CHROMIUM, Chromium
from conftest import SMALLEST, TINY, both_ways, learn
from live_pages import answers_in_page, answers_in_python, assert_equal, read_index
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, TopPLogitsWarper

from thinkless.book.live import QUESTIONS, describe, laptop_runner, publish
from thinkless.models import build_model, build_tokenizer, save
from thinkless.problems import chain
from thinkless.runs.profiles import load_profile
from thinkless.runs.runner import Runner, Stage

STATIC = Path(__file__).parents[2] / "book" / "_static"
STAGES = ["base", "sft", "rl-grpo-0", "rl-degrpo-0"]
MADE = STAGES[:3]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


def unlike_ours(tokenizer):
    """A Qwen3 with everything that ours have not: shared keys, biases, an output layer, another base of angles."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=24,
        attention_bias=True,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        rms_norm_eps=1e-3,
        initializer_range=0.4,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # ones and zeros hide what is left out
                parameter.add_(torch.randn_like(parameter) / 2)
    return model


@pytest.fixture(scope="module")
def runner(tmp_path_factory, tokenizer):
    """Three finished models: an untrained base, a hybrid that answers three questions, one unlike any of ours."""
    plain = build_tokenizer(chain.VOCABULARY)
    made = {
        "base": lambda: (build_model(plain, **TINY), plain),
        "sft": lambda: (learn(tokenizer, both_ways()).model, tokenizer),
        "rl-grpo-0": lambda: (unlike_ours(tokenizer), tokenizer),
        "rl-degrpo-0": lambda: pytest.fail("is never run"),
    }

    def stage(name):
        return Stage(name, lambda profile: {}, lambda run: save(*made[name](), run.folder / "model") or {}, (), ("model",))

    profile = load_profile("smoke", SMALLEST)
    runner = Runner({name: stage(name) for name in made}, profile, 0, tmp_path_factory.mktemp("runs"))
    for name in MADE:
        runner.run(name)
    return runner


@pytest.fixture(scope="module")
def folder(runner, tmp_path_factory):
    """A folder, its name with a space, with a page, the forward pass, and the models in `live/`."""
    folder = tmp_path_factory.mktemp("a page")
    assert publish(runner, folder / "live") == MADE
    shutil.copy(STATIC / "live_model.js", folder)
    scripts = ["live_model.js", *(f"live/{name}.js" for name in ("index", *MADE))]
    tags = "".join(f'<script src="{script}"></script>' for script in scripts)
    (folder / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{tags}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tab(folder, tmp_path_factory):
    """That page in a browser, from the disk."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    tab = browser.new_tab()
    tab.open((folder / "page.html").as_uri(), "light", 1280)
    yield tab
    browser.close()


def test_the_index_names_the_finished_models_and_the_world(folder, tokenizer):
    index = read_index(folder / "live")
    assert [(one["stage"], one["name"]) for one in index["checkpoints"]] == [
        ("base", "Base"), ("sft", "Warm-up"), ("rl-grpo-0", "vanilla GRPO"),
    ]  # fmt: skip
    base, warm = index["checkpoints"][:2]
    assert base["controls"] is None
    assert warm["controls"] == {"think": "<think>", "short": "<short>"}
    assert warm["tokens"] == [tokenizer.decode([token]) for token in range(len(tokenizer))]
    world = index["world"]
    assert world["results"]["-"][3][5] == 8
    assert world["around"] == ["", "="]
    assert world["longest"] == 16 + 8  # two worked steps of six tokens, four around them, and the slack
    assert len(world["questions"]) == QUESTIONS
    assert {row["level"] for row in world["questions"]} == {1, 2}
    assert all(chain.is_held_out(row["prompt"][:-1]) for row in world["questions"] if row["level"] == 2)


def test_questions_of_a_world_with_a_start_token_have_it(tmp_path):
    profile = load_profile("smoke", {"problems": {"distractors": True}})
    stages = {name: Stage(name, lambda profile: {}, lambda run: {}) for name in STAGES}
    assert publish(Runner(stages, profile, 0, tmp_path), tmp_path / "live") == []
    world = read_index(tmp_path / "live")["world"]
    assert world["around"] == [":", "="]
    assert all(row["prompt"][0] == ":" for row in world["questions"])


def test_a_book_without_models_says_so(tmp_path):
    assert publish(None, tmp_path) == []
    assert read_index(tmp_path) == {"checkpoints": []}


def test_the_models_of_earlier_books_are_gone(runner, tmp_path):
    (tmp_path / "rl-old-0.js").touch()
    publish(runner, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.js", "index.js", "rl-grpo-0.js", "sft.js"]


def test_the_runs_are_those_of_the_chapters_about_the_laptop_world(tmp_path):
    def options(profile, runs_dir):
        return {"profile": profile, "seed": 3, "overrides": {}, "runs_dir": runs_dir}

    assert laptop_runner(tmp_path, [options("h100x4", "")]) is None
    assert laptop_runner(tmp_path, [options("h100x4", ""), options("smoke", "")]).root == tmp_path / "runs/smoke/seed3"
    assert laptop_runner(tmp_path, [options("smoke", "../mine")]).root == tmp_path.parent / "mine/smoke/seed3"


def test_a_model_that_the_page_cannot_compute_is_refused(tokenizer):
    config = LlamaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(ValueError, match="llama: the page computes plain Qwen3 models only"):
        describe(LlamaForCausalLM(config), tokenizer)


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("stage", MADE)
def test_the_page_chooses_the_tokens_that_python_chooses(runner, folder, tab, stage):
    index = read_index(folder / "live")
    questions = index["world"]["questions"]
    expected = answers_in_python(runner.folder(stage) / "model", index, questions)
    assert len({str(row.ids) for row in expected}) > 10, "answers that hardly differ show little"
    assert_equal(answers_in_page(tab, stage, questions), expected)


@needs_chromium
@pytest.mark.browser
def test_tokens_are_drawn_with_their_probabilities(tab):
    logits, draws = [2.0, 1.0, 0.5, 0.0, -3.0], 4000
    shares = TopPLogitsWarper(0.8)(None, torch.tensor([logits]) / 0.7).softmax(dim=1)[0]
    counts = tab.run(f"""(() => {{
      let state = 1;
      const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
      const counts = [0, 0, 0, 0, 0];
      for (let i = 0; i < {draws}; i++)
        counts[LiveModel.choose(Float64Array.from({logits}), {{ temperature: 0.7, topP: 0.8, random }})]++;
      return counts;
    }})()""")
    assert 1 < (shares > 0).sum() < 5
    for count, share in zip(counts, shares.tolist(), strict=True):
        assert abs(count - draws * share) <= 4 * (draws * share * (1 - share)) ** 0.5
