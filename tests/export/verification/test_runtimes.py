import numpy as np
import pytest

from export.spec.artifacts import ARTIFACTS
from export.verification.runtimes import RuntimeFailedError, opened


def test_litert_runs_without_tensorflow_and_this_project(exported, faces, reference_model):
    with opened(ARTIFACTS["float32"], exported.folder, None) as opened_artifact:
        found = opened_artifact.predict(faces.images[:9])
        modules = set(opened_artifact.modules())
    np.testing.assert_allclose(found, reference_model[:9], atol=1e-4)
    assert "ai_edge_litert" in modules
    assert not modules & {"tensorflow", "keras", "export", "fer_pipeline"}


def test_the_saved_model_runs_without_keras_and_this_project(exported, faces, reference_model):
    with opened(ARTIFACTS["saved_model"], exported.folder, None) as opened_artifact:
        # 70 images: a full batch and a remainder.
        found = opened_artifact.predict(faces.images[:70])
        decoded = opened_artifact.encoded(faces.images[:70])
        seconds = opened_artifact.seconds(faces.images[:2], 3)
        modules = set(opened_artifact.modules())
    np.testing.assert_allclose(found, reference_model[:70], atol=1e-4)
    np.testing.assert_allclose(decoded, reference_model[:70], atol=1e-4)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert "tensorflow" in modules
    assert not modules & {"keras", "export", "fer_pipeline"}


@pytest.mark.parametrize("keep", [0, 100, 20000])
def test_a_damaged_tflite_file_is_a_failure_of_that_file(copy, faces, keep):
    path = copy / "model_int8.tflite"
    path.write_bytes(path.read_bytes()[:keep])
    with (
        opened(ARTIFACTS["int8"], copy, None) as opened_artifact,
        pytest.raises(RuntimeFailedError),
    ):
        opened_artifact.predict(faces.images[:2])


@pytest.mark.parametrize(
    ("artifact", "name"),
    [("keras", "model.json"), ("keras", "model_weights.h5"), ("keras_v3", "model.keras")],
)
def test_damaged_keras_files_are_a_failure(copy, faces, artifact, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:1000])
    with (
        opened(ARTIFACTS[artifact], copy, None) as opened_artifact,
        pytest.raises(RuntimeFailedError),
    ):
        opened_artifact.predict(faces.images[:2])


def test_a_changed_weight_in_the_archive_is_a_failure(copy, faces):
    path = copy / "model.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with (
        opened(ARTIFACTS["keras_v3"], copy, None) as opened_artifact,
        pytest.raises(RuntimeFailedError, match="CRC"),
    ):
        opened_artifact.predict(faces.images[:2])


def test_keras_stops_when_the_block_ends(exported, faces):
    with opened(ARTIFACTS["keras"], exported.folder, None) as opened_artifact:
        pass
    with pytest.raises(RuntimeFailedError, match="closed"):
        opened_artifact.predict(faces.images[:2])


@pytest.mark.parametrize("name", ["keras", "keras_v3"])
def test_keras_models_are_computed_on_the_cpu_without_xla(exported, name):
    from export.formats.inference_model import inference_model
    from fer_pipeline.inference import keras_loader

    model = keras_loader.load(exported.folder / ARTIFACTS[name].path)
    for one in (model, inference_model(model.get_weights())):
        assert one.jit_compile is False
        assert all("CPU:0" in variable.value.device for variable in one.weights)


def test_another_kind_of_keras_model_is_a_failure(tmp_path, faces):
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(7)]).save(tmp_path / "model.keras")
    with (
        opened(ARTIFACTS["keras_v3"], tmp_path, None) as opened_artifact,
        pytest.raises(RuntimeFailedError, match="ValueError"),
    ):
        opened_artifact.predict(faces.images[:2])
