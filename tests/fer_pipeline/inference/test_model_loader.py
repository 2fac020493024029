"""Every kind of model answers as Keras does; whatever is wrong is one line."""

import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.errors import UserError
from fer_pipeline.inference import model_loader, runtime_client, runtime_worker
from fer_pipeline.models.notebook_cnn import build_model
from fer_pipeline.training import checkpoints


def small_model(batch_size=None, classes=7, channels=1):
    layers = [
        keras.Input(batch_shape=(batch_size, 48, 48, channels)),
        keras.layers.AveragePooling2D(8, name="pool"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(classes, activation="softmax", name="dense"),
    ]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.005, w.shape) for w in model.get_weights()])
    return model


def to_tflite(path, *, quantised=False, batch_size=1, **options):
    model = small_model(batch_size=batch_size, **options)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        converter.representative_dataset = lambda: (
            [image[np.newaxis].astype(np.float32)] for image in faces(64, seed=8)
        )
    path.write_bytes(converter.convert())
    return path


def faces(count, seed=0):
    """Smooth random pictures, so that averages differ from image to image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def write_legacy_weights(model, path):
    """The layout of Keras 2's ``save_weights``: a group a layer, names in attributes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [w.path.encode() for w in layer.weights]
            for weight in layer.weights:
                group[weight.path] = np.asarray(weight)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One small network in every form that can be opened."""
    folder = tmp_path_factory.mktemp("models")
    model = small_model()
    model.export(folder / "saved_model" / "1", verbose=False)
    model.export(folder / "saved_model" / "12", verbose=False)
    (folder / "model.json").write_text(model.to_json())
    write_legacy_weights(model, folder / "model_weights.h5")
    model.save(folder / "model.keras")
    to_tflite(folder / "float32.tflite")
    to_tflite(folder / "uint8.tflite", quantised=True)
    return folder


@pytest.fixture(scope="module")
def expected():
    return small_model().predict(faces(20).astype(np.float32), verbose=0)


@pytest.mark.parametrize(
    "name", ["float32.tflite", "saved_model", "saved_model/1", "model.json", "model.keras"]
)
def test_models_answer_as_keras_does(models, expected, name):
    # Averages are no operator of an export's.
    trust = name.startswith("saved_model")
    probabilities = model_loader.open_model(models / name, trust=trust)(faces(20))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    # A network that answers the same whatever it sees would not be a test.
    assert len(set(expected.argmax(axis=1))) > 1


def test_a_quantised_model_is_converted_at_both_ends(models, expected):
    probabilities = model_loader.open_model(models / "uint8.tflite")(faces(20))
    # Softmax' output has a scale of 1/256; the weights have seven bits.
    np.testing.assert_array_equal(probabilities * 256, np.rint(probabilities * 256))
    np.testing.assert_allclose(probabilities, expected, atol=0.03)


def test_a_run_answers_with_the_checkpoint_that_it_exported(tmp_path):
    model = build_model()
    optimizer = keras.optimizers.SGD()
    optimizer.build([])
    best = model.get_weights()
    checkpoints.save(tmp_path, checkpoints.capture(model, optimizer, {"epoch": 1}), best=True)
    model.set_weights([weight + 0.01 for weight in best])
    last = model.predict(faces(3).astype(np.float32), verbose=0)
    checkpoints.save(tmp_path, checkpoints.capture(model, optimizer, {"epoch": 2}), best=False)
    config = {"data": "synthetic", "fingerprint": "", "versions": {}, "export_checkpoint": "last"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    np.testing.assert_allclose(model_loader.open_model(tmp_path)(faces(3)), last, atol=1e-5)
    (tmp_path / "config.json").write_text(json.dumps(config | {"export_checkpoint": "best"}))
    model = model_loader.reference_model(tmp_path)
    for found, wanted in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(found, wanted)


def damage(path, to, seed):
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(8, len(data), 300):
        data[position] = rng.integers(256)
    to.write_bytes(data)
    return to


@pytest.mark.parametrize("what", ["missing", "text", "empty", "folder", "damaged", "cut"])
def test_what_is_no_model_is_a_mistake_of_the_user(models, tmp_path, what):
    path = tmp_path / "model.tflite"
    good = models / "float32.tflite"
    match what:
        case "text":
            path.write_text("a text that is no model")
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.mkdir()
        case "damaged":
            damage(good, path, seed=3)
        case "cut":
            path.write_bytes(good.read_bytes()[:200])
    with pytest.raises(UserError) as error:
        model_loader.open_model(path)(faces(1))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_names_of_answers_are_asked_of_damaged_weights_in_one_line(models, tmp_path):
    for name in ("model.json", "model_weights.h5"):
        content = (models / name).read_bytes()
        (tmp_path / name).write_bytes(content[: -100 if name.endswith("h5") else None])
    with pytest.raises(UserError, match=r"model\.json: (cannot be read|damaged)"):
        model_loader.class_names(tmp_path / "model.json")


def test_a_damaged_saved_model_or_keras_file_is_named(models, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(UserError, match="damaged"):
        model_loader.open_model(tmp_path)
    (tmp_path / "model.json").write_text((models / "model.json").read_text())
    with pytest.raises(UserError, match=r"model_weights\.h5: not there"):
        model_loader.open_model(tmp_path / "model.json")
    (tmp_path / "model_weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(UserError, match="damaged"):
        model_loader.open_model(tmp_path / "model.json")


@pytest.mark.parametrize("what", ["text", "cut", "a byte", "weights"])
def test_a_damaged_keras_archive_is_named(models, tmp_path, what):
    path = tmp_path / "model.keras"
    content = bytearray((models / "model.keras").read_bytes())
    # The middle lies among the weights.
    content[len(content) // 2] ^= 1
    match what:
        case "text":
            path.write_text("a text")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "a byte":
            path.write_bytes(content)
        case "weights":
            path.write_bytes((models / "model_weights.h5").read_bytes())
    with pytest.raises(UserError, match=r"model\.keras: damaged or not a model") as error:
        model_loader.open_model(path)
    assert "\n" not in str(error.value)


def test_a_fixed_batch_of_several_images_is_filled_up(tmp_path, expected):
    path = to_tflite(tmp_path / "eight.tflite", batch_size=8)
    # 20 images: two calls and a half.
    np.testing.assert_allclose(model_loader.open_model(path)(faces(20)), expected, atol=1e-5)


def test_a_file_of_several_signatures_answers_by_its_first(tmp_path, expected):
    kernel, bias = (tf.constant(w) for w in small_model().get_weights())

    def answer(image):
        pooled = tf.nn.avg_pool2d(image, 8, 8, "VALID")
        return tf.nn.softmax(tf.reshape(pooled, [1, 36]) @ kernel + bias)

    spec = tf.TensorSpec((1, 48, 48, 1), tf.float32)
    served = tf.function(answer).get_concrete_function(spec)
    brighter = tf.function(lambda image: answer(image + 1)).get_concrete_function(spec)
    module = tf.Module()
    signatures = {"serving_default": served, "warmer": brighter}
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path / "saved"), signature_keys=list(signatures)
    )
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    found = model_loader.open_model(tmp_path / "two.tflite")(faces(20))
    np.testing.assert_allclose(found, expected[:20], atol=1e-5)


def test_an_rgb_model_gets_the_face_in_three_channels(tmp_path):
    path = to_tflite(tmp_path / "rgb.tflite", channels=3)
    wanted = small_model(channels=3).predict(
        np.concatenate([faces(5)] * 3, axis=-1).astype(np.float32), verbose=0
    )
    np.testing.assert_allclose(model_loader.open_model(path)(faces(5)), wanted, atol=1e-5)


@pytest.mark.parametrize("options", [{"classes": 1}, {"channels": 2}])
def test_models_with_other_ends_are_refused(tmp_path, options):
    tflite = to_tflite(tmp_path / "other.tflite", **options)
    with pytest.raises(UserError, match="another kind of model"):
        model_loader.open_model(tflite)(faces(1))
    small_model(**options).export(tmp_path / "1", verbose=False)
    with pytest.raises(UserError, match="another kind of model"):
        model_loader.open_model(tmp_path, trust=True)(faces(1))


@pytest.mark.parametrize("name", ["model.keras", "model.json", "run"])
def test_keras_models_and_runs_take_batches_too(models, tmp_path, monkeypatch, name):
    seen = []
    in_batches = runtime_worker.in_batches

    def spy(run, images, fixed):
        seen.append((len(images), fixed))
        return in_batches(run, images, fixed)

    monkeypatch.setattr(runtime_worker, "in_batches", spy)
    path = models / name
    if name == "run":
        path = tmp_path
        monkeypatch.setattr(model_loader, "reference_model", lambda run: small_model())
        (path / "config.json").touch()
    model_loader.open_model(path)(faces(70))
    assert seen == [(70, None)]


def test_a_keras_model_of_a_fixed_batch_is_filled_up(tmp_path, expected):
    small_model(batch_size=8).save(tmp_path / "model.keras")
    found = model_loader.open_model(tmp_path / "model.keras")(faces(20))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_process_that_gives_no_answer_is_ended(models, monkeypatch):
    monkeypatch.setattr(runtime_client, "_SECONDS", 0.01)
    monkeypatch.setattr(runtime_client, "_SECONDS_AN_IMAGE", 0.0)
    with pytest.raises(UserError, match=r"float32\.tflite: .*did not answer within 0 s"):
        model_loader.open_model(models / "float32.tflite")(faces(1))
