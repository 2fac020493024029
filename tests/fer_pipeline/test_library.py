"""The pipeline as functions, from a folder of faces to answers."""

import dataclasses
import inspect
import io
import json
import textwrap
import types

import numpy as np
import pytest
from PIL import Image

import fer_pipeline
from fer_pipeline import library, run_dir, stages
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.synthetic import render
from fer_pipeline.errors import UserError


def write_faces(folder):
    """Four training images, two for validation and two to test of each class."""
    labels = np.repeat(np.arange(7), 8)
    for i, (image, label) in enumerate(zip(render(labels, seed=3), labels, strict=True)):
        split = ("train", "train", "train", "train", "validation", "validation", "test", "test")
        path = folder / "faces" / split[i % 8] / CLASS_NAMES[label]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path / f"{i}.png")
    Image.fromarray(image[..., 0]).save(folder / "face.jpg")


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The example in the documentation, run as it stands, and the names it leaves."""
    folder = tmp_path_factory.mktemp("walk")
    write_faces(folder)
    example = inspect.getdoc(library).split("::\n", 1)[1].split("\nEverything", 1)[0]
    names = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        # The smallest network compiles soonest.
        exec(textwrap.dedent(example).replace("compact", "tiny"), names)
    run = dataclasses.replace(
        names["run"], path=str(folder / "runs/mine"), export=str(folder / "runs/mine/export")
    )
    return names | {"run": run, "folder": folder}


def test_the_example_goes_from_a_folder_to_an_answer(walked):
    run, answer = walked["run"], walked["answer"]
    assert len(run.history) == run.metrics["epochs"] == 15
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    assert json.loads(json.dumps(dataclasses.asdict(answer)))["label"] == answer.label
    [again] = fer_pipeline.load_model(run.export)(
        np.asarray(Image.open(walked["folder"] / "face.jpg"))[np.newaxis, ..., np.newaxis]
    )
    np.testing.assert_allclose(list(answer.probabilities.values()), again, atol=1e-6)


def test_a_run_is_evaluated_on_its_own_faces_and_a_file_on_those_that_are_given(walked):
    run, faces = walked["run"], walked["faces"]
    own = fer_pipeline.evaluate(run, faces)
    assert own.accuracy == pytest.approx(run.metrics["test"]["accuracy"])
    assert own.loss == pytest.approx(run.metrics["test"]["loss"], rel=1e-4)
    assert np.sum(own.confusion) == own.images == 14
    assert sum(row["support"] for row in own.per_class.values()) == 14
    file = f"{run.export}/model_int8.tflite"
    found = fer_pipeline.evaluate(file, faces, split="train")
    answers = fer_pipeline.load_model(file)(faces.train.images).argmax(axis=1)
    assert found.accuracy == np.mean(answers == faces.train.labels)
    with pytest.raises(UserError, match="name the data"):
        fer_pipeline.evaluate(file)
    # Of the arrays only those that are used have to be faces.
    odd = faces._replace(test=faces.test._replace(labels=faces.test.labels + 1))
    assert fer_pipeline.evaluate(file, odd, split="train") == found
    with pytest.raises(UserError, match="test: has labels from 1 to 7, and the 7 classes are"):
        fer_pipeline.evaluate(file, odd)
    # What a run was given as arrays it does not have any more.
    with pytest.raises(UserError, match="trained on arrays, which are not kept"):
        fer_pipeline.evaluate(run)


def test_a_run_is_exported_again(walked, capsys):
    run = walked["run"]
    data = str(walked["folder"] / "faces")
    [file] = fer_pipeline.export_model(run, formats=["float32"], data=data, verbose=False)
    assert capsys.readouterr().out == ""
    assert (file.format, file.path) == ("float32", f"{run.export}/model_float32.tflite")
    assert file.agreement == 1
    assert file.accuracy == pytest.approx(run.metrics["validation"]["accuracy"])


def test_a_training_holds_its_run_directory(tmp_path):
    (tmp_path / "run").mkdir()
    with (
        run_dir.owned(tmp_path / "run"),
        pytest.raises(UserError, match="another process"),
    ):
        fer_pipeline.train(run=tmp_path / "run", epochs=1)
    with pytest.raises(UserError, match=r"^--epochs=0"):
        fer_pipeline.train(epochs=0)


@pytest.mark.parametrize(
    ("faces", "error"),
    [
        (np.zeros((1, 48, 48, 1)), TypeError),
        (np.zeros((48, 48), np.uint8), ValueError),
        (np.zeros((1, 64, 64, 1), np.uint8), ValueError),
        (np.zeros((1, 48, 48, 3), np.uint8), ValueError),
    ],
)
def test_what_are_no_faces_is_not_blamed_on_the_model(faces, error):
    with pytest.raises(error, match=r"faces want .*, not "):
        fer_pipeline.load_model()(faces)


def test_a_damaged_or_empty_pillow_image_is_one_line():
    file = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(file, "JPEG")
    half = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
    for picture, said in ((half, "not a readable image"), (Image.new("L", (0, 0)), "0x0 pixels")):
        with pytest.raises(UserError, match=said):
            fer_pipeline.predict(picture)


def test_a_split_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="split='tst': name train, validation, test or all"):
        fer_pipeline.evaluate(data="synthetic", split="tst")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"formats": ["int9"]}, "--formats: unknown format 'int9'"),
        ({"formats": ["int8"], "export": False}, "formats: has no effect with export=False"),
    ],
)
def test_formats_that_cannot_be_exported_are_refused_before_the_training(
    tmp_path, monkeypatch, options, said
):
    monkeypatch.setattr(stages, "run_training", lambda *_: pytest.fail("it trains"))
    with pytest.raises(UserError, match=said):
        fer_pipeline.train(run=tmp_path / "run", **options)


def test_importing_a_command_does_not_hide_the_function_of_its_name():
    for name in ("train", "evaluate", "predict"):
        # What Python does with a module that it has imported.
        setattr(fer_pipeline, name, types.ModuleType(f"fer_pipeline.{name}"))
        assert getattr(fer_pipeline, name) is getattr(library, name)
