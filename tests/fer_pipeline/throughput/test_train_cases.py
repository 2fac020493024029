"""Ways to train, the ceiling, and how many operations there are, against hand counts."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.models.notebook_cnn import build_model
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


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_every_case_takes_its_steps(train, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    folder = input_cases.class_folders(train, tmp_path)
    found = train_cases.cases(str(folder), 32, 2, 0.0, ["float32"], on_gpu=False)
    rows = cases.measure_rates(
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
@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_ceiling_is_compiled_as_the_steps_are(ours, jit_compile, monkeypatch):
    function, made, calls = tf.function, [], []

    def spied(body=None, **options):
        if body is None:
            return lambda body: spied(body, **options)
        made.append(options)
        compiled = function(body, **options)
        return lambda *given: calls.append(given) or compiled(*given)

    monkeypatch.setattr(tf, "function", spied)
    take = ceiling.products_alone("float32", 5, ours=ours, jit_compile=jit_compile)
    # XLA compiles a step, and the loop over steps is compiled around it.
    assert [options.get("jit_compile", False) for options in made] == [True] * jit_compile + [False]
    assert take(7) == 35
    outermost = [given for given in calls if given]
    assert [int(count) for [count] in outermost] == [7]
    assert take(1) == 5


def test_a_gpu_has_xla_and_every_policy():
    found = train_cases.cases("folder", 64, 6, 1.0, ["float32", "mixed_float16"], on_gpu=True)
    names = [case.name for case in found]
    assert [name for name in names if name.startswith("ours, ")] == [
        "ours, float32",
        "ours, float32, XLA",
        "ours, mixed_float16",
        "ours, mixed_float16, XLA",
    ]
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("TensorFlow's")] == [
        "TensorFlow's products alone, float32",
        "TensorFlow's products alone, float32, XLA",
        "TensorFlow's products alone, mixed_float16",
        "TensorFlow's products alone, mixed_float16, XLA",
    ]
    assert all(case.gpu for case in found)
    on_cpu = train_cases.cases("folder", 64, 6, 1.0, ["float32"], on_gpu=False)
    assert not any(case.gpu or case.facts["xla"] for case in on_cpu)


def test_a_row_is_compared_with_the_ceiling_that_is_compiled_as_it_is():
    found = train_cases.cases("folder", 64, 6, 1.0, ["float32", "mixed_float16"], on_gpu=True)
    rates = itertools.count(100.0)
    rows = [{"name": case.name, **case.facts, "images_per_second": next(rates)} for case in found]
    rate = {row["name"]: row["images_per_second"] for row in rows}
    share = {row["name"]: row["of_ceiling"] for row in train_cases.with_shares(rows, 64)}
    top = "TensorFlow's products alone, "
    for name, ceiling_name in (
        # Keras' fit is compiled by XLA where there is a GPU, PyTorch's eager steps never are.
        (train_cases.BASELINE, "float32, XLA"),
        ("PyTorch, float32", "float32"),
        ("ours, float32", "float32"),
        ("ours, float32, XLA", "float32, XLA"),
        ("ours, mixed_float16, XLA", "mixed_float16, XLA"),
        ("our products alone, mixed_float16", "mixed_float16"),
    ):
        assert share[name] == rate[name] / rate[top + ceiling_name]
    assert share["PyTorch, bfloat16"] is None


@pytest.fixture
def gpu(monkeypatch):
    """A function that has TensorFlow see a GPU of this name and compute capability."""

    def plug_in(name, capability):
        device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
        details = {"device_name": name, "compute_capability": capability}
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [device])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)

    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    return plug_in


def test_the_peak_is_of_the_gpu_that_is_there(gpu):
    gpu("NVIDIA H100 80GB HBM3", (9, 0))
    assert machine.peak_flops(machine.arithmetic("mixed_float16")) == 989e12
    assert machine.peak_flops(machine.arithmetic("mixed_bfloat16")) == 989e12
    gpu("Tesla T4", (7, 5))
    assert machine.arithmetic("float32") == "float32"
    assert machine.peak_flops(machine.arithmetic("mixed_float16")) is None


@pytest.mark.parametrize(
    ("override", "arithmetic", "peak"), [("", "TF32", 495e12), ("0", "float32", 67e12)]
)
def test_float32_is_compared_with_the_peak_of_what_it_is_multiplied_in(
    override, arithmetic, peak, gpu, monkeypatch
):
    gpu("NVIDIA H100 80GB HBM3", (9, 0))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    rows = [{"name": "a", "policy": "float32", "xla": False, "images_per_second": 1e6}]
    [row] = train_cases.with_shares(rows, 64)
    assert row["arithmetic"] == arithmetic
    assert row["of_peak"] == pytest.approx(1e6 * work.training_flops() / peak)
