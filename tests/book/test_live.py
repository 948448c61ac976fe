"""The live model: what is written for the page, and that a browser computes from it what Python computes.

Run: ``python -m pytest tests/book/test_live.py``
"""

import shutil
from pathlib import Path

import pytest
import torch
from chromium import CHROMIUM, Chromium, Tab, wait_for
from conftest import SMALLEST, TINY, both_ways, learn
from live_pages import answers_in_page, answers_in_python, assert_equal, read_index
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, TopPLogitsWarper

from thinkless.book.live import QUESTIONS, describe, laptop_runner, publish
from thinkless.generation import TransformersGenerator
from thinkless.models import build_model, build_tokenizer, load, save
from thinkless.modes import Mode
from thinkless.problems import chain
from thinkless.runs.profiles import load_profile
from thinkless.runs.runner import Runner, Stage

STATIC = Path(__file__).parents[2] / "book" / "_static"
STAGES = ["base", "sft", "rl-grpo-0", "rl-degrpo-0"]
MADE = STAGES[:3]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


def unlike_ours(tokenizer):
    """A Qwen3 with what ours have not: shared keys, biases, an output layer, other angles."""
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
    """Finished models: an untrained base, a hybrid that answers three questions, one unlike any of ours."""
    plain = build_tokenizer(chain.VOCABULARY)
    made = {
        "base": lambda: (build_model(plain, **TINY), plain),
        "sft": lambda: (learn(tokenizer, both_ways()).model, tokenizer),
        "rl-grpo-0": lambda: (unlike_ours(tokenizer), tokenizer),
        "rl-degrpo-0": lambda: pytest.fail("is never run"),
    }

    def stage(name):
        return Stage(
            name,
            lambda profile: {},
            lambda run: save(*made[name](), run.folder / "model") or {},
            (),
            ("model",),
        )

    plain_chains = {"levels": 2, "distractors": False, "mix": [0.5, 0.5], "held_out_per_level": 4}
    profile = load_profile("smoke", {**SMALLEST, "problems": plain_chains})
    runner = Runner({name: stage(name) for name in made}, profile, 5, tmp_path_factory.mktemp("runs"))
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
def browser(tmp_path_factory):
    """A browser for all tests."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def tab(folder, browser):
    """That page, from the disk."""
    tab = browser.new_tab()
    tab.open((folder / "page.html").as_uri(), "light", 1280)
    return tab


@pytest.fixture
def talk(folder, browser):
    """The book's own block and scripts on a page of their own, from the disk; its first answers are there."""
    tab = browser.new_tab()
    tab.open(write_block(folder).as_uri(), "light", 1280)
    wait_for(lambda: tab.run(ANSWERED), "the first answers")
    yield tab
    assert list(tab.named("Runtime.exceptionThrown")) == []
    tab.close()


ANSWERED = "document.querySelector('.live-said').textContent !== ''"
SHOWN = """[...document.querySelectorAll(".answer")].map((answer) => [
  answer.className, answer.querySelector(".cost").textContent,
  [...answer.querySelectorAll("b")].map((token) => token.textContent).join(" ")])"""


def write_block(folder: Path) -> Path:
    """A page with the block of `book/live.md` and its scripts beside it."""
    prose = (STATIC.parent / "live.md").read_text(encoding="utf-8")
    block = prose[prose.index("<div class") : prose.index("## What to try")]
    for name in ("live_model.js", "live.js", "live.css"):
        shutil.copy(STATIC / name, folder)
    scripts = '<script src="live_model.js?v=1"></script><script src="live.js?v=1"></script>'
    page = folder / "talk.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{block}{scripts}", encoding="utf-8")
    return page


def press(tab: Tab, key: str):
    """A key that the focused element gets, as if it had been pressed."""
    code, text = {"Enter": (13, "\r"), "Home": (36, ""), "End": (35, ""), " ": (32, " ")}[key]
    tab.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
    tab.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def answers_after(tab: Tab, *keys: str) -> dict[str, tuple[str, ...]]:
    """The answers (class, line above, tokens) by their first word, once `keys` have done their work."""
    tab.run("document.querySelector('.live-said').textContent = ''")
    for key in keys:
        press(tab, key)
    wait_for(lambda: tab.run(ANSWERED), "the answers")
    return {shown[1].split()[0].strip(":"): tuple(shown) for shown in tab.run(SHOWN)}


def write_question(tab: Tab, text: str):
    """Type `text` in place of the question, and do not send it."""
    tab.run("((box) => { box.value = ''; box.focus(); })(document.querySelector('#live-question'))")
    tab.send("Input.insertText", text=text)


