"""The real ways to feed the network, on a few images."""

import importlib.util

import numpy as np
import pytest

from fer_pipeline.datasets.splits import Split
from fer_pipeline.throughput import cases, input_cases


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(input_cases, "EPOCH_IMAGES", 140)
    monkeypatch.setattr(input_cases, "MAX_FILES", 70)


def without(monkeypatch, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    monkeypatch.setitem(__import__("sys").modules, package, None)


def test_splits_are_repeated_in_order():
    split = Split(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1), np.array([4, 5, 6]))
    longer = input_cases.repeated(split, 8)
    np.testing.assert_array_equal(longer.images.ravel(), [0, 1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(longer.labels, [4, 5, 6, 4, 5, 6, 4, 5])
    assert input_cases.repeated(split, 2) is split


def test_class_folders_hold_the_images(train, tmp_path):
    folder = input_cases.class_folders(train, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(input_cases.CLASS_NAMES)
    assert len(list(folder.glob("*/*.jpg"))) == 70
    assert len(list(folder.parent.glob("test/*/*.jpg"))) == 7
    epoch = input_cases.epoch_beside(folder)
    assert len(epoch.labels) == 140
    np.testing.assert_array_equal(epoch.images[:70], epoch.images[70:])
    np.testing.assert_array_equal(input_cases.epoch_beside(folder, mapped=True)[0], epoch[0])
    assert input_cases.class_folders(train, tmp_path) == folder


def test_every_case_delivers_images_and_pytorchs_says_what_it_needs(train, tmp_path, monkeypatch):
    without(monkeypatch, "torch")
    folder = input_cases.class_folders(train, tmp_path)
    found = input_cases.cases(str(folder), batch_size=32, seconds=0, workers=2)
    rows = cases.measure_rates(found, 1, baseline=input_cases.BASELINE, opener=cases.in_process)
    able = [row for row in rows if "PyTorch" not in row["name"]]
    assert len(able) == len(rows) - 3 == 8
    for row in able:
        assert row["images_per_second"] > 0, row
        assert not row["note"]
    for row in rows:
        if row not in able:
            assert "it needs PyTorch" in row["note"]
    assert able[0]["ratio"] == 1.0


def test_without_pillow_the_generators_row_says_so(tmp_path, monkeypatch):
    without(monkeypatch, "PIL")
    first, *_ = input_cases.cases(str(tmp_path), batch_size=32, seconds=0)
    with pytest.raises(ImportError, match="Pillow"):
        first.make()
