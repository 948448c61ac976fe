"""Proves that no answer is lost or doubled, wherever a run is cut off, and that a resumed run draws the
same answers as a whole one.

Run: python -m pytest tests/distillation/test_store.py
"""

import json
import resource
from contextlib import contextmanager

import pytest
from conftest import learn
from hypothesis import given
from hypothesis import strategies as st

from thinkless.distillation import store as module
from thinkless.distillation.store import Answer, AnswerFile, after_control_token, collect
from thinkless.errors import StageError
from thinkless.modes import Mode

QUESTIONS = ["3+5=", "3+6=", "4+4=", "3+5=", "4+4=", "3+5=", "7-2="]
SAMPLING = {"max_tokens": 6, "temperature": 5.0, "top_p": 1.0, "seed": 3}


def answer(number: int, response: str = "8") -> Answer:
    return Answer(
        key=f"k{number}", question=f"{number}+5=", response=response, tokens=2, finish_reason="stop"
    )


class Recorder:
    """A generator that notes what it was asked."""

    def __init__(self, generator):
        self.generator, self.asked = generator, []

    def generate(self, prompts, **settings):
        self.asked.append(list(prompts))
        return self.generator.generate(prompts, **settings)


class OneByOne(Recorder):
    """The same, but an engine that hands out answers as they come, the last first, each drawn with a
    seed of its own that depends on the prompt and on how often it came before."""

    def complete(self, prompts, *, seed, **settings):
        for place in reversed(range(len(prompts))):
            own = sum(prompts[place].encode()) + 1000 * prompts[:place].count(prompts[place]) + seed
            yield place, self.generate([prompts[place]], seed=own, **settings)[0]


@pytest.fixture(scope="module")
def generator(tokenizer):
    return learn(tokenizer, [("3+5=", "8<eos>"), ("3+6=", "9<eos>"), ("4+4=", "8<eos>"), ("7-2=", "5<eos>")])


