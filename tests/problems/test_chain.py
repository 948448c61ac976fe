"""Proves the laptop world: its arithmetic, its splits, and that every dial does what it says, and only that.

Run: python -m pytest tests/problems/test_chain.py
"""

import random
import re
from collections import Counter

import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from thinkless.grading import final_answer, is_correct
from thinkless.models import build_model, build_tokenizer
from thinkless.problems.chain import (
    CUES,
    VERBOSITY,
    VOCABULARY,
    ChainWorld,
    Kind,
    draw_problems,
    draw_question,
    evenly,
    held_out_problems,
    is_held_out,
    solve,
    textbook,
    what_matters,
    write_answer,
)

LEVELS = range(1, 6)


@st.composite
def questions(draw):
    level = draw(st.integers(1, 6))
    return draw_question(Kind(level, level), random.Random(draw(st.integers(0, 10_000))), held_out=False)


def length_of(completion: str, mode: str, tokenizer) -> int:
    """Tokens as the model pays for them: control token, text, end of sequence."""
    return len(tokenizer.encode(f"<{mode}>{completion}{tokenizer.eos_token}", add_special_tokens=False))


# Arithmetic


def test_steps_by_hand():
    assert solve("3+5*2") == ["3+5=8", "8*2=6"]
    assert solve("3-7+0*9") == ["3-7=6", "6+0=6", "6*9=4"]  # -4 is 6, 54 is 4: last digits
    assert solve("7*8") == ["7*8=6"]


@given(questions())
def test_the_answer_is_python_arithmetic_modulo_10(question):
    """Left to right: a bracket around everything before each operator."""
    bracketed = "(" * (len(question) // 2) + re.sub(r"([-+*]\d)", r"\1)", question)
    assert solve(question)[-1][-1] == str(eval(bracketed) % 10)


# Dial: verbosity. Lengths are counted with the tokenizer that the models use.


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("verbosity", "short", "think"),
    [
        ("bare", lambda n: 3, lambda n: 6 * n + 4),
        ("restated", lambda n: 2 * n + 5, lambda n: 12 * n + 4),
        ("long", lambda n: 6 * n + 9, lambda n: 24 * n + 4),
        ("growing", lambda n: 2 * n + 5, lambda n: 3 * n * (n + 1) + 4),
    ],
)
def test_verbosity_sets_the_length(verbosity, short, think, level, tokenizer):
    world, rng = ChainWorld(verbosity=verbosity), random.Random(level)
    question = draw_question(Kind(level, level), rng, held_out=False)
    written = {mode: length_of(write_answer(question, mode, world, rng), mode, tokenizer) for mode in CUES}
    assert written == {"short": short(level), "think": think(level)}
    assert (world.short_length(level), world.think_length(level)) == (short(level), think(level))


def test_verbosity_by_hand():
    rng = random.Random(0)
    answers = {v: [write_answer("3+5*2", s, ChainWorld(verbosity=v), rng) for s in CUES] for v in VERBOSITY}
    assert answers == {
        "bare": ["6", "3+5=8;8*2=6;</think>6"],
        "restated": ["3+5*2=6", "3+5=8;3+5=8;8*2=6;8*2=6;</think>6"],
        "long": ["3+5*2=3+5*2=3+5*2=6", "3+5=8;" * 4 + "8*2=6;" * 4 + "</think>6"],
        "growing": ["3+5*2=6", "3+5=8;8*2=6;8*2=6;</think>6"],
    }


@pytest.mark.parametrize("verbosity", VERBOSITY)
def test_verbosity_leaves_the_questions_alone(verbosity):
    assert list(draw_problems(ChainWorld(verbosity=verbosity), 50, seed=1)) == list(
        draw_problems(ChainWorld(), 50, seed=1)
    )


@given(questions(), st.sampled_from(sorted(CUES)), st.sampled_from(sorted(VERBOSITY)))
def test_without_noise_every_answer_is_graded_right(question, style, verbosity):
    answer = write_answer(question, style, ChainWorld(levels=6, verbosity=verbosity), random.Random(0))
    assert is_correct(f"<{style}>{answer}", solve(question)[-1][-1])


