r"""Proves that every benchmark is read into one schema, and that what cannot be read is named.

Run: python -m pytest tests/problems/test_benchmarks.py

Nothing here reaches for the hub: its rows are written out as it serves them, and read by the code that
would read them there. Some tests read the real benchmark files, see `benchmarks.py`.
"""

import codecs
import csv
import json
import logging
import re
from collections import Counter
from dataclasses import replace

import pytest
from benchmarks import FOLDER, benchmark_file
from datasets import Dataset

from thinkless.grading import is_correct
from thinkless.problems import benchmarks as math
from thinkless.problems import in_words
from thinkless.problems.benchmarks import (
    INSTRUCTION,
    PROBLEM_SETS,
    Counts,
    load_problems,
    overlap,
    read_problems,
)

ROWS = {
    "deepscaler": {"problem": "What is $1+1$?", "answer": "2", "solution": "2."},
    "aime_2024": {"id": 60, "problem": "What is $1+1$?", "solution": "…", "answer": "002", "year": "2024"},
    "math_500": {"problem": "What is $1+1$?", "answer": "2", "subject": "Algebra", "level": 3},
    "minerva_algebra": {
        "problem": "What is $1+1$?",
        "level": "Level 3",
        "type": "Algebra",
        "solution": r"First $\boxed{3}$, but no: $\boxed{\frac{4}{2}}$.",
    },
    "gsm8k": {"question": "What is $1+1$?", "answer": "1 + 1 = <<1+1=2>>2\nSo it is 2\n#### 2"},
    "gsm8k_train": {"question": "What is $1+1$?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
}
"""A row of each set with the columns that the hub has."""

READ = {
    "deepscaler": ("2", 0),
    "aime_2024": ("002", 0),
    "math_500": ("2", 3),
    "minerva_algebra": (r"\frac{4}{2}", 3),
    "gsm8k": ("2", 2),
    "gsm8k_train": ("2", 1),
}
"""Its gold answer and its level, by hand."""


def write(path, rows):
    """`rows` in the format that the file's name asks for."""
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", PROBLEM_SETS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".csv"])
def test_every_set_from_every_format(name, suffix, tmp_path):
    problems = load_problems(name, path=write(tmp_path / f"rows{suffix}", [ROWS[name]]))
    answer, level = READ[name]
    assert list(problems) == [
        {"question": "What is $1+1$?", "answer": answer, "level": level, "source": name}
    ]


@pytest.mark.parametrize("name", PROBLEM_SETS)
def test_the_way_through_the_hub_library(name, tmp_path, monkeypatch):
    """`load_dataset` itself, on a folder in the place of the repository."""
    problems = replace(PROBLEM_SETS[name], hub=str(tmp_path), config=None, rows=1)
    monkeypatch.setitem(PROBLEM_SETS, name, problems)
    write(tmp_path / f"{problems.split}.jsonl", [ROWS[name]])
    (row,) = load_problems(name)
    assert (row["answer"], row["level"]) == READ[name]


def test_rows_missing_on_the_hub_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(PROBLEM_SETS, "math_500", replace(PROBLEM_SETS["math_500"], hub=str(tmp_path)))
    write(tmp_path / "test.jsonl", [ROWS["math_500"]])
    load_problems("math_500")
    assert "math_500: 1 rows on the hub, expected 500" in caplog.text


@pytest.mark.parametrize("name", PROBLEM_SETS)
def test_offline_without_a_file_is_one_clear_line(name):
    """`conftest.py` sets HF_HUB_OFFLINE=1."""
    with pytest.raises(ConnectionError) as error:
        load_problems(name)
    message = str(error.value)
    assert "\n" not in message
    assert f"cannot load {name} from {PROBLEM_SETS[name].hub}" in message
    assert "name a local file or folder as path" in message


def test_revisions_are_commits():
    assert all(re.fullmatch(r"[0-9a-f]{40}", problems.revision) for problems in PROBLEM_SETS.values())


# Instructions, levels, filters


def test_the_instruction_follows_the_question(tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS["math_500"]])
    bare, instructed = (load_problems("math_500", path=path, instruction=i) for i in (False, True))
    assert in_words(bare) == ["What is $1+1$?"]
    assert in_words(instructed) == [f"What is $1+1$?\n{INSTRUCTION}"]
    assert instructed[0] == bare[0] | {"instruction": INSTRUCTION}
    assert r"\boxed{}" in INSTRUCTION