def choose(tab: Tab, stage: str):
    """Move the focus to a checkpoint, and take it."""
    tab.run(f"document.querySelector('#live-{stage}').focus()")
    answers_after(tab, " ")


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
    assert (world["profile"], world["seed"]) == ("smoke", 5)
    assert world["around"] == ["", "="]
    assert world["longest"] == 16 + 8  # two worked steps of six tokens, four around them, and the slack
    assert len(world["questions"]) == QUESTIONS
    assert {row["level"] for row in world["questions"]} == {1, 2}
    assert all(chain.is_held_out(row["prompt"][:-1]) for row in world["questions"] if row["level"] == 2)


def test_questions_of_a_world_with_a_start_token_have_it(tmp_path):
    profile = load_profile("smoke")
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "base.js",
        "index.js",
        "rl-grpo-0.js",
        "sft.js",
    ]


def test_the_runs_are_those_of_the_chapters_about_the_laptop_world(tmp_path):
    def options(profile, runs_dir):
        return {"profile": profile, "seed": 3, "overrides": {}, "runs_dir": runs_dir}

    assert laptop_runner(tmp_path, [options("h100x4", "")]) is None
    assert (
        laptop_runner(tmp_path, [options("h100x4", ""), options("smoke", "")]).root
        == tmp_path / "runs/smoke/seed3"
    )
    assert laptop_runner(tmp_path, [options("smoke", "../mine")]).root == tmp_path.parent / "mine/smoke/seed3"


def test_a_model_that_the_page_cannot_compute_is_refused(tokenizer):
    config = LlamaConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
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


@needs_chromium
@pytest.mark.browser
def test_a_typed_question_is_answered_in_three_ways(runner, talk):
    choose(talk, "sft")
    write_question(talk, " 3+5 =")
    shown = answers_after(talk, "Enter")
    generator = TransformersGenerator(*load(runner.folder("sft") / "model"))
    for mode in Mode:
        [[answer]] = generator.generate(["3+5="], max_tokens=24, temperature=0, mode=mode)
        name, line, tokens = shown[mode.label]
        verdict = "8 is right" if answer.text[-1] == "8" else f"{answer.text[-1]} is wrong, 8 is right"
        assert name == f"answer {mode.label}"
        assert line == f"{mode.label} · {answer.tokens} tokens · {verdict}"
        assert tokens.replace(" ", "") == f"{answer.text}end"
    chosen = "think" if answer.think_probability > 0.5 else "short"
    assert shown["free"][0] == f"answer {chosen}"
    assert shown["free"][1].startswith(f"free: chose {chosen} · ")
    assert (
        talk.run("document.querySelector('.live-choice output').textContent")
        == f"{answer.think_probability:.3f}"
    )


@needs_chromium
@pytest.mark.browser
def test_the_tolerance_turns_the_choice_round(talk):
    choose(talk, "sft")
    write_question(talk, "3+5")  # one that the model was taught: elsewhere neither mode may be likely
    talk.run("document.querySelector('#live-tolerance').focus()")
    for key, chosen, share in (("End", "think", "> 0.999"), ("Home", "short", "< 0.001")):
        assert answers_after(talk, key)["free"][0] == f"answer {chosen}"
        assert talk.run("document.querySelector('.live-choice output').textContent") == share
    levels = """[...document.querySelectorAll(".live-levels tbody tr")].map((row) =>
      [row.firstChild.textContent, row.lastChild.textContent])"""
    rows = dict(wait_for(lambda: talk.run(levels), "the levels"))
    assert rows == {"level 1": "< 0.001", "level 2": "< 0.001"}


@needs_chromium
@pytest.mark.browser
def test_a_model_without_control_tokens_has_no_choice(talk):
    choose(talk, "base")
    assert [line.split()[0] for _, line, _ in talk.run(SHOWN)] == ["short", "think"]
    assert "no control tokens" in talk.run("document.querySelector('.live-choice output').textContent")
    assert not talk.run("document.querySelector('.live-levels').checkVisibility()")


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3+", "Write a chain such as"),
        ("12+3", "Write a chain such as"),
        ("", "Write"),
        ("1+2+3+4", "at most 2 operators, not 3"),
    ],
)
def test_what_the_models_do_not_know_is_said(talk, text, hint):
    write_question(talk, text)
    press(talk, "Enter")
    wait_for(lambda: hint in talk.run("document.querySelector('.live-hint').textContent"), "the hint")
    invalid = talk.run("document.querySelector('#live-question').getAttribute('aria-invalid')")
    assert invalid == str(hint.startswith("Write")).lower()


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("published", [True, False])
def test_a_page_without_models_says_so(browser, tmp_path, published):
    if published:
        publish(None, tmp_path / "live")
    tab = browser.new_tab()
    tab.open(write_block(tmp_path).as_uri(), "light", 1280)
    wait_for(lambda: "not in this book" in tab.run("document.body.innerText"), "the note")
    assert not tab.run("document.querySelector('form').checkVisibility()")
    tab.close()
