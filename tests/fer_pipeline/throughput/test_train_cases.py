"""Ways to train, the ceiling, and how many operations there are, against hand counts."""

import keras
import numpy as np
import pytest

from fer_pipeline.model import build_model
from fer_pipeline.throughput import cases, ceiling, input_cases, machine, train_cases, work


def test_operations_are_those_of_keras_kernels():
    # A kernel's weights are each used once for every position of the output.
    expected = 0
    for layer in build_model().layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            positions = np.prod(layer.output.shape[1:-1], initial=1)
            expected += 2 * int(np.prod(layer.kernel.shape)) * int(positions)
    assert sum(product.flops for product in work.products()) == expected
    first = 2 * 48 * 48 * 3 * 3 * 1 * 64
    assert work.training_flops() == 3 * expected - first


def test_random_weights_fit_the_network():
    weights = work.random_weights()
    model = build_model()
    model.set_weights(weights)
    assert len(weights) == len(model.weights)
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 1)).astype(np.float32)
    assert np.ptp(model.predict_on_batch(image)) > 0


@pytest.mark.usefixtures("narrow")
def test_every_case_takes_its_steps(train, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    folder = input_cases.class_folders(train, tmp_path)
    found = train_cases.cases(str(folder), 32, 2, ["float32"], on_gpu=False)
    rows = cases.rates(
        found, 1, baseline=train_cases.BASELINE, opener=cases.in_process, together=False
    )
    notes = {row["name"]: row["note"] for row in rows if row["note"]}
    assert all("PyTorch" in name for name in notes)
    shared = {row["name"]: row for row in train_cases.with_shares(rows, 32)}
    top = shared["TensorFlow's products alone, float32"]
    assert top["of_ceiling"] == 1.0
    ours = shared["ours, float32"]
    assert ours["of_ceiling"] == ours["images_per_second"] / top["images_per_second"]
    assert ours["ms_per_step"] == pytest.approx(32_000 / ours["images_per_second"])
    assert ours["gflops"] == pytest.approx(ours["images_per_second"] * work.training_flops() / 1e9)
    assert ours["of_peak"] is None


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("ours", [False, True])
def test_the_ceiling_is_done_for_every_image(ours):
    assert ceiling.products_alone("float32", 5, ours=ours)() == 5


def test_a_gpu_has_xla_and_every_policy():
    found = train_cases.cases("folder", 64, 6, ["float32", "mixed_float16"], on_gpu=True)
    names = [case.name for case in found]
    assert [name for name in names if name.startswith("ours, ")] == [
        "ours, float32",
        "ours, float32, XLA",
        "ours, mixed_float16",
        "ours, mixed_float16, XLA",
    ]
    assert len(names) == len(set(names))


def test_the_peak_is_of_the_gpu_that_is_there(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA H100 80GB HBM3"])
    assert machine.peak_flops("mixed_float16") == 989e12
    assert machine.peak_flops("mixed_bfloat16") == 989e12
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"])
    assert machine.peak_flops("mixed_float16") is None
    rows = [{"name": "a", "policy": "float32", "images_per_second": 1e6}]
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA H100 PCIe"])
    [row] = train_cases.with_shares(rows, 64)
    assert row["of_peak"] == pytest.approx(1e6 * work.training_flops() / 495e12)
