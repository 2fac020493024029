"""The entry point as a user meets it: help, mistakes, and a run from faces to files."""

import json
import re
import shutil
import struct
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.synthetic import render


def train(*arguments, cwd):
    command = [sys.executable, "-m", "fer_pipeline.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def assert_refused(result, *words):
    """One line on stderr with these words, status 1 and no traceback."""
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_help_lists_the_flags_without_importing_tensorflow(tmp_path):
    script = (
        "import sys; from fer_pipeline.train import run; sys.argv[1:] = ['--help']\n"
        "try: run()\n"
        "finally: print('tensorflow' in sys.modules, 'keras' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "False False"
    for flag in (
        "data run_dir [no]overwrite epochs batch_size learning_rate seed precision cache cache_dir "
        "validation_fraction export_checkpoint [no]export on_bad_image verbosity"
    ).split():
        assert f"  --{flag}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs=0"], ["epochs"]),
        (["--epochs=many"], ["epochs"]),
        (["--precision=float8"], ["precision"]),
        (["--colour=red"], ["colour"]),
        (["--learning_rate=nan"], ["--learning_rate=nan"]),
        (["--checkpoint_minutes=nan"], ["--checkpoint_minutes=nan"]),
        (["--threads=0"], ["--threads"]),
        (["--strategy=multi_worker"], ["--strategy=multi_worker", "TF_CONFIG"]),
        (["epochs=3"], ["epochs=3", "--name=value"]),
        (["--formats=onnx"], ["unknown format 'onnx'"]),
        (["--formats=int8", "--noexport"], ["--formats", "--noexport"]),
        (["--data=no/such/place"], ["no/such/place"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, arguments, words):
    assert_refused(train(*arguments, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def write_png(path, image):
    """A grey PNG by the format's own rules: signature, IHDR, IDAT, IEND."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of class folders: 42 training and 14 test images."""
    root = tmp_path_factory.mktemp("data") / "few faces"
    for split, count, seed in (("train", 42, 1), ("test", 14, 2)):
        labels = np.arange(count) % 7
        for i, (label, image) in enumerate(zip(labels, render(labels, seed=seed), strict=True)):
            write_png(root / split / CLASS_NAMES[label] / f"{i}.png", image[..., 0])
    return root


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory):
    """A run of two epochs, interrupted after the first and continued by the same command."""
    cwd = tmp_path_factory.mktemp("work")
    # Not in what the CPU earns: tests below compare with the float32 network.
    arguments = [f"--data={faces}", "--run_dir=run", "--batch_size=16", "--precision=float32"]
    cached = ["--cache=disk", "--cache_dir=cache"]
    first = train(*arguments, *cached, "--epochs=1", "--noexport", cwd=cwd)
    assert first.returncode == 0, first.stderr
    second = train(*arguments, "--epochs=2", cwd=cwd)
    return cwd / "run", second


def test_one_command_leaves_every_file(finished):
    run, result = finished
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for name in (
        "config.json history.csv timing.csv metrics.json report.html tf.log figures/samples.png "
        "figures/class_counts.json figures/confidently_wrong.npz "
        "figures/class_counts.png figures/curves.png figures/confusion_matrix.png "
        "figures/architecture.png figures/reliability.png export/model.json "
        "export/model_weights.h5 export/model.keras export/MODEL_CARD.md "
        "export/saved_model/1/saved_model.pb "
        "export/labels.txt export/golden.npz "
        "export/manifest.json export/manifest.sha256 export/model_float32.tflite "
        "export/model_float16.tflite export/model_dynamic_range.tflite export/model_int8.tflite "
        "export/model_float32_rgb.tflite export/model_int8_rgb.tflite"
    ).split():
        assert (run / name).stat().st_size > 0, name


def test_it_tells_what_it_did(finished):
    run, result = finished
    assert "continuing after epoch 1" in result.stdout
    assert "the test images take their place" in result.stdout
    assert re.search(r"all +42 +14", result.stdout)
    rows = (run / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["epochs"] == 2
    assert metrics["model_selected_on"] == "test"
    assert metrics["test"]["images"] == 14
    assert metrics["twin"]["max_probability_difference"] < 1e-4


def test_the_metrics_are_those_of_the_exported_keras_files(finished, faces):
    run, _ = finished
    model = keras.models.model_from_json((run / "export/model.json").read_text())
    model.load_weights(run / "export/model_weights.h5")
    labels = np.arange(14) % 7
    images = render(labels, seed=2).astype(np.float32)
    predicted = np.argmax(model.predict_on_batch(images), axis=1)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == pytest.approx(np.mean(predicted == labels))
    card = (run / "export/MODEL_CARD.md").read_text()
    assert f"| test, also validation | 14 | {np.mean(predicted == labels):.2%} |" in card


def test_the_report_is_of_the_finished_run(finished):
    run, result = finished
    page = (run / "report.html").read_text("utf-8")
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"{metrics['test']['accuracy']:.2%}" in page
    assert "not finished" not in page
    # The export was the last to change it.
    links = re.findall(r'href="(export/[^"]+)"', page)
    assert len(links) == 9
    assert all((run / link).exists() for link in links)
    wrong = 14 - round(14 * metrics["test"]["accuracy"])
    assert page.count("data:image/png;base64,") == wrong
    # A row for every class: 6 for training and 2 for testing.
    counts = json.loads((run / "figures/class_counts.json").read_text())
    assert counts == {"train": [6] * 7, "test": [2] * 7}
    assert result.stdout.splitlines()[-4:] == [
        "next:",
        "  see the report     xdg-open run/report.html",
        "  name a face        python -m fer_pipeline.predict --model=run/export face.jpg",
        "  measure the speed  python -m fer_pipeline.benchmark --quick",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs=2"], ["is finished", "--overwrite"]),
        (["--epochs=1"], ["has trained 2 epochs", "--epochs=3"]),
        (["--epochs=3", "--learning_rate=0.1"], ["--learning_rate=0.0005, not 0.1", "--overwrite"]),
    ],
)
def test_a_finished_or_different_run_is_kept(finished, faces, arguments, words):
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = train(
        f"--data={faces}",
        "--run_dir=run",
        "--batch_size=16",
        "--precision=float32",
        *arguments,
        cwd=run.parent,
    )
    assert_refused(result, *words)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def first_epoch(run):
    """Its figures; equal up to the order in which threads add."""
    return [float(x) for x in (run / "history.csv").read_text().splitlines()[1].split(",")]


@pytest.mark.slow
def test_overwriting_starts_anew_and_another_cache_gives_the_same(finished, faces, tmp_path):
    before, _ = finished
    assert list((before.parent / "cache").rglob("about.npz"))
    run = tmp_path / "run"
    shutil.copytree(before, run)
    (run / "notes.txt").write_text("mine")
    arguments = [f"--data={faces}", "--run_dir=run", "--batch_size=16", "--precision=float32"]
    arguments += ["--epochs=1", "--formats=keras", "--cache=none", "--overwrite"]
    result = train(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len((run / "history.csv").read_text().splitlines()) == 2
    assert first_epoch(run) == pytest.approx(first_epoch(before), rel=1e-2)
    assert json.loads((run / "config.json").read_text())["cache"] == "none"
    assert (run / "notes.txt").read_text() == "mine"
    # The old export is gone, and the new one holds what was asked for.
    assert sorted(path.name for path in (run / "export").iterdir()) == [
        "MODEL_CARD.md",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "manifest.sha256",
        "model.json",
        "model_weights.h5",
    ]
    assert json.loads((run / "export/manifest.json").read_text())["weights"]["epoch"] == 1
