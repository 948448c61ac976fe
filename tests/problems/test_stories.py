"""Proves the word problems: how they are read, their splits, and that surface tells no level.

Run: python -m pytest tests/problems/test_stories.py
"""

import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkless.grading import is_correct
from thinkless.problems.chain import is_held_out
from thinkless.problems.stories import (
    FORMS,
    LARGEST,
    NAMES,
    PARTS,
    THINGS,
    TIMES,
    StoryWorld,
    answer_to,
    draw_problems,
    draw_question,
    held_out_problems,
    solve,
    write_answer,
)

BY_HAND = (
    "How many beads does Leo have in the end? "
    "Mia owns 9 shells. Leo has 11 beads. Leo buys 8 more beads. Mia loses 2 shells. Leo loses 4 beads. "
    "Leo keeps only a third of the beads. By magic Leo gets twice as many beads."
)


@st.composite
def questions(draw):
    world = StoryWorld(draw(st.integers(1, 6)), draw(st.booleans()))
    level, seed = draw(st.integers(1, world.levels)), draw(st.integers(0, 10_000))
    return level, draw_question(world, level, random.Random(seed), held_out=draw(st.booleans()))


def test_steps_by_hand():
    assert solve(BY_HAND) == ["11 + 8 = 19", "19 - 4 = 15", "15 / 3 = 5", "5 * 2 = 10"]
    assert solve(BY_HAND.replace("beads does Leo", "shells does Mia")) == ["9 - 2 = 7"]


def test_answers_by_hand():
    question = "How many caps does Al have in the end? Al has 5 caps. Al sells 3 caps."
    assert write_answer(question, "think") == "5 - 3 = 2.</think>The answer is 2."
    assert write_answer(BY_HAND, "short") == "The answer is 10."


@given(questions())
def test_every_step_is_python_arithmetic_and_goes_on_from_the_last(drawn):
    level, question = drawn
    steps = solve(question)
    assert len(steps) == level
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        left, _, result = step.partition(" = ")
        assert eval(left) == int(result)
        assert 1 <= int(result) <= LARGEST
        assert following is None or following.startswith(f"{result} ")
    assert answer_to(question) == steps[-1].rpartition(" ")[2]


@given(questions(), st.sampled_from(["short", "think"]))
def test_every_answer_is_graded_right(drawn, style):
    _, question = drawn
    text = f"<{style}>{write_answer(question, style)}"
    assert is_correct(text.removeprefix("<short>"), answer_to(question))


def test_every_form_name_and_thing_is_used():
    told = " ".join(draw_problems(StoryWorld(), 4000, seed=0)["question"])
    for form in (form for forms in FORMS.values() for form in forms):
        fixed = re.split(r"\{\w+\}", form)
        assert all(part in told for part in fixed), form
    words = set(re.findall(r"\w+", told))
    assert words >= {*NAMES, *THINGS}
    assert all(phrase in told for phrase in [*TIMES.values(), *PARTS.values()])


def test_a_sentence_of_another_world_is_named():
    with pytest.raises(ValueError, match="cannot read 'Leo ponders'"):
        solve("How many caps does Leo have in the end? Leo has 5 caps. Leo ponders.")


# Splits and mix


def test_held_out_questions_are_never_trained_on_and_distinct():
    rows = held_out_problems(StoryWorld(), 30, seed=4)
    assert Counter(rows["level"]) == dict.fromkeys(range(1, 5), 30)
    assert len(set(rows["question"])) == 120
    assert all(map(is_held_out, rows["question"]))
    assert not any(map(is_held_out, draw_problems(StoryWorld(), 300, seed=4)["question"]))


def test_mix_is_the_share_of_each_level():
    shares, count = (0.5, 0.0, 0.2, 0.3), 2000
    drawn = Counter(draw_problems(StoryWorld(), count, mix=shares, seed=0)["level"])
    for level, share in enumerate(shares, start=1):
        assert abs(drawn[level] / count - share) <= 4.5 * (share * (1 - share) / count) ** 0.5


def test_the_seed_decides_everything():
    for draw in (draw_problems, held_out_problems):
        assert list(draw(StoryWorld(), 20, seed=1)) == list(draw(StoryWorld(), 20, seed=1))
        assert list(draw(StoryWorld(), 20, seed=1)) != list(draw(StoryWorld(), 20, seed=2))


def test_an_impossible_dial_is_named():
    with pytest.raises(ValueError, match="levels=0: expected at least 1"):
        StoryWorld(levels=0)


# Surface


def correlation(values, levels):
    return abs(np.corrcoef(values, levels)[0, 1])


@pytest.mark.parametrize(("distractors", "tells"), [(False, True), (True, False)])
def test_length_and_words_tell_the_level_only_without_distractors(distractors, tells):
    """0.09 is four standard deviations of a correlation of nothing over 2,000 questions."""
    rows = draw_problems(StoryWorld(distractors=distractors), 2000, seed=0)
    texts, levels = rows["question"], rows["level"]
    for surface in (len, lambda text: text.count("."), lambda text: len(re.findall(r"\d+", text))):
        values = [surface(text) for text in texts]
        assert (np.std(values) > 0 and correlation(values, levels) > 0.6) == tells
        assert tells or np.std(values) == 0 or correlation(values, levels) < 0.09
    vocabulary = sorted({word for text in texts for word in re.findall(r"[a-z]+", text)})
    found = [correlation([w in t.split() for t in texts], levels) for w in vocabulary if has_both(w, texts)]
    assert (max(found) > 0.2) == tells


def has_both(word, texts):
    return 0 < sum(word in text.split() for text in texts) < len(texts)
