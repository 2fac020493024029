import json
import zipfile

import h5py
import numpy as np
import pytest

from export.formats import keras_files
from export.formats.inference_model import inference_model
from fer_pipeline.inference import keras_loader


def test_stock_keras_3_loads_both_files(exported, faces, reference_model):
    import keras

    model = keras.models.model_from_json((exported.folder / "model.json").read_text())
    model.load_weights(exported.folder / "model_weights.h5")
    found = model.predict(faces.images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, reference_model, atol=1e-5)


def test_stock_keras_3_loads_the_archive(exported, faces, reference_model):
    import keras

    model = keras.models.load_model(exported.folder / "model.keras")
    found = model.predict(faces.images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, reference_model, atol=1e-5)


def test_the_archive_knows_no_time_and_no_random_state(exported, weights, tmp_path):
    labels = (exported.folder / "labels.txt").read_text()
    keras_files.write_archive(inference_model(weights), tmp_path / "model.keras", labels)
    content = (tmp_path / "model.keras").read_bytes()
    assert content == (exported.folder / "model.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
        assert json.loads(archive.read("metadata.json"))["keras_version"].startswith("3.")


@pytest.mark.parametrize("name", ["model.json", "model.keras"])
def test_the_weights_are_read_in_the_networks_order(exported, weights, name):
    found = keras_loader.load(exported.folder / name).get_weights()
    for ours, original in zip(found, weights, strict=True):
        np.testing.assert_array_equal(ours, original)


def test_keras_2_loads_both_files(exported, faces, reference_model):
    import tf_keras

    model = tf_keras.models.model_from_json((exported.folder / "model.json").read_text())
    model.load_weights(exported.folder / "model_weights.h5")
    found = model.predict(faces.images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, reference_model, atol=1e-5)


def test_the_json_has_keras_2s_form(exported):
    model = json.loads((exported.folder / "model.json").read_text())
    first, *others = model["config"]["layers"]
    assert first["config"]["batch_input_shape"] == [None, 48, 48, 1]
    assert all(layer["config"]["dtype"] == "float32" for layer in [first, *others])
    known_only_to_keras_3 = {"batch_shape", "optional", "quantization_config", "renorm", "groups"}
    for layer in [first, *others]:
        assert not known_only_to_keras_3 & set(layer["config"])


def test_the_json_keeps_every_layer_and_its_arguments(exported, weights):
    import keras

    ours = keras.models.model_from_json((exported.folder / "model.json").read_text())
    original = inference_model(weights)
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in original.layers]
    for loaded, layer in zip(ours.layers, original.layers, strict=True):
        assert loaded.output.shape == layer.output.shape
        for name in ("name", "rate", "epsilon", "momentum", "padding", "activation"):
            assert getattr(loaded, name, None) == getattr(layer, name, None)


def test_the_weights_have_one_group_per_layer_in_order(exported, weights):
    with h5py.File(exported.folder / "model_weights.h5") as file:
        layers = [name.decode() for name in file.attrs["layer_names"]]
        names = [name.decode() for layer in layers for name in file[layer].attrs["weight_names"]]
        stored = [
            file[layer][name][:] for layer in layers for name in file[layer].attrs["weight_names"]
        ]
    assert layers[:3] == ["conv2d", "batch_normalization", "activation"]
    assert names[:3] == ["conv2d/kernel:0", "conv2d/bias:0", "batch_normalization/gamma:0"]
    assert len(stored) == len(weights)
    for ours, original in zip(stored, weights, strict=True):
        np.testing.assert_array_equal(ours, original)


def test_the_same_weights_give_the_same_bytes(exported, weights, tmp_path):
    # Those of the export were written seconds ago: a time of writing would show.
    keras_files.write(
        inference_model(weights), tmp_path, (exported.folder / "labels.txt").read_text()
    )
    for name in ("model.json", "model_weights.h5"):
        assert (tmp_path / name).read_bytes() == (exported.folder / name).read_bytes()


def test_what_float16_cannot_hold_stays_as_it_is(tmp_path):
    import keras

    image = keras.Input((2, 2, 1))
    model = keras.Model(image, keras.layers.BatchNormalization(name="bn")(image))
    values = [np.array([value], np.float32) for value in (0.1, 0.2, 3.3, 117574.0)]
    model.set_weights(values)
    keras_files.write_weights(model, tmp_path / "w.h5", dtype=np.float16)
    with h5py.File(tmp_path / "w.h5") as file:
        kept = [file["bn"][name][()] for name in file["bn"].attrs["weight_names"].astype(str)]
    assert [array.dtype for array in kept] == [np.float16] * 3 + [np.float32]
    expected = [*(value.astype(np.float16) for value in values[:3]), values[3]]
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(expected))
    model.load_weights(tmp_path / "w.h5")
    np.testing.assert_array_equal(model.get_weights()[3], values[3])


def test_an_unknown_layer_is_refused():
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.LayerNormalization(name="strange")])
    with pytest.raises(ValueError, match=r"strange.*LayerNormalization"):
        keras_files.architecture_json(model)
