"""Proves that open data is read as the answers of a long teacher, in every form in which it comes.

Run: python -m pytest tests/distillation/test_open_data.py
"""

import json

import pytest
from datasets import Dataset

from thinkless.distillation.gate import keep_pairs
from thinkless.distillation.open_data import LEFT_OUT, Record, Recorded, read_record
from thinkless.distillation.pairs import Teacher, distill
from thinkless.distillation.teachers import ask_teachers
from thinkless.errors import StageError
from thinkless.modes import Mode
from thinkless.runs.profiles import load_profile

LONG = "<think>\n3+5=8;\n</think>\n\nIt is \\boxed{8}."
RECORD = Record("3+5=", "8", "\n3+5=8;\n</think>\n\nIt is \\boxed{8}.")


def turns(*texts, names=("from", "value"), roles=("user", "assistant")):
    return [{names[0]: roles[i % 2], names[1]: text} for i, text in enumerate(texts)]


OPEN_THOUGHTS = {"conversations": turns("3+5=", LONG), "question": "3+5=", "source": "math", "id": 1}
OPEN_R1 = {
    "problem": "3+5=",
    "solution": "Count. \\boxed{8}",
    "answer": "8",
    "uuid": "u",
    "is_reasoning_complete": [False, True, True],
    "generations": ["<think>\n3+5", LONG, "<think>\nno</think>\n\n7"],
    "correctness_math_verify": [False, True, False],
    "messages": turns("3+5=", LONG, names=("role", "content")),
}
MARKED = (
    "<|begin_of_thought|>\n\n3+5=8;\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nIt is \\boxed{8}.\n\n<|end_of_solution|>"
)


def without(row, *names, **changed):
    return {name: value for name, value in {**row, **changed}.items() if name not in names}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (OPEN_THOUGHTS, None),  # it comes without gold answers
        (without(OPEN_THOUGHTS, "question"), None),
        ({"conversations": turns("3+5=", LONG, roles=("human", "gpt"))}, None),
        (OPEN_R1, "8"),
        (without(OPEN_R1, "is_reasoning_complete", generations=[LONG]), "8"),
        (without(OPEN_R1, "generations"), "8"),
        (without(OPEN_R1, "answer"), "8"),  # from the solution
        (without(OPEN_R1, "answer", solution="8, obviously"), None),  # where no answer is marked
        (without(OPEN_R1, answer="notfound"), None),
        (without(OPEN_R1, answer=8), "8"),
        (without(OPEN_R1, answer=float("nan")), None),
        (
            {
                "problem": "3+5=",
                "deepseek_reasoning": "3+5=8;",
                "deepseek_solution": "It is \\boxed{8}.",
                "ground_truth_solution": "#### 8",
            },
            "8",
        ),
    ],
)
def test_every_form_gives_the_same_record(row, answer):
    assert read_record(row) == Record(RECORD.question, answer, RECORD.response)


def test_marks_of_openthoughts_114k_become_those_of_r1():
    system = {"from": "system", "value": "Think, then solve."}
    row = {"system": "...", "conversations": [system, *turns("3+5=", MARKED)]}
    assert read_record(row) == Record("3+5=", None, "\n\n3+5=8;\n</think>\n\nIt is \\boxed{8}.")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (without(OPEN_THOUGHTS, question=" \n"), "no_question"),
        ({"conversations": []}, "no_question"),
        ({"messages": turns("3+5=", LONG, "sure?", LONG)}, "several_turns"),
        ({"messages": turns("3+5=", "8")}, "no_thinking"),
        ({"messages": turns("3+5=", "<think>\n\n</think>\n\n8")}, "no_thinking"),
        ({"messages": turns("3+5=", None)}, "no_thinking"),
        ({"messages": turns("3+5=", "<think>\n3+5=8; 3+5=8;")}, "unfinished"),
        ({"messages": turns("3+5=", "<think>\n3+5=8;</think>\n")}, "unfinished"),
        (without(OPEN_R1, is_reasoning_complete=[False] * 3), "unfinished"),
    ],
)
def test_rows_left_out_say_why(row, reason):
    assert read_record(row) == reason
    assert reason in LEFT_OUT


AUTHORS = [
    {"instruction": "3+5=", "output": LONG},
    {"instruction": "3+5=", "output": "<short>8"},
]
"""As the paper's authors publish their pairs: the two answers of a question in rows of their own."""
OWN = {
    "question": "3+5=",
    "answer": "8",
    "think_response": RECORD.response,
    "short_response": "8",
    "think_finished": True,
    "short_finished": True,
}


