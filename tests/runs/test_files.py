"""Proves that records are complete or absent, and that damage is named rather than read.

Run: python -m pytest tests/runs/test_files.py
"""

import hashlib
import json
import os

import pytest

from thinkless.runs.files import (
    METRICS,
    StageError,
    digest,
    digest_file,
    digest_files,
    read_json,
    read_metrics,
    write_json,
)


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
