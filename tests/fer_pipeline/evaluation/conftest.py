"""Run directories with every file that a report shows, written by hand: nothing is trained."""

import itertools
import json
import types

import numpy as np
import pytest

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.evaluation import mistakes

#: Images of the test split by true (row) and named (column) class.
CONFUSION = np.diag([4, 1, 2, 7, 5, 3, 6]) + np.eye(7, k=1, dtype=int) * 2


def measured(confusion=CONFUSION, *, bins=True, classes=CLASS_NAMES):
    """A split's part of ``metrics.json``; the ratios are not what is tested."""
    found = {
        "images": int(confusion.sum()),
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "loss": 1.25,
        "macro_f1": 0.5,
        "per_class": {
            name: {"precision": 0.25, "recall": 0.75, "f1": 0.375, "support": int(row.sum())}
            for name, row in zip(classes, confusion, strict=True)
        },
        "confusion": confusion.tolist(),
    }
    edges = np.linspace(0, 1, 16)
    if bins:
        parts = [
            {"low": low, "high": high, "count": i, "confidence": (low + high) / 2, "accuracy": low}
            for i, (low, high) in enumerate(itertools.pairwise(edges))
        ]
        # What an empty bin has is not a number, which JSON lacks.
        parts[0] |= {"confidence": None, "accuracy": None}
        found["calibration"] = {"ece": 0.0625, "bins": parts}
    return found


def artifact(path, **changes):
    """An artifact's part of ``manifest.json``."""
    return {
        "path": path,
        "for": "LiteRT <phones>",
        "size": 1_234_567,
        "accuracy": 0.875,
        "agreement": 0.9875,
        "max_difference": 0.0123,
        "latency": {"p50_ms": 1.5, "p90_ms": 2.5, "images": 1},
    } | changes


CONFIG = {
    "data": "/faces/fer & more.zip",
    "epochs": 3,
    "model": "tiny",
    "recipe": "tuned",
    "optimizer": "adam",
    "deterministic": True,
    "threads": 2,
    "precision": "float32",
    "jit_compile": False,
    "fingerprint": "ab" * 32,
    "versions": {"fer_pipeline": "0.1.0"},
    "teachers": [],
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def start_run(path, **config):
    """A run whose first epoch is not done."""
    write_json(path / "config.json", CONFIG | config)
    return path


def train_run(path, trained=3, **config):
    """A run that was trained, and no more."""
    start_run(path, **config)
    history = ["epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"]
    timing = ["epoch,train_seconds,validation_seconds,images_per_second"]
    for epoch in range(1, trained + 1):
        history.append(f"{epoch},{0.1**epoch},{2 / epoch},{0.2 * epoch},{3 / epoch},{0.1 * epoch}")
        timing.append(f"{epoch},60.0,1.5,{100 * epoch}")
    (path / "history.csv").write_text("\n".join(history) + "\n")
    (path / "timing.csv").write_text("\n".join(timing) + "\n")
    return path


def finish_run(path, *, classes=CLASS_NAMES, **config):
    """A run with everything."""
    own = {} if tuple(classes) == CLASS_NAMES else {"classes": list(classes)}
    train_run(path, **config | own)
    found = measured(classes=classes)
    write_json(
        path / "metrics.json",
        {
            "epochs": 3,
            "epoch": 3,
            "checkpoint": "last",
            "model_selected_on": "test",
            "temperature": {
                "value": 1.25,
                "fitted_on": "validation",
                "ece_before": 0.0625,
                "ece_after": 0.03125,
            },
            **dict.fromkeys(("train", "validation", "test"), found),
        },
    )
    wrong = mistakes.Mistakes(
        positions=np.array([5, 9]),
        images=np.arange(2 * 48 * 48).reshape(2, 48, 48, 1).astype(np.uint8),
        labels=np.array([0, 6], np.int32),
        probabilities=np.array([[0.125, 0.875, *[0] * 5], [*[0] * 5, 0.625, 0.375]], np.float32),
    )
    mistakes.save(wrong, path / "figures/confidently_wrong.npz")
    artifacts = {
        "int8": artifact("model_int8.tflite"),
        "saved_model": artifact("saved_model/1", agreement=None, latency=None),
        "float16": artifact("model_float16.tflite"),
    }
    write_json(
        path / "export/manifest.json",
        {
            "weights": {"epoch": 3},
            "evaluation": {"images": 42, "split": "validation"},
            "artifacts": artifacts,
            "kept_back": {"keras": {"path": "model.keras", "failures": ["too far away"]}},
            "machine": {"processor": "a CPU", "cores": 2},
            "warnings": ["no better than chance"],
        },
    )
    (path / "export/saved_model/1").mkdir(parents=True)
    (path / "export/model_int8.tflite").write_bytes(b"int8")
    return path


@pytest.fixture
def runs():
    """The functions that write runs."""
    return types.SimpleNamespace(
        start=start_run, train=train_run, finish=finish_run, write_json=write_json
    )


@pytest.fixture
def finished(tmp_path):
    """A run with everything, whose name and classes are no HTML."""
    name = """<script>'"&é run"""
    return finish_run(tmp_path / name, classes=("<b>angry", *CLASS_NAMES[1:]))