def test_a_set_of_pairs_has_both_modes():
    think, short = (Record("3+5=", None, text) for text in (RECORD.response, "8"))
    assert [read_record(row, Mode.THINK) for row in AUTHORS] == [think, "other_mode"]
    assert [read_record(row, Mode.SHORT) for row in AUTHORS] == ["other_mode", short]
    assert read_record(OWN, Mode.THINK) == RECORD
    assert read_record(OWN, Mode.SHORT) == Record("3+5=", "8", "8")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "3+5=", "output": "<short>"}, "empty"),
        ({"instruction": "3+5=", "output": "<short>8</think>8"}, "thinks_in_short"),
        ({"instruction": "3+5=", "output": "<short>8<short>8"}, "wrong_marks"),
        ({"instruction": " ", "output": "<short>8"}, "no_question"),
        ({**OWN, "short_finished": False}, "unfinished"),
    ],
)
def test_a_short_answer_passes_the_same_gate(row, reason):
    assert read_record(row, Mode.SHORT) == reason
    assert reason in LEFT_OUT


def test_published_pairs_are_distilled_from_without_a_model(untrained, tmp_path):
    """Both teachers read one file; a question with one answer alone is counted and left out."""
    rows = [*AUTHORS, {"instruction": "9-1=", "output": "<think>\n9-1=8;</think>8"}]
    rows += [
        {"instruction": "9-1=", "output": "<short>7</think>"},
        {"instruction": "1+1=", "output": "<short>2"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"kind": "data", "path": str(path)}
    profile = load_profile("h100x4", {"distill.think": data, "distill.short": data})
    pairs, teachers = ask_teachers(profile, untrained / "model", questions=10, seed=0, folder=tmp_path)
    kept = keep_pairs(pairs)
    assert kept["question"] == ["3+5="]
    assert (kept["think_response"], kept["short_response"]) == ([RECORD.response], ["8"])
    think, short = (teacher.generator.counts for teacher in teachers)
    assert (think["rows"], think["used"], think["other_mode"]) == (5, 2, 3)
    assert (short["used"], short["other_mode"], short["thinks_in_short"], short["not_recorded"]) == (
        2,
        2,
        1,
        1,
    )

    path.write_text(json.dumps(AUTHORS[0]) + "\n")
    with pytest.raises(StageError, match="none of 1 questions has a recorded answer"):
        ask_teachers(profile, untrained / "model", questions=10, seed=0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "open.jsonl"
    rows = [
        {**OPEN_R1, "source": "olympiads"},
        {"messages": turns("9-1=", "<think>\n9-1=8;</think>8", names=("role", "content")), "source": "cn"},
        {"messages": turns("9-1=", "<think>\n9-1=7;</think>7", names=("role", "content")), "source": "cn"},
        {"messages": turns("1+1=", "2", names=("role", "content")), "source": "cn"},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_problems_and_counts(file, tokenizer):
    recorded = Recorded(str(file), tokenizer)
    assert list(recorded.problems()) == [
        {"question": "3+5=", "answer": "8", "level": None},
        {"question": "9-1=", "answer": None, "level": None},
    ]
    none = dict.fromkeys(LEFT_OUT, 0)
    assert recorded.counts == {"rows": 4, "used": 2, **none, "duplicate": 1, "no_thinking": 1}
    assert Recorded(str(file), tokenizer, where={"source": {"cn"}}).counts == {
        **none,
        "rows": 4,
        "used": 1,
        "filtered": 1,
        "duplicate": 1,
        "no_thinking": 1,
    }


def test_it_answers_as_a_generator(file, tokenizer):
    ((first,), (second,), (third,)) = Recorded(str(file), tokenizer).generate(
        ["9-1=", "3+5=", "9-1="], max_tokens=100, temperature=0.6, top_p=0.95, seed=1
    )
    assert first == third
    assert first.text == "\n9-1=8;</think>8"  # of two answers the first
    assert first.finish_reason == second.finish_reason == "stop"
    assert first.mode is Mode.THINK
    assert tokenizer.decode(first.token_ids) == "<unk>9-1=8;</think>8<eos>"  # it knows no line break
    assert len(Recorded(str(file), tokenizer).generate(["9-1="], max_tokens=9, n=3)[0]) == 3


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 10])
def test_an_answer_longer_than_the_limit_is_cut_there(file, tokenizer, max_tokens):
    # the line break is one token, 9-1=8; six, </think>, 8 and the end one each: ten in all
    whole = Recorded(str(file), tokenizer).generate(["9-1="], max_tokens=99)[0][0]
    cut = Recorded(str(file), tokenizer).generate(["9-1="], max_tokens=max_tokens)[0][0]
    assert cut.token_ids == whole.token_ids[:max_tokens]
    assert cut.finish_reason == ("stop" if max_tokens == 10 else "length")
    assert whole.text.startswith(cut.text)
    assert tuple(tokenizer(cut.text).input_ids) == cut.token_ids[: 9 if max_tokens == 10 else None]


def test_a_question_that_was_not_recorded_is_an_error(file, tokenizer):
    with pytest.raises(ValueError, match=r"no recorded answer to '9-1=\?': ask the questions as they are"):
        Recorded(str(file), tokenizer).generate(["9-1=?"], max_tokens=9)


def test_it_is_a_long_teacher(file, tokenizer, tmp_path):
    recorded = Recorded(str(file), tokenizer)
    pairs = distill(
        recorded.problems(),
        [Teacher(recorded, Mode.THINK, name="open data")],
        max_tokens=99,
        temperature=0.6,
        top_p=0.95,
        seed=0,
        folder=tmp_path,
    )
    assert pairs["think_response"][0] == RECORD.response
    assert list(pairs["think_correct"]) == [True, None]
    stored = [json.loads(line) for line in (tmp_path / "think.jsonl").read_text().splitlines()]
    assert [row["question"] for row in stored] == ["3+5=", "9-1="]


def test_the_commit_that_the_hub_gave_is_known(file, tokenizer, tmp_path, monkeypatch):
    """`datasets` writes down where each file came from, also where a branch was asked for."""
    rows = Dataset.from_list([{"conversations": turns("3+5=", LONG)}])
    rows.info.download_checksums = {f"hf://datasets/org/name@{'0a' * 20}/data.parquet": {}}
    monkeypatch.setattr("thinkless.distillation.open_data.load_dataset", lambda *_, **__: rows)
    assert Recorded("org/name", tokenizer, revision="main").commit == "0a" * 20
    assert Recorded(str(file), tokenizer).commit is None


def test_folders_and_parquet(file, tokenizer, tmp_path):
    text = file.read_text()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jsonl").write_text(text[: text.index("\n")])
    (folder / "b.jsonl").write_text(text)
    assert Recorded(str(folder), tokenizer).counts["duplicate"] == 2
    parquet = tmp_path / "parquet" / "train-00000 [v2].parquet"
    Dataset.from_list([OPEN_R1, without(OPEN_R1, problem="9-1=")]).to_parquet(parquet)
    for source in (parquet, parquet.parent):
        recorded = Recorded(str(source), tokenizer)
        assert recorded.counts["used"] == 2
        assert recorded.generate(["3+5="], max_tokens=99)[0][0].text == RECORD.response


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"open\.jsonl, line 4 cannot be read"),
        ("3", r"open\.jsonl, line 4 cannot be read: expected an object, got int"),
        ('{"text": "a"}', r"open\.jsonl, line 4: .* expected one of the columns .*, got text"),
        ('{"messages": ["a"]}', r"open\.jsonl, line 4: not a question with an answer"),
        (json.dumps({"problem": "\ud83d", "generations": [LONG]}), r"open\.jsonl, line 4: .*surrogates not"),
        (
            json.dumps({"problem": "x", "answer": "\ud83d", "generations": [LONG]}),
            r"line 4: .*surrogates not",
        ),
        (
            json.dumps({"problem": "x", "answer": True, "generations": [LONG]}),
            r"line 4: .*answer is True, exp",
        ),
        (
            json.dumps({"problem": "x", "answer": [5], "generations": [LONG]}),
            r"line 4: .*answer is \[5\], exp",
        ),
        ('{"problem": "x", "answer": Infinity, "generations": ["a</think>b"]}', r"line 4: .*answer is inf"),
        ('{"messages": 3}', r"open\.jsonl, line 4: not a question with an answer"),
    ],
)
def test_an_unreadable_row_is_named(file, tokenizer, line, message):
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(StageError, match=message) as caught:
        Recorded(str(file), tokenizer)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(file, tokenizer):
    with pytest.raises(StageError, match=r"open\.jsonl, line 1: has no column 'domain', but problem, "):
        Recorded(str(file), tokenizer, where={"domain": {"math"}})


@pytest.mark.parametrize("name", ["a[1]", "a*", "plain"])
def test_a_folder_of_parquet_is_read_whatever_its_name(name, tokenizer, tmp_path, monkeypatch):
    folder = tmp_path / name / "data"
    folder.mkdir(parents=True)
    Dataset.from_list([OPEN_R1]).to_parquet(folder / "train-00000-of-00001.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert Recorded(str(folder.parent), tokenizer).counts["used"] == 1
    monkeypatch.chdir(folder.parent)
    assert Recorded(".", tokenizer).counts["used"] == 1


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("./answers", "a" * 40, "no such file or folder"),
        ("open-thoughts/OpenThoughts2-1M", None, "give its commit as revision"),
        ("open-thoughts/OpenThoughts2-1M", "a" * 40, "cannot read open-thoughts/OpenThoughts2-1M: "),
        ("nowhere.jsonl", None, "cannot read nowhere.jsonl: .*No such file"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(tokenizer, source, revision, message):
    """The tests run offline: the hub is never asked."""
    with pytest.raises(StageError, match=message) as caught:
        Recorded(source, tokenizer, revision=revision)
    assert "\n" not in str(caught.value)
