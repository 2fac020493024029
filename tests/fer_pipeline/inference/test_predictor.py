"""Pictures, arrays and models to predictions, with a model that is computed by hand."""

import contextlib

import numpy as np
import pytest

from fer_pipeline import inference
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.inference import classifier, model_loader, predictor, pretrained
from fer_pipeline.inference.reading import Face
from fer_pipeline.inference.results import Prediction, Unreadable
from fer_pipeline.inference.sources import Source, expand


def lit(seventh):
    image = np.zeros((48, 48), np.uint8)
    np.array_split(image, 7, axis=1)[seventh][:] = 255
    return image


def test_no_model_is_opened_for_nothing(opened):
    found = [*predictor.predictions(expand(["no.png", "none.png"]), model="m")]
    problem = "cannot be read (No such file or directory)"
    assert found == [[Unreadable("no.png", problem)], [Unreadable("none.png", problem)]]
    assert opened == []


def test_a_picture_may_have_several_faces_or_none(opened):
    def read(source):
        if source.path == "text":
            raise UserError("no picture")
        boxes = [(i, 0, 9, 9) for i in range(int(source.path))]
        return [Face(lit(box[0])[..., np.newaxis], frame=1, box=box) for box in boxes]

    parts = predictor.predictions(map(Source, ["2", "0", "text", "1"]), model="m", read=read)
    two, one, none, text, three = [answer for part in parts for answer in part]
    assert [one.box for one in (two, one, three)] == [(0, 0, 9, 9), (1, 0, 9, 9), (0, 0, 9, 9)]
    assert [one.label for one in (two, one)] == list(CLASS_NAMES[:2])
    assert (three.file, three.frame) == ("1", 1)
    assert none == Prediction.of_nobody("0")
    assert text == Unreadable("text", "no picture")


def test_mirror_images_are_averaged(opened, brightest_seventh):
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)
    with classifier.open_classifier("m", tta=True) as classify:
        found = classify(faces)
    mirrored = brightest_seventh(np.ascontiguousarray(faces[:, :, ::-1]))
    np.testing.assert_allclose(found, (brightest_seventh(faces) + mirrored) / 2, rtol=1e-6)


def test_a_model_that_gives_nan_is_refused(monkeypatch):
    @contextlib.contextmanager
    def broken(path, **_):
        yield lambda images: np.full((len(images), 7), np.nan, np.float32)

    monkeypatch.setattr(model_loader, "opened", broken)
    with (
        classifier.open_classifier("m.tflite") as classify,
        pytest.raises(UserError, match=r"m\.tflite: damaged \(it gives no probabilities\)"),
    ):
        classify(np.zeros((1, 48, 48, 1), np.uint8))


def test_the_pretrained_model_is_the_default(tmp_path, monkeypatch, opened):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="no pretrained model; name one with --model"):
        inference.predict(lit(0))
    (tmp_path / "model_int8.tflite").touch()
    assert inference.predict(lit(0))[0].label == "angry"
    assert opened == [str(tmp_path / "model_int8.tflite")]
