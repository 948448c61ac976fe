"""Proves that the card says what the data is, and that the data can still be loaded beside it.

Run: python -m pytest tests/distillation/test_card.py
"""

import math

import pytest
import yaml
from datasets import Dataset, load_from_disk
from huggingface_hub import DatasetCard

from thinkless.distillation.card import CARD, save_pairs
from thinkless.distillation.gate import keep_pairs, summary
from thinkless.distillation.pairs import Teacher
from thinkless.modes import Mode

SAMPLING = {"max_tokens": 16384, "temperature": 0.6, "top_p": 0.95, "seed": 7}
TEACHERS = [
    Teacher(None, Mode.THINK, name="R1: `671B`"),
    Teacher(None, Mode.SHORT, name="Qwen2.5-Math", max_tokens=8192),
]


def pair(number, think_tokens, *, think_finished=True, short_correct=True):
    return {
        "question": f"{number}+5=",
        "answer": "8",
        "think_response": "8</think>8",
        "think_correct": think_finished,
        "think_tokens": think_tokens,
        "think_finished": think_finished,
        "short_response": "8",
        "short_correct": short_correct,
        "short_tokens": 2,
        "short_finished": True,
        "think_fault": None if think_finished else "overlong",
        "short_fault": None,
    }


PAIRS = Dataset.from_list(
    [*(pair(n, 10 * n, short_correct=n == 1) for n in (1, 2, 3, 4)), pair(5, 16384, think_finished=False)]
)


@pytest.fixture(params=["drop", "clip"])
def overlong(request):
    return request.param


@pytest.fixture
def folder(tmp_path, overlong):
    kept = keep_pairs(PAIRS, overlong)
    counts = {**summary(PAIRS, kept), "sources": {"open-r1": {"rows": 9, "no_thinking": 3}}}
    save_pairs(
        kept, tmp_path / "pairs", counts=counts, teachers=TEACHERS, sampling=SAMPLING, overlong=overlong
    )
    return tmp_path / "pairs"


def test_the_pairs_load_as_before(folder, overlong):
    assert list(load_from_disk(folder)) == list(PAIRS.select(range(4 if overlong == "drop" else 5)))


def test_the_front_matter_by_hand(folder, overlong):
    data = yaml.safe_load((folder / CARD).read_text().split("---\n")[1])
    assert DatasetCard.load(folder / CARD).data.to_dict() == data  # the hub's library reads the same
    assert data["license"] == "other"
    assert data["size_categories"] == ["n<1K"]
    made = data["distillation"]
    think, short = made.pop("teachers")
    drop = overlong == "drop"
    assert made == {
        "seed": 7,
        "overlong": overlong,
        "questions": 5,
        "kept": 4 if drop else 5,
        "think_overlong": 1,
        "think_correct": 1.0 if drop else 0.8,
        "short_correct": 0.25 if drop else 0.4,
        "sources": {"open-r1": {"rows": 9, "no_thinking": 3}},
    }
    # lengths 10 20 30 40, or these and 16384; quantiles by linear interpolation
    quantiles = [11.5, 25.0, 38.5, 40.0] if drop else [12.0, 30.0, 40 + 0.8 * (16384 - 40), 16384.0]
    names = ["tokens_q5", "tokens_q50", "tokens_q95", "tokens_q100"]
    asked = {"temperature": 0.6, "top_p": 0.95}
    assert think == {
        "mode": "think",
        "teacher": "R1: `671B`",
        "max_tokens": 16384,
        **asked,
        "correct": 1.0 if drop else 0.8,
        **dict(zip(names, map(pytest.approx, quantiles), strict=True)),
    }
    assert short == {
        "mode": "short",
        "teacher": "Qwen2.5-Math",
        "max_tokens": 8192,
        **asked,
        "correct": 0.25 if drop else 0.4,
        **dict.fromkeys(names, 2.0),
    }


def test_the_text_says_what_became_of_long_answers(folder, overlong):
    text = " ".join((folder / CARD).read_text().split())
    assert "Rows of open-r1: 9 rows, 3 no thinking. Questions asked: 5. Rows:" in text
    assert "Set aside with their partners: 1 think (cut off at the limit)." in text
    assert ("stand as they were cut" in text) == (overlong == "clip")
    assert "| short | Qwen2.5-Math | 8192 |" in text


def test_no_pairs_at_all_have_a_card_too(tmp_path):
    none = PAIRS.select([])
    counts = summary(none, none)
    save_pairs(none, tmp_path, counts=counts, teachers=TEACHERS, sampling=SAMPLING)
    data = yaml.safe_load((tmp_path / CARD).read_text().split("---\n")[1])["distillation"]
    assert data["think_correct"] is None
    assert math.isnan(data["teachers"][0]["tokens_q50"])
    assert "| unknown |" in (tmp_path / CARD).read_text()