# Dial: noise


def test_noise_is_the_share_of_wrong_answers_per_level_and_style():
    world = ChainWorld(levels=3, noise_short=(0.0, 0.3, 1.0), noise_think=(0.5, 0.0, 0.0))
    rng, count = random.Random(0), 1000
    for level in (1, 2, 3):
        for style in CUES:
            wrong = 0
            for _ in range(count):
                question = draw_question(Kind(level, level), rng, held_out=False)
                answer = final_answer(write_answer(question, style, world, rng))
                wrong += answer != solve(question)[-1][-1]
            share = getattr(world, f"noise_{style}")[level - 1]
            # 4.5 standard deviations of a binomial share: at most 0.071 here, and 0 at the ends
            assert abs(wrong / count - share) <= 4.5 * (share * (1 - share) / count) ** 0.5


def test_noise_changes_the_final_digit_only():
    rng = random.Random(0)
    noisy = ChainWorld(levels=2, noise_short=(1.0, 1.0), noise_think=(1.0, 1.0))
    for style in CUES:
        clean, wrong = (write_answer("3+5*2", style, world, rng) for world in (ChainWorld(), noisy))
        assert wrong[:-1] == clean[:-1]
        assert wrong[-1] in set("0123456789") - {"6"}


def test_noise_never_reaches_the_gold_answers():
    noisy = ChainWorld(noise_short=(1.0,) * 5, noise_think=(1.0,) * 5)
    assert list(draw_problems(noisy, 50, seed=1)) == list(draw_problems(ChainWorld(), 50, seed=1))


# Dial: redundancy


def test_redundancy_repeats_the_whole_check_a_uniform_number_of_times(tokenizer):
    world, rng = ChainWorld(levels=2, verbosity="bare", redundancy=2), random.Random(0)
    once = "3+5=8;8*2=6;"
    written = Counter(write_answer("3+5*2", "think", world, rng) for _ in range(900))
    assert set(written) == {once * n + "</think>6" for n in (1, 2, 3)}
    assert all(abs(count - 300) < 64 for count in written.values())  # 4.5 standard deviations of 14.1
    longest = max(written, key=len)
    assert length_of(longest, "think", tokenizer) == world.think_length(2) == 6 * 2 * 3 + 4


def test_redundancy_leaves_short_answers_alone():
    assert write_answer("3+5", "short", ChainWorld(redundancy=5), random.Random(0)) == "3+5=3+5=3+5=8"


# Dials: size and level mix


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_size_is_the_number_of_levels(levels):
    world = ChainWorld(levels=levels)
    for rows in (
        draw_problems(world, 400, seed=0),
        held_out_problems(world, 3 * levels, seed=0),
        textbook(world, 400, seed=0),
    ):
        assert set(rows["level"]) == set(range(1, levels + 1))


def test_level_is_the_number_of_operators():
    for row in draw_problems(ChainWorld(), 100, seed=0):
        assert len(re.findall(r"[-+*]", row["question"])) == row["level"]


def test_mix_is_the_share_of_each_kind():
    shares, count = (0.5, 0.2, 0.0, 0.3), 2000
    mix = {Kind(level, level): share for level, share in enumerate(shares, start=1)}
    drawn = Counter(draw_problems(ChainWorld(levels=4), count, mix=mix, seed=0)["level"])
    for level, share in enumerate(shares, start=1):
        assert abs(drawn[level] / count - share) <= 4.5 * (share * (1 - share) / count) ** 0.5


def test_levels_are_even_by_default_and_shares_need_not_sum_to_one():
    world = ChainWorld(levels=3)
    sevens = dict.fromkeys(world.all_kinds(), 7)
    assert list(draw_problems(world, 60, seed=2)) == list(draw_problems(world, 60, mix=sevens, seed=2))


