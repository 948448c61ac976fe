"""Proves that records are complete or absent, and that damage is named rather than read.

Run: python -m pytest tests/runs/test_files.py
"""

import hashlib
import json
import os

import pytest

from thinkless.errors import StageError
from thinkless.files import digest, digest_file, digest_files, json_lines, read_json, write_json
from thinkless.runs.metrics import METRICS, read_metrics


def test_json_goes_to_disk_and_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"c": "é"}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {("no", "key"): 1})
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", None])
def test_a_damaged_file_names_the_folder_to_delete(content, tmp_path):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StageError, match=f"delete the folder {tmp_path} to run the stage again"):
        read_json(tmp_path / "x.json")


def test_metrics_without_the_line_that_a_kill_cut_off(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / METRICS).write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


def test_a_digest_depends_on_values_not_on_their_order():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1, "b": [2, 3]}) != digest({"a": 1, "b": [3, 2]})
    assert digest(json.loads("[1]")) != digest(["1"])


def test_a_files_digest_is_its_sha256_and_follows_its_content(tmp_path):
    path = tmp_path / "x"
    assert digest_file(path) is None
    path.write_bytes(b"abc")
    assert digest_file(path) == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abd")
    os.utime(path, ns=(1, 1))  # the same size, another time
    assert digest_file(path) == hashlib.sha256(b"abd").hexdigest()


def test_folders_are_digested_file_by_file(tmp_path):
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "a").write_text("1")
    (tmp_path / "model" / "deep" / "b").write_text("2")
    (tmp_path / "metrics").write_text("3")
    (tmp_path / "other").write_text("4")
    digests = digest_files(tmp_path, ["model", "metrics"])
    assert digests == {
        name: hashlib.sha256(text).hexdigest()
        for name, text in (("model/a", b"1"), ("model/deep/b", b"2"), ("metrics", b"3"))
    }


def test_json_lines_with_their_places(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": 1}\n\n{"b": "é"}\n{"c": 3}'.encode())
    lines = list(json_lines(path))
    assert [line.value for line in lines] == [{"a": 1}, {"b": "é"}, {"c": 3}]
    assert [line.place for line in lines] == [f"{path}, line {number}" for number in (1, 3, 4)]
    # 9 bytes with the break, 1 blank line, 12 (é has two bytes) with the break, 8
    assert [(line.start, line.end) for line in lines] == [(0, 9), (10, 22), (22, 30)]
    assert [line.value for line in json_lines(path, may_be_cut=True)] == [{"a": 1}, {"b": "é"}]


@pytest.mark.parametrize("bad", ["{", "[1]", "3", "\x00"])
@pytest.mark.parametrize("may_be_cut", [True, False])
def test_a_line_that_is_no_object_is_named(bad, may_be_cut, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{bad}\n{{"b": 2}}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2 cannot be read: ") as error:
        list(json_lines(path, may_be_cut=may_be_cut))
    assert "\n" not in str(error.value)
