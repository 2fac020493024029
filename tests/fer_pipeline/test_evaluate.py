"""The command's figures against Keras' own evaluation of the same weights."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.models.notebook_cnn import build_model
from fer_pipeline.training import checkpoints


def evaluate(*arguments):
    command = [sys.executable, "-m", "fer_pipeline.evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def class_folders(root, images, labels):
    for split in ("train", "test"):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / split / CLASS_NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
        images = images[:7]
        labels = labels[:7]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, the first of them the best, as far as evaluation needs it."""
    path = tmp_path_factory.mktemp("run")
    model = build_model()
    optimizer = keras.optimizers.SGD()
    optimizer.build([])
    # Probabilities between the extremes, so that loss and accuracy say something.
    last_layer = model.layers[-1]
    last_layer.set_weights([weight * 0.01 for weight in last_layer.get_weights()])
    checkpoints.save(path, checkpoints.capture(model, optimizer, {"epoch": 1}), best=True)
    best = model.get_weights()
    model.set_weights([weight * 0.5 for weight in best])
    checkpoints.save(path, checkpoints.capture(model, optimizer, {"epoch": 2}), best=False)
    config = {
        "data": "synthetic",
        "seed": 0,
        "validation_fraction": None,
        "on_bad_image": "fail",
        "cache": "memory",
        "cache_dir": None,
        "export_checkpoint": "last",
        "fingerprint": "of other data",
        "versions": {},
    }
    (path / "config.json").write_text(json.dumps(config))
    model.set_weights(best)
    return path, model


def test_figures_are_keras_own(run, tmp_path):
    path, model = run
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (35, 48, 48, 1)).astype(np.uint8)
    labels = np.arange(35) % 7
    class_folders(tmp_path / "faces", images, labels)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    result = evaluate(
        f"--run_dir={path}",
        f"--data={tmp_path / 'faces'}",
        "--split=train",
        "--export_checkpoint=best",
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(images.astype(np.float32), labels, verbose=0)
    found = re.search(r"accuracy (\S+)  loss (\S+)", result.stdout)
    assert float(found[1]) == pytest.approx(accuracy, abs=1e-4)
    assert float(found[2]) == pytest.approx(loss, abs=1e-3)
    assert "train: 35 images" in result.stdout
    for name in CLASS_NAMES:
        assert re.search(rf"^{name} .* 5$", result.stdout, re.MULTILINE)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_all_faces_of_a_folder_without_parts_are_asked_about(run, tmp_path):
    path, _ = run
    images = np.random.default_rng(4).integers(0, 256, (7, 48, 48, 1)).astype(np.uint8)
    class_folders(tmp_path / "faces", images, np.arange(7))
    data = f"--data={tmp_path / 'faces' / 'train'}"
    result = evaluate(f"--run_dir={path}", data, "--split=all")
    assert result.stdout.startswith("all: 7 images of "), result.stderr
    result = evaluate(f"--run_dir={path}", "--split=all")
    assert result.stderr == (
        "error: --split=all: name other data, the run has seen most of its own\n"
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--run_dir"),
        (["--run_dir=no/such/run"], "no/such/run"),
        (["--run_dir=x", "--split=holdout"], "split"),
        (["run_dir=x"], "run_dir=x"),
    ],
)
def test_mistakes_are_one_line(arguments, word):
    result = evaluate(*arguments)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert word in line