@pytest.mark.parametrize(("given", "level"), [("Level 5", 5), (4, 4), (2.0, 2), ("1", 1), ("Level ?", 0)])
def test_levels_of_math(given, level, tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS["math_500"] | {"level": given}])
    assert load_problems("math_500", path=path)["level"] == [level]


@pytest.mark.parametrize(("steps", "level"), [(0, 1), (1, 1), (5, 5), (8, 8), (11, 8)])
def test_levels_of_gsm8k_are_steps(steps, level, tmp_path):
    answer = "\n".join(["A step."] * steps + ["#### 1,000"])
    path = write(tmp_path / "rows.jsonl", [{"question": "?", "answer": answer}])
    (row,) = load_problems("gsm8k", path=path)
    assert (row["level"], row["answer"]) == (level, "1,000")


def test_filters_are_counted(tmp_path, caplog):
    rows = [
        {"problem": "a", "answer": "1"},
        {"problem": "b", "answer": "  "},
        {"problem": "a ", "answer": "2"},
        {"problem": "c", "answer": None},
        {"problem": "", "answer": "3"},
        {"problem": "d", "answer": 4},
        {"problem": "e", "answer": "5"},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    with caplog.at_level(logging.INFO):
        problems, counts = read_problems("deepscaler", path=path, limit=2)
    assert counts == Counts(read=7, empty=3, duplicates=1, kept=3)
    assert str(counts) in caplog.text
    assert [(row["question"], row["answer"]) for row in problems] == [("a", "1"), ("d", "4")]


def test_a_folder_gives_the_files_of_the_set_or_of_its_split(tmp_path):
    for number, stem in enumerate(("test-00000-of-00001", "train-00000-of-00001"), start=1):
        write(tmp_path / f"{stem}.parquet", [ROWS["gsm8k"] | {"answer": f"#### {number}"}])
    assert load_problems("gsm8k", path=tmp_path)["answer"] == ["1"]
    assert load_problems("gsm8k_train", path=tmp_path)["answer"] == ["2"]
    write(tmp_path / "gsm8k_test.jsonl", [ROWS["gsm8k"] | {"answer": "#### 3"}])
    (tmp_path / "README.md").write_text("no data")
    assert load_problems("gsm8k", path=tmp_path)["answer"] == ["3"]


def test_a_folder_of_parts_is_read_in_order(tmp_path):
    for part in (2, 1):
        write(tmp_path / f"part{part}.jsonl", [{"problem": f"{part}?", "answer": str(part)}])
    assert load_problems("deepscaler", path=tmp_path)["answer"] == ["1", "2"]


def test_a_folder_never_gives_the_file_of_another_split_or_set(tmp_path):
    for number, stem in enumerate(("gsm8k", "gsm8k_train", "gsm8k2"), start=1):
        write(tmp_path / f"{stem}.jsonl", [ROWS["gsm8k"] | {"answer": f"#### {number}"}])
    assert load_problems("gsm8k", path=tmp_path)["answer"] == ["1"]
    assert load_problems("gsm8k_train", path=tmp_path)["answer"] == ["2"]
    (tmp_path / "gsm8k.jsonl").rename(tmp_path / "train.jsonl")
    (tmp_path / "gsm8k2.jsonl").unlink()
    with pytest.raises(ValueError, match="name no other split than test"):
        load_problems("gsm8k", path=tmp_path)
    assert load_problems("gsm8k", path=tmp_path / "train.jsonl")["answer"] == ["1"]


@pytest.mark.parametrize("file", ["a.jsonl", "a.json", "list.json", "a.csv", "A.CSV"])
def test_a_byte_order_mark_is_no_part_of_the_data(file, tmp_path):
    """Windows editors and Excel's "CSV UTF-8" write one."""
    text = '{"problem": "é", "answer": "5"}'
    text = (
        f"[{text}]"
        if file == "list.json"
        else "problem,answer\né,5\n"
        if file.lower().endswith("csv")
        else text
    )
    (tmp_path / file).write_bytes(codecs.BOM_UTF8 + text.encode())
    (row,) = load_problems("deepscaler", path=tmp_path / file)
    assert (row["question"], row["answer"]) == ("é", "5")


def test_a_byte_order_mark_before_an_empty_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(codecs.BOM_UTF8 + b'\n{"problem": "a", "answer": "5"}\n')
    assert len(load_problems("deepscaler", path=tmp_path)) == 1


def test_a_field_may_be_long_and_a_value_that_is_none_is_counted(tmp_path):
    path = write(tmp_path / "a.csv", [{"problem": "x" * 200_000, "answer": "5"}])
    assert len(load_problems("deepscaler", path=path)["question"][0]) == 200_000
    rows = [{"problem": "a", "answer": float("nan")}, {"problem": float("nan"), "answer": "1"}]
    rows.append({"problem": "c", "answer": "NaN "})
    path = write(tmp_path / "a.jsonl", [*rows, {"problem": "b", "answer": 2.5}])
    problems, counts = read_problems("deepscaler", path=path)
    assert (counts, problems["answer"]) == (Counts(read=4, empty=3, duplicates=0, kept=1), ["2.5"])


# What cannot be read


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("deepscaler", "a.jsonl", '{"problem": "a", "answer": "1"}\n{"prob', "line 2 cannot be read"),
        ("math_500", "a.json", '[{"problem": "a",\n "answer": }]', "line 2 cannot be read"),
        ("deepscaler", "a.jsonl", '\n{"problem": "a"}', "line 2: no column answer; found problem"),
        ("deepscaler", "a.jsonl", "[1]", "row 1: no column problem, answer; found int"),
        ("deepscaler", "a.json", '[{"problem": "a", "answer": [1]}]', "row 1: answer is [1], expected text"),
        ("deepscaler", "a.jsonl", '{"problem": 7, "answer": "1"}', "line 1: problem is 7, expected text"),
        ("gsm8k", "a.jsonl", '{"question": "a", "answer": "1"}', "line 1: answer has no ####"),
        ("gsm8k", "a.jsonl", '{"question": "a", "answer": ["#### 1"]}', "line 1: answer has no ####"),
        (
            "deepscaler",
            "a.jsonl",
            r'{"problem": "a \ud83d", "answer": "1"}',
            r"line 1: '\ud83d' is no character",
        ),
        (
            "deepscaler",
            "a.jsonl",
            r'{"problem": "a", "answer": "\ud83d"}',
            r"line 1: '\ud83d' is no character",
        ),
        ("deepscaler", "a.jsonl", '{"problem": "a", "answer": -Infinity}', "line 1: answer is -inf"),
        ("deepscaler", "a.jsonl", '{"problem": ' + "[" * 100_000, "line 1 cannot be read: maximum recursion"),
        ("deepscaler", "a.csv", 'problem,answer\na,1\n"b"c,2\n', "line 3 cannot be read: ',' expected"),
        ("deepscaler", "a.csv", 'problem,answer\na,1\n"b,2\nc,3\n', "line 3 cannot be read: unexpected end"),
        (
            "minerva_algebra",
            "a.jsonl",
            r'{"problem": "a", "solution": "$\\boxed{1", "level": "Level 1"}',
            r"line 1: solution has no complete \boxed{}",
        ),
        ("deepscaler", "a.csv", 'problem,answer\na,1\n"b\nc",2\nd,3,4\n', "line 5: more fields than columns"),
        ("deepscaler", "a.csv", "problem\na\n", "line 2: no column answer; found problem"),
        ("deepscaler", "a.parquet", "no parquet", "Parquet magic bytes not found"),
        ("deepscaler", "a.jsonl", "", "no problem with an answer in"),
        ("deepscaler", "a.txt", "", "expected .jsonl, .json, .parquet, .csv"),
    ],
)
def test_an_unreadable_row_is_named_with_its_file_and_line(name, file, content, message, tmp_path):
    path = tmp_path / file
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is what is tested
        load_problems(name, path=path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("a.jsonl", b'{"problem": "\xff"}', "line 1 cannot be read: 'utf-8' codec can't"),
        ("a.json", b'[{"problem": "a",\n"answer": "\xff"}]', "line 2 cannot be read: 'utf-8' codec can't"),
        ("a.csv", b"problem,answer\na,1\nb\xff,2\n", r"line 3: '\udcff' is no character"),
    ],
)
def test_bytes_that_are_no_text(file, content, place, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{file}, {place}")):
        load_problems("deepscaler", path=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "math"}, "unknown problem set 'math': expected one of deepscaler, aime_2024, math_500"),
        ({"name": "math_500", "path": "no/such.jsonl"}, "no file or folder no/such.jsonl: expected"),
        ({"name": "math_500", "limit": 0}, "limit=0: expected at least 1, or None for all"),
    ],
)
def test_a_mistake_of_the_caller_is_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        load_problems(**arguments)
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.jsonl, \.json, \.parquet, \.csv, or a folder"):
        load_problems("math_500", path=tmp_path)