@pytest.mark.parametrize(
    ("dial", "message"),
    [
        ({"levels": 0}, "levels=0: expected at least 1"),
        ({"verbosity": "short"}, "verbosity='short': expected one of bare, restated, long, growing"),
        ({"redundancy": -1}, "redundancy=-1: expected 0 or more"),
        ({"noise_short": (0.1,)}, "noise_short has 1 entries: expected one for each of 5 levels"),
        ({"noise_think": (0, 0, 0, 0, 1.5)}, "noise_think=.* every entry must lie between 0 and 1"),
    ],
)
def test_an_impossible_dial_is_named(dial, message):
    with pytest.raises(ValueError, match=message):
        ChainWorld(**dial)


# Splits


def test_held_out_questions_are_never_trained_on():
    world = ChainWorld()
    tested = {row["question"] for row in held_out_problems(world, 1000, seed=0) if row["level"] >= 2}
    assert len(tested) == 4 * 200
    trained = set(draw_problems(world, 4000, seed=0)["question"])
    read = {prompt.rstrip("".join(CUES.values())) for prompt in textbook(world, 4000, seed=0)["prompt"]}
    assert not tested & (trained | read)
    assert all(prompt.endswith("=") for prompt in tested | trained | read)


def test_a_textbook_has_the_levels_it_is_asked_for():
    read = Counter(textbook(ChainWorld(levels=3), 4000, levels=[0.6, 0.0, 0.2], seed=0)["level"])
    assert read[1] / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(read) == {1, 3}


def test_about_one_question_in_ten_is_held_out():
    """Among all 9,000 questions of level 2; 26 of the 256 values of a byte are held out."""
    digits = "0123456789"
    every = [f"{a}{o}{b}{p}{c}" for a in digits for o in "+-*" for b in digits for p in "+-*" for c in digits]
    share = sum(map(is_held_out, every)) / len(every)
    assert share == pytest.approx(26 / 256, abs=0.015)


def test_level_1_is_trained_on_whole():
    assert not any(is_held_out(f"{a}{o}{b}") for a in range(10) for o in "+-*" for b in range(10))
    assert len(set(held_out_problems(ChainWorld(levels=1), 300, seed=0)["question"])) == 300


def test_held_out_problems_are_distinct_and_bounded():
    rows = held_out_problems(ChainWorld(levels=3), 150, seed=4)
    assert len(set(rows["question"])) == 150
    assert Counter(rows["level"]) == {1: 50, 2: 50, 3: 50}
    with pytest.raises(ValueError, match="301 of one operator, and there are only 300"):
        held_out_problems(ChainWorld(), 5 * 301, seed=0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: draw_problems(ChainWorld(), 30, seed=seed),
        lambda seed: held_out_problems(ChainWorld(), 30, seed=seed),
        lambda seed: textbook(ChainWorld(redundancy=1), 30, seed=seed),
    ],
    ids=["problems", "held-out", "textbook"],
)
def test_the_seed_decides_everything(draw):
    assert list(draw(1)) == list(draw(1))
    assert list(draw(1)) != list(draw(2))


def test_columns():
    world = ChainWorld(levels=2)
    assert draw_problems(world, 2, seed=0).column_names == ["question", "answer", "level"]
    assert held_out_problems(world, 2, seed=0).column_names == ["question", "answer", "level"]
    for row in textbook(world, 50, seed=0):
        assert row["prompt"].endswith("=" + CUES[row["style"]])
        question = row["prompt"][:-2]
        assert row["completion"] == write_answer(question, row["style"], world, random.Random(0))


# Distractors

DECEPTIVE = ChainWorld(levels=6, verbosity="growing", distractors=True)


@st.composite
def deceptive(draw):
    kind = draw(st.sampled_from(DECEPTIVE.all_kinds()))
    rng = random.Random(draw(st.integers(0, 10_000)))
    return kind, draw_question(kind, rng, held_out=False, distractors=True)


def test_what_matters_by_hand():
    assert what_matters("3+5*2-7*0+4-1") == "4-1"
    assert what_matters("3*0+5*0+4") == "4"
    assert what_matters("3+5*2") == "3+5*2"


