"""The faces of a run are cut as in the run, whatever name they come under."""

import shutil

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import run_data
from fer_pipeline.datasets.splits import fingerprint
from fer_pipeline.errors import UserError

CUT = {"seed": 5, "validation_fraction": 0.25}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """56 training and 14 test images, none like another."""
    root = tmp_path_factory.mktemp("data") / "faces"
    rng = np.random.default_rng(0)
    for split, count in (("train", 56), ("test", 14)):
        for i in range(count):
            folder = root / split / CLASS_NAMES[i % 7]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (48, 48)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def config(source):
    """Of a run on these, with validation images cut off the training images."""
    splits = datasets.load(source, **CUT).splits
    return {"data": str(source), "fingerprint": fingerprint(splits), **CUT}


def sizes(loaded):
    return [len(split.labels) for split in loaded.splits[:3]]


def test_its_own_data_are_cut_as_in_the_run(config):
    loaded = run_data.load(config)
    assert loaded.own
    assert sizes(loaded) == [42, 14, 14]


@pytest.mark.parametrize("name", ["its own path", "with a slash", "a copy"])
def test_its_own_data_under_any_name_are_cut_the_same(source, config, tmp_path, name):
    data = {"its own path": str(source), "with a slash": f"{source}/"}.get(name)
    data = data or shutil.copytree(source, tmp_path / "copy")
    loaded = run_data.load(config, str(data))
    assert loaded.own
    # No validation image among the training images.
    whole = run_data.load(config)
    np.testing.assert_array_equal(loaded.splits.train.images, whole.splits.train.images)


def test_other_data_are_taken_as_their_source_has_them(source, config, tmp_path):
    other = shutil.copytree(source, tmp_path / "other")
    next((other / "train").rglob("*.png")).unlink()
    loaded = run_data.load(config, str(other))
    assert not loaded.own
    assert sizes(loaded) == [55, 14, 14]


def test_other_data_that_the_runs_cut_would_empty_are_taken_whole(source, config, tmp_path):
    """One image of a class: none of it can be cut off."""
    other = shutil.copytree(source, tmp_path / "few")
    for name in CLASS_NAMES:
        for path in sorted((other / "train" / name).iterdir())[1:]:
            path.unlink()
    loaded = run_data.load(config, str(other))
    assert not loaded.own
    assert sizes(loaded) == [7, 14, 14]


@pytest.mark.parametrize("name", ["its own", "other"])
def test_data_that_are_named_are_decoded_once(source, config, tmp_path, monkeypatch, name):
    data = shutil.copytree(source, tmp_path / "copy")
    if name == "other":
        next((data / "train").rglob("*.png")).unlink()
    decode, calls = datasets._decode, []
    monkeypatch.setattr(datasets, "_decode", lambda *a, **k: calls.append(a) or decode(*a, **k))
    assert run_data.load(config, str(data)).own == (name == "its own")
    assert len(calls) == 1


def test_other_data_without_a_test_ask_for_no_flag_that_is_not_there(source, config, tmp_path):
    other = shutil.copytree(source, tmp_path / "other")
    next((other / "train").rglob("*.png")).unlink()
    shutil.rmtree(other / "test")
    with pytest.raises(UserError, match=r"nothing but training images; add a test/ folder$"):
        run_data.load(config, str(other))


def test_all_other_data_are_read_without_any_parts(source, config):
    """The folder of one part alone is a source without parts."""
    faces = run_data.read_all(config, str(source / "test"))
    whole = datasets.load(source).splits.test
    assert faces.unread == ()
    np.testing.assert_array_equal(faces.labels, whole.labels)
    np.testing.assert_array_equal(faces.images, whole.images)


def test_all_of_the_runs_own_data_are_refused(source, config, tmp_path):
    copy = shutil.copytree(source, tmp_path / "copy")
    with pytest.raises(UserError, match="copy is what the run was trained on; name a part of it"):
        run_data.read_all(config, str(copy))
    shutil.copytree(copy / "test", copy / "more")
    next((copy / "train").rglob("*.png")).unlink()
    assert run_data.read_all(config, str(copy)).unread == ("more",)


def test_the_synthetic_faces_have_no_cut(config):
    assert sizes(run_data.load(config, "synthetic")) == [980, 280, 280]


def test_what_cannot_be_read_is_as_the_run_or_the_caller_says(source, config, tmp_path):
    broken = shutil.copytree(source, tmp_path / "broken")
    next((broken / "train").rglob("*.png")).write_bytes(b"no image")
    with pytest.raises(UserError, match="not a readable image"):
        run_data.load(config, str(broken))
    assert sizes(run_data.load(config, str(broken), on_bad_image="skip")) == [55, 14, 14]
    assert sizes(run_data.load(config | {"on_bad_image": "skip"}, str(broken))) == [55, 14, 14]


def test_who_keeps_nothing_fills_no_cache_and_uses_one_that_is_there(config, tmp_path, monkeypatch):
    cached = config | {"cache": "disk", "cache_dir": str(tmp_path / "cache")}
    assert run_data.load(cached, keep=False).own
    assert not (tmp_path / "cache").exists()
    run_data.load(cached)
    monkeypatch.delattr("fer_pipeline.datasets._decode")
    assert run_data.load(cached, keep=False).own