# Contamination


def test_overlap_sees_through_spacing_and_case_only():
    def problems(*questions):
        return Dataset.from_list([{"question": question} for question in questions])

    train = problems(r"What is $\left( 3+5 \right)$?", "How many?")
    test = problems(r"what is $(3 + 5)$", r"What is $(3 - 5)$?", "how many", "How much?")
    assert overlap(train, test) == [test["question"][0], test["question"][2]]


# The real files


@pytest.mark.parametrize(
    ("name", "file", "levels"),
    [
        ("aime_2024", "aime_2024.jsonl", {0: 30}),
        ("math_500", "math_500.jsonl", {1: 43, 2: 90, 3: 105, 4: 128, 5: 134}),
        ("gsm8k", "gsm8k_test.jsonl", {2: 326, 3: 371, 4: 297, 5: 175, 6: 87, 7: 40, 8: 23}),
    ],
)
def test_the_real_files(name, file, levels):
    path = benchmark_file(file)
    problems, counts = read_problems(name, path=path)
    assert counts.read == counts.kept == PROBLEM_SETS[name].rows
    assert Counter(problems["level"]) == levels
    assert all(problems["question"])
    assert all(problems["answer"])
    assert list(read_problems(name, path=FOLDER)[0]) == list(problems)


def test_real_gold_answers_are_read_as_the_solutions_end():
    path = benchmark_file("gsm8k_test.jsonl")
    problems = load_problems("gsm8k", path=path, limit=200)
    solutions = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").split("\n")[:200]]
    assert all(is_correct(s, gold) for s, gold in zip(solutions, problems["answer"], strict=True))


def test_the_benchmarks_do_not_overlap():
    folder = benchmark_file("math_500.jsonl").parent
    assert overlap(load_problems("math_500", path=folder), load_problems("gsm8k", path=folder)) == []


def test_the_table_is_whole():
    """Levels that come from a column ask for it."""
    for problems in PROBLEM_SETS.values():
        assert (problems.level is math._math_level) == ("level" in problems.columns)
