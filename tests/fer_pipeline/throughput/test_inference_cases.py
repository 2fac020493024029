"""Inference: ONNX files against Keras, and every case called once."""

import numpy as np
import pytest

from fer_pipeline.models.notebook_cnn import build_model, build_training_model
from fer_pipeline.throughput import cases, export_cost, inference_cases, onnx_rivals


@pytest.fixture
def network(narrow, train):
    """Weights from a seed, and the moving statistics that go with them."""
    del narrow
    fast, model = build_training_model(seed=0), build_model()
    for layer in fast.layers:
        layer.momentum = 0.0
    fast(train.images.astype(np.float32), training=True)
    model.set_weights(fast.get_weights())
    return model


def test_onnx_files_say_what_keras_does(network, train, tmp_path):
    float32, int8 = tmp_path / "float32.onnx", tmp_path / "int8.onnx"
    onnx_rivals.write_float32(network.get_weights(), float32)
    onnx_rivals.write_int8(float32, int8, train.images)
    expected = network.predict_on_batch(train.images.astype(np.float32))
    exact = onnx_rivals.inference(float32, train.images, threads=1)()
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    quantised = onnx_rivals.inference(int8, train.images, threads=2)()
    assert 1e-5 < np.abs(quantised - expected).mean() < 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_every_runtime_is_called_and_pytorchs_row_says_what_it_needs(train, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    row, unknown = export_cost.write(["float32", "float64"], tmp_path)
    assert (row["name"], row["note"]) == ("float32", "")
    assert "not measured: --formats: unknown format 'float64'" in unknown["note"]
    assert 0 < row["idle"] <= row["peak"]
    assert row["seconds"] > 0
    np.save(tmp_path / inference_cases.IMAGES, train.images[:4])
    inference_cases.write_onnx(tmp_path)
    rows = cases.measure_latencies(
        inference_cases.cases(str(tmp_path), cores=2),
        1,
        1,
        baseline=inference_cases.BASELINE,
        opener=cases.in_process,
    )
    assert [row["name"] for row in rows] == [
        "model_float32.tflite, 1 thread",
        "model_float32.tflite, 2 threads",
        "Keras, batch 1",
        "PyTorch, batch 1",
        "Keras, batch 4",
        "PyTorch, batch 4",
        "ONNX Runtime, float32, 1 thread",
        "ONNX Runtime, float32, 2 threads",
        "ONNX Runtime, int8, 1 thread",
        "ONNX Runtime, int8, 2 threads",
    ]
    for row in rows:
        if "PyTorch" in row["name"]:
            assert "it needs PyTorch" in row["note"]
        else:
            assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_only_what_runs_on_a_gpu_sees_one(train, tmp_path):
    np.save(tmp_path / inference_cases.IMAGES, train.images[:4])
    (tmp_path / "model_int8.tflite").touch()
    (tmp_path / "saved_model").mkdir()
    found = inference_cases.cases(str(tmp_path), cores=2, on_gpu=True)
    on_gpu = {case.name for case in found if case.gpu}
    kinds = ("SavedModel", "Keras", "PyTorch")
    assert on_gpu == {f"{kind}, batch {size}" for kind in kinds for size in (1, 4)}
    assert len(found) == len(on_gpu) + 6
    assert not any(case.gpu for case in inference_cases.cases(str(tmp_path), cores=2))
