import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from export import again
from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split, Splits, fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import metrics as metrics_lib
from fer_pipeline.training import checkpoints

# The command in a process of its own, with the narrow network and few faces.
COMMAND = """
import sys
from types import SimpleNamespace
import numpy as np
from fer_pipeline import datasets
from fer_pipeline.models import notebook_cnn as model
from fer_pipeline.datasets.splits import Split, Splits
model.CONVOLUTIONS, model.DENSE_UNITS = {convolutions}, {dense_units}
faces = np.load({faces!r})
split = Split(faces["images"], faces["labels"])
def load(source, **options):
    print("data", source, options)
    return SimpleNamespace(splits=Splits(split, split, split))
datasets.load = load
from export import __main__
__main__.run()
"""


def _module(*arguments):
    command = [sys.executable, "-m", "export", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def run(faces, weights, exported, tmp_path):
    """A finished run: configuration and a checkpoint."""
    import keras

    from export.formats.inference_model import inference_model

    split = Split(faces.images, faces.labels)
    config = {
        "data": "synthetic",
        "seed": 3,
        "cache": "memory",
        "export_checkpoint": "best",
        "fingerprint": fingerprint(Splits(split, split, split)),
        "versions": {},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {"epoch": 1}
    optimizer = keras.optimizers.Adam()
    checkpoints.save(
        tmp_path, checkpoints.capture(inference_model(weights), optimizer, state), best=True
    )
    return tmp_path


def _narrow(run, faces, *arguments):
    from fer_pipeline.models import notebook_cnn

    np.savez(run / "faces.npz", **faces._asdict())
    code = COMMAND.format(
        convolutions=notebook_cnn.CONVOLUTIONS,
        dense_units=notebook_cnn.DENSE_UNITS,
        faces=str(run / "faces.npz"),
    )
    command = [sys.executable, "-c", code, f"--run_dir={run}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_the_flags_and_succeeds():
    result = _module("--help")
    assert result.returncode == 0
    for flag in ("run_dir", "formats", "data", "verify_only", "tflite_batch"):
        assert f"--{flag}" in result.stdout


def test_help_imports_no_tensorflow():
    code = (
        "import sys, export.__main__; "
        "sys.exit(len({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--run_dir is needed"),
        (["--run_dir=/nowhere"], "/nowhere: no such directory"),
        (["--run_dir={run}", "--formats=onnx"], "unknown format 'onnx'"),
        (["--run_dir={run}"], "config.json"),
        (["--run_dir={run}", "--verify_only"], "manifest.json: is missing"),
        (["--run_dir={run}", "--max_accuracy_drop=-1"], "max_accuracy_drop"),
        (["--run_dir={run}", "--tflite_batch=0"], "--tflite_batch=0: choose from 1 to 256"),
        (["--run_dir={run}", "--tflite_batch=many"], "tflite_batch"),
        (["--run_dir={run}", "int8"], "unexpected argument 'int8'"),
        (["--run_dir={run}", "--verify_only", "--formats=int8"], "--formats: has no effect"),
        (["--run_dir={run}", "--verify_only", "--tflite_batch=8"], "--tflite_batch: has no effect"),
        (
            ["--run_dir={run}", "--verify_only", "--export_checkpoint=best"],
            "--export_checkpoint: has no effect",
        ),
        (
            ["--run_dir={run}", "--verify_only", "--max_accuracy_drop=5"],
            "--max_accuracy_drop: has no effect with --verify_only but no --data",
        ),
        (
            ["--run_dir={run}", "--verify_only", "--on_bad_image=skip"],
            "--on_bad_image: has no effect with --verify_only but no --data",
        ),
        (["--run_dir={run}", "--trust"], "--trust: belongs to --verify_only"),
        (["--run_dir={run}", "--litertjs=x"], "--litertjs: belongs to --formats=web"),
        (
            ["--run_dir={run}", "--formats=web", "--mirror"],
            "--mirror: has no effect with --formats",
        ),
        (
            ["--run_dir={run}", "--formats=web", "--litertjs={run}"],
            "holds no @litertjs/core; type: npm",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, words):
    result = _module(*(argument.format(run=tmp_path) for argument in arguments))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_exports_a_finished_run_and_gives_the_same_bytes(run, exported, faces, reference_model):
    losses = -np.log(reference_model[np.arange(len(reference_model)), faces.labels])
    predictions = metrics_lib.Predictions(reference_model, losses)
    result_of = metrics_lib.as_json(metrics_lib.score(predictions, faces.labels))
    splits = dict.fromkeys(("train", "validation", "test"), result_of)
    metrics = {"epochs": 1, "checkpoint": "best", "model_selected_on": "validation"} | splits
    (run / "metrics.json").write_text(json.dumps(metrics))
    result = _narrow(run, faces, "--formats=int8,keras")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    options = {"classes": CLASS_NAMES, "on_bad_image": "fail", "cache": "memory", "seed": 3}
    options["write_cache"] = True
    assert f"data synthetic {options}" in result.stdout
    assert "model_int8.tflite" in result.stdout
    for name in ("model_int8.tflite", "model.json", "model_weights.h5", "golden.npz"):
        ours, theirs = run / "export" / name, exported.folder / name
        assert ours.read_bytes() == theirs.read_bytes()
    card = (run / "export/MODEL_CARD.md").read_text()
    accuracy = np.mean(reference_model.argmax(axis=1) == faces.labels)
    assert re.search(rf"^\| test \| 280 \| {accuracy:.2%} \|", card, re.MULTILINE)


def test_data_that_changed_since_training_is_refused_unless_it_is_named(run, faces, monkeypatch):
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "of other faces"}))
    loaded = SimpleNamespace(splits=Splits(faces, faces, faces))
    monkeypatch.setattr(datasets, "load", lambda source, **options: loaded)
    with pytest.raises(UserError, match="has other images than the run was trained on"):
        again.export_again(run, formats=["keras"])
    assert not (run / "export").exists()
    [report] = again.export_again(run, data="other.zip", formats=["keras"])
    assert (report.name, report.failures) == ("keras", ())