@pytest.fixture(params=[Recorder, OneByOne])
def engine(request, generator, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    return request.param(generator)


def ask(path, engine, questions=QUESTIONS, teacher="a teacher", **sampling):
    with AnswerFile(path) as answers:
        keys = collect(
            answers, questions, questions, engine, Mode.SHORT, teacher=teacher, **SAMPLING | sampling
        )
        return [answers[key] for key in keys]


@contextmanager
def disk_full_after(size: int):
    """No file can grow past `size` bytes: the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# The file


def test_what_was_appended_is_there_after_reopening(tmp_path):
    written = [answer(1, "zwei\nZeilen"), answer(2, "√2 × 思考"), answer(3, "")]
    with AnswerFile(tmp_path / "a.jsonl") as answers:
        assert answers.append(written[:2]) == 2
        assert answers.append(written[2:]) == 1
        assert [answers[a.key] for a in written] == written
    with AnswerFile(tmp_path / "a.jsonl") as answers:
        assert len(answers) == 3
        assert [answers[a.key] for a in written] == written
        assert "k4" not in answers
        with pytest.raises(KeyError):
            answers["k4"]
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[1])["response"] == "√2 × 思考"


def test_text_that_utf8_cannot_hold_is_stored_without_what_it_cannot(tmp_path):
    with AnswerFile(tmp_path / "a.jsonl") as answers:
        answers.append([answer(1, "half a pair: \ud83d."), answer(2)])
        assert answers["k1"].response == "half a pair: ?."
        assert answers["k2"] == answer(2)


@given(st.lists(st.text(), min_size=1, max_size=4), st.data())
def test_a_file_cut_anywhere_keeps_every_whole_line_and_is_completed_to_the_same_bytes(
    tmp_path_factory, texts, data
):
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    written = [answer(number, text) for number, text in enumerate(texts)]
    with AnswerFile(path) as answers:
        answers.append(written)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    with AnswerFile(path) as answers:
        assert len(answers) == whole[:cut].count(b"\n")
        assert answers.append(written) == len(texts) - whole[:cut].count(b"\n")
    assert path.read_bytes() == whole


def test_a_key_that_comes_twice_counts_once_and_the_first_counts(tmp_path):
    path = tmp_path / "a.jsonl"
    with AnswerFile(path) as answers:
        assert answers.append([answer(1), answer(1, "9")]) == 1
        assert answers.append([answer(1, "7"), answer(2)]) == 1
    line = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(path.read_bytes() + line.replace(b'"8"', b'"6"'))
    with AnswerFile(path) as answers:
        assert len(answers) == 2
        assert answers["k1"].response == "8"


@pytest.mark.parametrize("line", ["{", "[]", '{"key": "k1"}', "\x00\x00", "1"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    with AnswerFile(path) as answers:
        answers.append([answer(1), answer(2)])
    path.write_text(path.read_text().replace("\n", f"\n{line}\n", 1))
    with pytest.raises(StageError, match=r"a\.jsonl, line 2 cannot be read: .*: delete that line") as caught:
        AnswerFile(path)
    assert "\n" not in str(caught.value)


def test_on_a_full_disk_what_fits_is_kept_and_the_file_named(tmp_path):
    path = tmp_path / "a.jsonl"
    with AnswerFile(path) as answers:
        answers.append([answer(1)])
        before = path.read_bytes()
        with (
            disk_full_after(len(before) + 20),
            pytest.raises(OSError, match=r"File too large: '.*a\.jsonl'"),
        ):
            answers.append([answer(2)])
        assert path.read_bytes() == before
        assert answers.append([answer(2)]) == 1  # there is room again
    assert path.read_bytes().count(b"\n") == 2


# Asking


def test_every_question_is_answered_once_and_stored(tmp_path, engine):
    got = ask(tmp_path / "a.jsonl", engine)
    assert [a.question for a in got] == QUESTIONS
    assert len((tmp_path / "a.jsonl").read_bytes().splitlines()) == len(QUESTIONS)
    assert sorted(q for call in engine.asked for q in call) == sorted(QUESTIONS)


def test_copies_of_a_question_are_drawn_apart(tmp_path, engine):
    got = ask(tmp_path / "a.jsonl", engine)
    assert len({a.key for a in got}) == len(QUESTIONS)
    assert len({a.response for a in got if a.question == "3+5="}) > 1


def test_nothing_is_asked_twice(tmp_path, engine):
    first = ask(tmp_path / "a.jsonl", engine)
    engine.asked.clear()
    assert ask(tmp_path / "a.jsonl", engine) == first
    assert engine.asked == []


@pytest.mark.parametrize("lines", range(len(QUESTIONS)))
def test_a_run_cut_off_after_any_answer_ends_with_the_same_answers(tmp_path, engine, lines):
    path = tmp_path / "a.jsonl"
    whole = ask(path, engine)
    stored = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(stored[:lines]) + stored[lines][:-1])  # and a last line lacks its end
    engine.asked.clear()
    assert ask(path, engine) == whole
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(stored)
    assert sum(map(len, engine.asked)) < len(QUESTIONS) or lines < 3


def test_a_whole_list_is_asked_in_chunks_and_only_the_incomplete_ones_again(tmp_path, generator, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    engine, path = Recorder(generator), tmp_path / "a.jsonl"
    ask(path, engine)
    assert engine.asked == [QUESTIONS[:3], QUESTIONS[3:6], QUESTIONS[6:]]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    engine.asked.clear()
    ask(path, engine)
    assert engine.asked == [QUESTIONS[3:6], QUESTIONS[6:]]


def test_the_first_chunk_is_drawn_with_the_seed_itself(tmp_path, generator):
    """So a list that fits into one is answered as by one call of the engine."""
    direct = generator.generate(QUESTIONS, **SAMPLING)
    got = ask(tmp_path / "a.jsonl", generator)
    assert [a.response for a in got] == [
        after_control_token(completion.text, Mode.SHORT) for (completion,) in direct
    ]


@pytest.mark.parametrize(
    "change", [{"teacher": "another"}, {"seed": 4}, {"temperature": 4.0}, {"top_p": 0.9}, {"max_tokens": 5}]
)
def test_answers_of_another_teacher_or_sampling_are_not_taken(tmp_path, engine, change):
    ask(tmp_path / "a.jsonl", engine)
    engine.asked.clear()
    ask(tmp_path / "a.jsonl", engine, **change)
    assert sum(map(len, engine.asked)) == len(QUESTIONS)


def test_a_longer_list_reuses_what_does_not_depend_on_the_list(tmp_path, generator, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    more = [*QUESTIONS, "3+6="]
    for kind, again in ((Recorder, QUESTIONS[6:] + more[-1:]), (OneByOne, ["3+6="] * 2)):
        engine, path = kind(generator), tmp_path / f"{kind.__name__}.jsonl"
        ask(path, engine)
        engine.asked.clear()
        resumed = ask(path, engine, more)
        assert [q for call in engine.asked for q in call] == again
        assert resumed == ask(tmp_path / f"{kind.__name__}-whole.jsonl", engine, more)


def test_a_server_that_fails_leaves_what_arrived_and_says_so_in_one_line(tmp_path, generator):
    class Failing(OneByOne):
        def complete(self, prompts, **settings):
            for number, arrived in enumerate(super().complete(prompts, **settings)):
                if number == 4:
                    raise RuntimeError("http://here/v1 gave no answer to prompt 4")
                yield arrived

    path = tmp_path / "a.jsonl"
    with pytest.raises(StageError, match="http://here/v1 gave no answer to prompt 4"):
        ask(path, Failing(generator))
    assert path.read_bytes().count(b"\n") == 4
    assert ask(path, OneByOne(generator)) == ask(tmp_path / "whole.jsonl", OneByOne(generator))


@pytest.mark.parametrize(
    ("text", "mode", "kept"),
    [
        ("<think>a</think>b", Mode.THINK, "a</think>b"),
        ("\n <think>\na</think>b", Mode.THINK, "\na</think>b"),
        ("a</think>b", Mode.THINK, "a</think>b"),  # the template had opened the thinking
        (" a</think>b", Mode.THINK, " a</think>b"),
        ("<short>8", Mode.SHORT, "8"),
        ("<think>a</think>8", Mode.SHORT, "<think>a</think>8"),
        ("", Mode.SHORT, ""),
    ],
)
def test_what_stands_after_the_control_token(text, mode, kept):
    assert after_control_token(text, mode) == kept