@given(deceptive())
def test_what_stands_before_does_not_matter(drawn):
    """Whatever the question opens with, the answer is that of the part that matters, and no part of that."""
    (level, operators), question = drawn
    matters = what_matters(question)
    assert (len(matters) // 2, len(question) // 2) == (level, operators)
    assert solve(question)[-1][-1] == solve(matters)[-1][-1]
    for opening in "0", "9+9*9":
        assert solve(f"{opening}*0+{matters}")[-1][-1] == solve(question)[-1][-1]
    if level > 1:  # or still less would matter
        assert "*0" not in matters
        assert not matters.startswith("0*")


def test_kinds_by_hand():
    world = ChainWorld(levels=4, distractors=True)
    assert list(map(str, world.all_kinds())) == [
        "1 of 1", "1 of 3", "1 of 4", "2 of 2", "2 of 4", "3 of 3", "4 of 4"
    ]  # fmt: skip
    assert list(map(str, ChainWorld(levels=2).all_kinds())) == ["1 of 1", "2 of 2"]
    assert evenly(world)[Kind(1, 3)] == pytest.approx(1 / 12)
    assert sum(evenly(world).values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", DECEPTIVE.all_kinds(), ids=str)
def test_a_short_answer_is_as_long_as_its_level_and_a_worked_one_as_its_question(kind, tokenizer):
    rng = random.Random(0)
    question = draw_question(kind, rng, held_out=False, distractors=True)
    answers = {mode: write_answer(question, mode, DECEPTIVE, rng) for mode in CUES}
    written = {mode: length_of(answer, mode, tokenizer) for mode, answer in answers.items()}
    assert written["short"] == (3 if kind.level == 1 else 2 * kind.level + 5)
    assert written["think"] == 3 * kind.operators * (kind.operators + 1) + 4
    expected = DECEPTIVE.short_length(kind.level), DECEPTIVE.think_length(kind.operators)
    assert (written["short"], written["think"]) == expected
    assert all(is_correct(f"<{mode}>{answer}", solve(question)[-1][-1]) for mode, answer in answers.items())


def test_columns_tell_the_kind_only_where_there_is_more_than_one_of_a_level():
    rows = draw_problems(DECEPTIVE, 200, seed=0)
    assert rows.column_names == ["question", "answer", "level", "kind"]
    assert set(rows["kind"]) == set(map(str, DECEPTIVE.all_kinds()))
    for row in rows:
        assert row["kind"] == f"{row['level']} of {len(row['question'][1:-1]) // 2}"
        assert row["question"] == DECEPTIVE.asked(row["question"][1:-1]) == f":{row['question'][1:-1]}="


FIRST = ["4*4+6+9=", "2+5+1=", "9+0*4="]


def test_distractors_change_no_draw_of_the_world_without_them():
    """Recorded runs were made before there were any."""
    world = ChainWorld(levels=3)
    assert list(draw_problems(world, 3, seed=0)["question"]) == FIRST
    assert "*0+" in "".join(textbook(DECEPTIVE, 50, seed=0)["prompt"])


# Tokenizer


def test_one_token_per_vocabulary_entry():
    tokenizer = build_tokenizer(VOCABULARY)
    assert tokenizer.encode("".join(VOCABULARY), add_special_tokens=False) == list(
        range(3, 3 + len(VOCABULARY))
    )


@given(questions(), st.sampled_from(sorted(CUES)), st.sampled_from(sorted(VERBOSITY)))
def test_text_survives_the_tokenizer(tokenizer, question, style, verbosity):
    answer = write_answer(question, style, ChainWorld(levels=6, verbosity=verbosity), random.Random(0))
    for text in (f"{question}={CUES[style]}", f"<{style}>{answer}", f"{question}=<{style}>{answer}"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_tokenizer_survives_disk_beside_a_model(tokenizer, tmp_path):
    """A Qwen2 config would make `AutoTokenizer` rebuild it as another kind of tokenizer."""
    build_model(tokenizer, **TINY).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "3+5*2=<short>3+5*2=6"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert again.encode(text, add_special_tokens=False) == ids
    assert again.decode(ids) == text
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (again.pad_token, again.eos_token, again.padding_side) == ("<pad>", "<eos>", "left")
