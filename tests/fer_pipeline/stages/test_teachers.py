"""How a run knows its teachers, and keeps what they say."""

import json

import numpy as np
import pytest

from fer_pipeline import recipes, run_record
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError
from fer_pipeline.stages import teachers


def test_a_teacher_is_known_by_its_weights():
    weights = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    changed = [weights[0], weights[1] + np.float32(1e-7)]
    assert teachers.digest(weights) == teachers.digest([array.copy() for array in weights])
    assert teachers.digest(weights) != teachers.digest(changed)


def test_teachers_are_listed_by_commas():
    assert teachers.names(" a, b ,") == ["a", "b"]
    assert teachers.names('"a, b",c d , "e""f"') == ["a, b", "c d", 'e"f']
    assert teachers.names(None) == []
    # A variable of the shell that is empty is no wish for none.
    for text in ("", " , "):
        with pytest.raises(UserError, match=f"--teacher={text}: names no run; name one or leave"):
            teachers.names(text)
    for text in ("a\nb", '"a\nb",c'):
        with pytest.raises(UserError, match="--teacher: holds a line break; name runs by a path"):
            teachers.names(text)


def test_a_teacher_is_recorded_by_a_path_that_holds_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert teachers.places(" a b, pretrained,/c ") == f"{tmp_path}/a b,pretrained,/c"
    assert teachers.places('"a,b",c') == f'"{tmp_path}/a,b",{tmp_path}/c'
    assert teachers.names(teachers.places('"a,b",c')) == [f"{tmp_path}/a,b", f"{tmp_path}/c"]
    assert teachers.places(None) is None


def test_a_teacher_has_the_classes_of_the_data(tmp_path):
    record = run_record.to_record(
        recipes.resolve(Config(classes="cat,dog")), fingerprint="f", devices=1, versions={}
    )
    (tmp_path / "config.json").write_text(json.dumps(record))
    teachers.check_classes([str(tmp_path)], ("cat", "dog"))
    with pytest.raises(UserError, match=r"--teacher=.* has the same classes in another order"):
        teachers.check_classes([str(tmp_path)], ("dog", "cat"))
    with pytest.raises(UserError, match=r"pretrained: has other classes \(angry, .*and the data"):
        teachers.check_classes(["pretrained"], ("cat", "dog"))


def test_kept_targets_are_read_again(tmp_path):
    targets = np.random.default_rng(0).random((5, 7), np.float32)
    teachers.save_targets(tmp_path / "targets.npy", targets)
    np.testing.assert_array_equal(teachers.read_targets(tmp_path / "targets.npy", 5), targets)
    assert teachers.read_targets(tmp_path / "targets.npy", 6) is None
    assert teachers.read_targets(tmp_path / "targets.npy", 5, 3) is None


@pytest.mark.parametrize("content", [None, b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_targets_that_cannot_be_read_are_none(tmp_path, content):
    if content is not None:
        (tmp_path / "targets.npy").write_bytes(content)
    assert teachers.read_targets(tmp_path / "targets.npy", 5) is None
