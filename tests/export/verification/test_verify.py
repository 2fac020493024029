import os
import shutil
import time

import numpy as np
import pytest

from export.spec import golden as golden_lib
from export.spec.artifacts import ARTIFACTS
from export.spec.io_spec import get_io_spec
from export.verification import verify
from export.verification.runtimes import Runtime, RuntimeFailedError
from fer_pipeline.classes import CLASS_NAMES


def _verify(folder, names, faces, reference_model, **options):
    return verify.verify_artifacts(
        folder,
        {name: ARTIFACTS[name] for name in names},
        verify.Evaluation(faces.images[:70], faces.labels[:70], reference_model[:70]),
        golden_lib.read(folder / "golden.npz"),
        log_path=None,
        **options,
    )


def test_an_exchanged_file_has_another_io_spec(copy, faces, reference_model):
    shutil.copy(copy / "model_int8.tflite", copy / "model_float32.tflite")
    [report] = _verify(copy, ["float32"], faces, reference_model)
    assert "inputs and outputs" in report.failures[0]
    assert report.comparison is None


def test_a_network_with_other_weights_misses_its_gates(copy, faces, reference_model, weights):
    from export.formats import keras_files
    from export.formats.inference_model import inference_model

    other = inference_model([*weights[:-1], weights[-1] + np.arange(7, dtype=np.float32)])
    keras_files.write(other, copy)
    [report] = _verify(copy, ["keras"], faces, reference_model)
    difference, agreement, on_golden = report.failures
    assert difference.startswith("a probability differs by")
    assert agreement.startswith("names ")
    assert on_golden.startswith("on the golden faces a probability differs by")
    assert report.comparison.max_difference > 0.01
    assert report.golden_difference > 0.01


def test_one_damaged_file_leaves_the_others_their_figures(copy, faces, reference_model):
    path = copy / "model_float16.tflite"
    path.write_bytes(path.read_bytes()[:5000])
    damaged, whole = _verify(copy, ["float16", "int8"], faces, reference_model)
    assert damaged.failures
    assert damaged.comparison is None
    assert damaged.latency is None
    assert damaged.size == 5000
    assert whole.failures == ()
    assert whole.latency.p50_ms > 0


def test_a_file_that_goes_away_meanwhile_is_a_failure(copy, faces, reference_model, monkeypatch):
    measure = verify.measure_latency

    def and_delete(*arguments):
        (copy / "model_float32.tflite").unlink()
        return measure(*arguments)

    monkeypatch.setattr(verify, "measure_latency", and_delete)
    [report] = _verify(copy, ["float32"], faces, reference_model)
    assert report.failures == ("cannot be read (No such file or directory)",)


@pytest.mark.parametrize(
    ("labels", "scores", "right"),
    [
        (["sad", "angry"], [0.9, 0.6], True),
        (["sad", "disgust"], [0.9, 0.6], False),
        (["sad", "angry"], [0.9, 0.61], False),
        (["sad", "angry"], [0.9, float("nan")], False),
    ],
)
def test_classify_must_not_contradict_serving_default(labels, scores, right):
    probabilities = np.zeros((2, 7), np.float32)
    probabilities[0, 5], probabilities[1, 0] = 0.9, 0.6
    runtime = Runtime(None, None, None, classify=lambda images: (labels, scores))
    failures = verify._wrong_classes(runtime, None, probabilities, CLASS_NAMES)
    assert (failures == ()) is right


@pytest.mark.parametrize(("change", "right"), [(0.0, True), (1e-6, True), (1e-3, False)])
def test_serve_encoded_must_not_contradict_serving_default(change, right):
    probabilities = np.eye(7, dtype=np.float32)
    runtime = Runtime(None, None, None, encoded=lambda images: probabilities + change)
    assert (verify._wrong_decoding(runtime, None, probabilities) == ()) is right
    fewer = Runtime(None, None, None, encoded=lambda images: probabilities[:1])
    assert verify._wrong_decoding(fewer, None, probabilities)


def test_ctrl_c_does_not_wait_for_running_predictions(
    exported, faces, reference_model, monkeypatch, tmp_path
):
    # A child that takes a request, says so and never replies; after a minute it ends itself.
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, signal, sys\n"
        "signal.alarm(60)\n"
        f"io_spec = {get_io_spec('float32')!r}\n"
        "print(json.dumps({'io_spec': io_spec, 'modules': []}), flush=True)\n"
        "sys.stdin.readline()\n"
        f"open({str(asked)!r}, 'w').close()\n"
        "signal.pause()\n"
    )
    monkeypatch.setattr("fer_pipeline.inference.runtime_client._WORKER", script)

    def interrupted():
        yield "float32"
        asked.read_bytes()
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _verify(exported.folder, ["float32"], faces, reference_model, written=interrupted())
    assert time.monotonic() - started < 45


def test_nan_and_wrong_shapes_are_failures():
    assert verify._malformed(np.zeros((3, 7)), 3, 7) == ()
    assert "NaN" in verify._malformed(np.full((3, 7), np.nan), 3, 7)[0]
    assert "shape" in verify._malformed(np.zeros((3, 6)), 3, 7)[0]


def test_latency_takes_turns_and_drops_the_warm_up():
    calls = []

    def runtime(name, values):
        def seconds(images, repeats):
            calls.append(name)
            return [values[min(calls.count(name), len(values)) - 1]] * repeats

        return Runtime(None, None, seconds)

    def failing(images, repeats):
        raise RuntimeFailedError("gone")

    found = verify.measure_latency(
        {
            "slow": runtime("slow", [9.0, 0.004]),
            "gone": Runtime(None, None, failing),
            "fast": runtime("fast", [9.0, 0.001]),
        },
        np.zeros((1, 48, 48, 1), np.uint8),
    )
    assert set(found) == {"slow", "fast"}
    assert found["slow"].p50_ms == pytest.approx(4.0)
    assert found["fast"].p90_ms == pytest.approx(1.0)
    assert calls[:4] == ["slow", "fast", "slow", "fast"]
