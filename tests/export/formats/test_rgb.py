import numpy as np
import pytest

from export.formats import rgb
from export.formats.inference_model import inference_model
from fer_pipeline import images as faces_lib

WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def tinted(faces):
    """Faces under lights of all colours; their grey is seldom a whole level."""
    lights = np.random.default_rng(7).uniform(0.4, 1.6, (70, 1, 1, 3))
    return np.clip(np.rint(faces.images[:70] * lights), 0, 255).astype(np.uint8)


def _predict(network, images):
    return network.predict(images.astype(np.float32), verbose=0)


class TestRgbModel:
    def test_gives_what_the_network_gives_of_the_grey(self, weights, network, tinted):
        found = _predict(rgb.rgb_model(inference_model(weights)), tinted)
        grey = (tinted @ WEIGHTS)[..., np.newaxis]
        np.testing.assert_allclose(found, _predict(network, grey), atol=1e-5)
        assert len(set(found.argmax(axis=1))) > 1

    def test_leaves_the_network_as_it_was(self, weights, faces, reference_model):
        model = inference_model(weights)
        rgb.rgb_model(model)
        np.testing.assert_array_equal(_predict(model, faces.images), reference_model)
        for ours, theirs in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class TestColourImages:
    def test_their_grey_is_the_given_one_to_the_last_bit(self, faces):
        found = rgb.colour_images(faces.images[:30])
        assert found.shape == (30, 48, 48, 3)
        assert found.dtype == np.uint8
        thousandths = found.astype(int) @ [299, 587, 114]
        np.testing.assert_array_equal(thousandths, 1000 * faces.images[:30, ..., 0].astype(int))
        for colour, grey in zip(found[:4], faces.images[:4], strict=True):
            np.testing.assert_array_equal(faces_lib.to_face(colour), grey)

    def test_every_second_image_is_in_colour(self, faces):
        found = rgb.colour_images(faces.images[:30])
        np.testing.assert_array_equal(found[::2], faces.images[:30:2].repeat(3, axis=-1))
        spread = found[1::2].max(axis=-1).astype(int) - found[1::2].min(axis=-1)
        assert (np.mean(spread > 20, axis=(1, 2)) > 0.3).all()

    def test_black_and_white_stay_so(self):
        images = np.zeros((2, 48, 48, 1), np.uint8)
        images[:, ::2] = 255
        np.testing.assert_array_equal(rgb.colour_images(images), images.repeat(3, axis=-1))

    def test_the_seed_draws(self, faces):
        first, again = (rgb.colour_images(faces.images[:4]) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert (rgb.colour_images(faces.images[:4], seed=1) != first).any()


def test_the_float_file_converts_colours_as_numpy_does(exported, network, tinted, litert):
    found = litert((exported.folder / "model_float32_rgb.tflite").read_bytes(), tinted)
    grey = (tinted @ WEIGHTS)[..., np.newaxis]
    np.testing.assert_allclose(found, _predict(network, grey), atol=1e-4)


def test_rounding_the_grey_first_changes_little(exported, network, tinted, litert):
    rounded = np.array([faces_lib.to_face(image) for image in tinted])
    expected = _predict(network, rounded)
    found = litert((exported.folder / "model_float32_rgb.tflite").read_bytes(), tinted)
    assert np.abs(found - expected).max() < 0.05
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= 0.97


def test_the_int8_file_names_what_the_network_names_on_colours(exported, network, tinted, litert):
    found = litert((exported.folder / "model_int8_rgb.tflite").read_bytes(), tinted)
    expected = _predict(network, (tinted @ WEIGHTS)[..., np.newaxis])
    # Dim faces are near ties to so narrow a network; 8 bits may decide them otherwise.
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 0.1
    assert clear.sum() > 40
    assert np.mean((found.argmax(axis=1) == expected.argmax(axis=1))[clear]) >= 0.97
    assert np.abs(found / 256 - expected).mean() < 0.02


@pytest.mark.parametrize("name", ["float32_rgb", "int8_rgb"])
def test_exchanged_channels_miss_the_gates(name, faces, weights, tmp_path, monkeypatch):
    """A front for BGR is right on every grey image; the colours give it away."""
    from export import pipeline
    from fer_pipeline.errors import UserError

    monkeypatch.setattr(rgb, "GREY_WEIGHTS", rgb.GREY_WEIGHTS[::-1])
    with pytest.raises(UserError, match=rf"model_{name}\.tflite: "):
        pipeline.export_run(
            tmp_path,
            weights,
            train=faces,
            evaluation=faces,
            config={},
            metrics=None,
            log_path=tmp_path / "tf.log",
            formats=[name],
            say=lambda _: None,
        )
