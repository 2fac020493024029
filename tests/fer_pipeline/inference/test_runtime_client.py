"""A runtime in a process of its own: how it answers, and every way in which it may not."""

import os
import signal

import numpy as np
import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.inference import runtime_client, runtime_worker
from fer_pipeline.inference.runtime_client import RuntimeFailedError, opened


def faces(count):
    return np.zeros((count, 48, 48, 1), np.uint8)


def _replace_worker(monkeypatch, tmp_path, code):
    script = tmp_path / "worker.py"
    script.write_text(code)
    monkeypatch.setattr(runtime_client, "_WORKER", script)


def test_a_crash_is_named_by_its_signal(monkeypatch, tmp_path):
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"
    _replace_worker(monkeypatch, tmp_path, code)
    with (
        opened(tmp_path / "model.tflite") as runtime,
        pytest.raises(RuntimeFailedError, match="SIGSEGV"),
    ):
        runtime.io_spec()


def test_a_crash_while_running_is_a_failure(monkeypatch, tmp_path):
    code = 'import os\nprint(\'{"io_spec": {}, "modules": []}\', flush=True)\ninput()\nos.abort()\n'
    _replace_worker(monkeypatch, tmp_path, code)
    with opened(tmp_path / "model.tflite") as runtime:
        assert runtime.io_spec() == {}
        for _ in range(2):
            with pytest.raises(RuntimeFailedError, match="SIGABRT"):
                runtime.predict(faces(1))


def test_a_full_folder_for_temporary_files_is_named(monkeypatch, tmp_path):
    def write_half(*_):
        raise OSError("294912 requested and 204672 written")

    monkeypatch.setattr(np, "save", write_half)
    monkeypatch.setattr(runtime_client.tempfile, "tempdir", str(tmp_path))
    code = 'print(\'{"io_spec": {}, "modules": []}\', flush=True)\ninput()\n'
    _replace_worker(monkeypatch, tmp_path, code)
    with (
        opened(tmp_path / "model.tflite") as runtime,
        pytest.raises(UserError, match=f"^{tmp_path}: no room .*204672 written.*TMPDIR"),
    ):
        runtime.predict(faces(1))


def test_the_child_ends_with_the_block(monkeypatch, tmp_path):
    code = (
        "import json, os, sys\n"
        "print(json.dumps({'io_spec': {'pid': os.getpid()}, 'modules': []}), flush=True)\n"
        "sys.stdin.read()\n"
    )
    _replace_worker(monkeypatch, tmp_path, code)
    with opened(tmp_path / "model.tflite") as runtime:
        pid = runtime.io_spec()["pid"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_native_noise_goes_to_the_log(monkeypatch, tmp_path):
    code = (
        "import os\n"
        "os.write(2, b'noise of the runtime')\n"
        'print(\'{"io_spec": {}, "modules": []}\', flush=True)\n'
    )
    _replace_worker(monkeypatch, tmp_path, code)
    log = tmp_path / "tf.log"
    with opened(tmp_path / "model.tflite", log) as runtime:
        runtime.io_spec()
    assert log.read_text() == "noise of the runtime"


def test_a_child_that_never_answers_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime_client, "_SECONDS", 0.2)
    monkeypatch.setattr(runtime_client, "_SECONDS_AN_IMAGE", 0.1)
    # Were it not ended, an alarm would after a minute.
    _replace_worker(monkeypatch, tmp_path, "import signal; signal.alarm(60); signal.pause()")
    with (
        opened(tmp_path / "model.tflite") as runtime,
        pytest.raises(RuntimeFailedError, match="did not answer within 0 s"),
    ):
        runtime.predict(faces(2))


@pytest.mark.parametrize("reply", ['{"io_spec": {"inputs', "no reply at all", ""])
def test_a_reply_that_a_crash_cuts_off_is_a_failure(monkeypatch, tmp_path, reply):
    code = f"import os, sys\nsys.stdout.write({reply!r})\nsys.stdout.flush()\nos.abort()\n"
    _replace_worker(monkeypatch, tmp_path, code)
    with (
        opened(tmp_path / "model.tflite") as runtime,
        pytest.raises(RuntimeFailedError, match="SIGABRT"),
    ):
        runtime.io_spec()


def test_a_whole_line_that_is_no_reply_is_a_failure(monkeypatch, tmp_path):
    _replace_worker(monkeypatch, tmp_path, "print('{oops')\n")
    with (
        opened(tmp_path / "model.tflite") as runtime,
        pytest.raises(RuntimeFailedError, match="gave no reply"),
    ):
        runtime.io_spec()


def test_a_child_sees_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    code = (
        "import json, os\n"
        "seen = {'gpu': os.environ['CUDA_VISIBLE_DEVICES']}\n"
        "print(json.dumps({'io_spec': seen, 'modules': []}), flush=True)\n"
    )
    _replace_worker(monkeypatch, tmp_path, code)
    with opened(tmp_path / "model.tflite") as runtime:
        assert runtime.io_spec() == {"gpu": "-1"}


def test_quantised_values_are_rounded_and_clipped():
    details = {"dtype": np.int8, "quantization": (2.0, -100)}
    images = np.array([0, 3, 100, 255], np.uint8)
    np.testing.assert_array_equal(runtime_worker.quantized(images, details), [-100, -98, -50, 28])
    details = {"dtype": np.uint8, "quantization": (0.5, 0)}
    np.testing.assert_array_equal(runtime_worker.quantized(images, details), [0, 6, 200, 255])


@pytest.mark.parametrize("batch_size", [None, 8])
def test_pictures_are_taken_a_batch_at_a_time(batch_size):
    seen = []

    def run(images):
        seen.append(len(images))
        return np.repeat(images[:, 0, 0, :].astype(np.float32), 7, axis=1)

    images = np.arange(150, dtype=np.uint8)[:, None, None, None] * np.ones((48, 48, 1), np.uint8)
    found = runtime_worker.in_batches(run, images, batch_size)
    np.testing.assert_array_equal(found[:, 3], np.arange(150))
    assert seen == ([64, 64, 22] if batch_size is None else [8] * 19)
    assert runtime_worker.in_batches(run, images[:0], batch_size).shape == (0, 7)
