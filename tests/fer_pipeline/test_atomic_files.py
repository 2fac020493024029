"""Files are whole, or as they were before."""

import json
import os

import pytest

from fer_pipeline import atomic_files
from fer_pipeline.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "metrics.json"
    atomic_files.write_json(path, {"old": 1})

    def write_half():
        with atomic_files.atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(UserError, match=r"metrics\.json: cannot be written \(no space"):
        write_half()
    assert json.loads(path.read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_a_list_of_numbers_is_one_line_of_json(tmp_path):
    value = {
        "confusion": [[1, 0], [20, 3]],
        "none": [],
        "mixed": [1, None, "[\n1,\n2\n]"],
        "floats": [-1.5e-07, 1e22, True],
        "rows": [{"n": 1}],
    }
    atomic_files.write_json(tmp_path / "m.json", value)
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text) == value
    assert '"confusion": [\n    [1, 0],\n    [20, 3]\n  ],\n' in text


def test_a_write_makes_folders_and_a_file_others_may_read(tmp_path):
    path = tmp_path / "a" / "b.txt"
    atomic_files.write_text(path, "text")
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    assert path.read_text() == "text"
    assert path.stat().st_mode == plain.stat().st_mode


def test_bytes_of_a_name_that_are_not_utf_8_are_spelled():
    assert atomic_files.to_utf8(os.fsdecode("é".encode() + b"\xff.zip")) == r"é\xff.zip"


def test_json_files_hold_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_files.write_json(tmp_path / "metrics.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