def test_verify_only_proves_a_folder_that_was_handed_over(small, rewrite_manifest):
    def colour(stored):
        stored["warnings"] = ["\x1b[2J\x1b[1mcalm\n/x: 99 files, all is well"]
        stored["kept_back"] = {"int8": {"path": "\x1b[1m", "failures": ["a\nb"]}}

    rewrite_manifest(small, colour)
    before = sorted(small.parent.rglob("*"))
    result = _module(f"--run_dir={small}", "--verify_only")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "model_float32.tflite" in result.stdout
    # What was compared and what was not; no accuracy, no gate that was set to none.
    assert "on 64 drawn faces; no accuracy was measured, which --data does" in result.stdout
    lines = result.stdout.splitlines()
    header = next(line for line in lines if line.startswith("artifact"))
    assert "accuracy" not in header
    assert header.endswith("golden faces")
    # What a stranger wrote clears no screen and adds no line.
    assert r"warning: \x1b[2J\x1b[1mcalm\n/x: 99 files, all is well" in lines
    assert r"not in this export: \x1b[1m: a\nb" in lines
    assert sorted(small.parent.rglob("*")) == before


def _change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model_int8.tflite", lambda path: os.truncate(path, path.stat().st_size - 1), "is "),
        ("model.keras", _change_a_byte, "its SHA-256"),
        (
            "saved_model/1/saved_model.pb",
            lambda path: shutil.copy(path.parents[2] / "model.json", path),
            "is ",
        ),
        ("model_weights.h5", lambda path: path.write_text("a stranger's"), "is "),
        ("MODEL_CARD.md", Path.unlink, "is missing"),
        ("notes.txt", Path.touch, "is not of this export"),
    ],
)
def test_verify_only_names_the_damaged_file(copy, name, damage, said):
    damage(copy / name)
    result = _module(f"--run_dir={copy.parent}", "--verify_only")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {copy / name}: {said}")
    assert len(result.stderr.splitlines()) == 1


def test_the_folder_that_is_named_is_meant_and_not_its_child(small):
    # A run's export beside a whole export in the folder itself.
    child = small / "export"
    child.mkdir()
    result = _module(f"--run_dir={small}", "--verify_only")
    # An empty folder is not of the export that was named.
    assert result.stderr.startswith(f"error: {child}: is not of this export")
    child.rmdir()
    assert _module(f"--run_dir={small.parent}", "--verify_only").returncode == 0


def test_verify_only_measures_on_data_and_leaves_bad_images_out_where_it_is_told_to(
    small, faces, tmp_path_factory
):
    source = tmp_path_factory.mktemp("data") / "faces"
    for split in ("train", "test"):
        for i in range(14):
            folder = source / split / CLASS_NAMES[faces.labels[i]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(faces.images[i, :, :, 0]).save(folder / f"{i}.png")
    next((source / "test").rglob("*.png")).write_bytes(b"no image")
    arguments = [f"--run_dir={small}", "--verify_only", f"--data={source}"]
    refused = _module(*arguments)
    assert refused.returncode == 1
    assert "not a readable image" in refused.stderr
    result = _module(*arguments, "--on_bad_image=skip")
    assert result.returncode == 0, result.stderr
    assert (
        "accuracy and agreement were measured on 13 images of --data;"
        " accuracy is not gated on fewer than 2,000\n"
    ) in result.stdout
    assert "accuracy" in next(x for x in result.stdout.splitlines() if x.startswith("artifact"))
