"""The RGB files in MediaPipe Tasks, unchanged: our labels with our probabilities."""

import numpy as np
import pytest

from export.spec.artifacts import ARTIFACTS

LABELS = "angry disgust fear happy neutral sad surprise".split()


@pytest.fixture(scope="module")
def mediapipe():
    return pytest.importorskip("mediapipe", reason="pip install mediapipe, or '.[mobile]'")


@pytest.fixture
def classifier(mediapipe, exported):
    """Opens a file of the export as README shows it."""
    from mediapipe.tasks.python import vision

    opened = []

    def open_file(name):
        path = exported.folder / ARTIFACTS[name].path
        try:
            opened.append(vision.ImageClassifier.create_from_model_path(str(path)))
        except OSError as error:
            # MediaPipe's library is linked with the system's OpenGL ES even where it runs on a CPU.
            pytest.skip(f"apt-get install libegl1 libgles2 ({error})")
        return opened[-1]

    yield open_file
    for one in opened:
        one.close()


def _probabilities(mediapipe, classifier, images):
    """By label, in our order."""
    found = []
    for image in images:
        pixels = np.ascontiguousarray(image)
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        [head] = classifier.classify(picture).classifications
        scores = {category.category_name: category.score for category in head.categories}
        assert sorted(scores) == LABELS
        found.append([scores[label] for label in LABELS])
    return np.array(found)


@pytest.fixture(scope="module")
def colours(faces):
    lights = np.random.default_rng(7).uniform(0.6, 1.4, (30, 1, 1, 3))
    return np.clip(np.rint(faces.images[:30] * lights), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["float32_rgb", "int8_rgb"])
def test_mediapipe_gives_what_litert_gives(mediapipe, classifier, exported, colours, name):
    from ai_edge_litert.interpreter import Interpreter

    found = _probabilities(mediapipe, classifier(name), colours)
    interpreter = Interpreter(model_path=str(exported.folder / ARTIFACTS[name].path))
    interpreter.allocate_tensors()
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    for image, probabilities in zip(colours, found, strict=True):
        interpreter.set_tensor(source["index"], image[None].astype(source["dtype"]))
        interpreter.invoke()
        expected = interpreter.get_tensor(target["index"])[0]
        if expected.dtype == np.uint8:
            expected = expected / 256
        np.testing.assert_allclose(probabilities, expected, atol=1e-2)


def test_mediapipe_gives_the_networks_probabilities(mediapipe, classifier, faces, reference_model):
    grey = faces.images[:70].repeat(3, axis=-1)
    found = _probabilities(mediapipe, classifier("float32_rgb"), grey)
    np.testing.assert_allclose(found, reference_model[:70], atol=1e-2)
    assert len(set(found.argmax(axis=1))) > 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_crop_of_any_size_is_resized_as_readme_does_it(
    mediapipe, classifier, exported, faces, mode
):
    """Against ``fer_pipeline.predict``, which has its own antialiased resize."""
    import PIL.Image

    from fer_pipeline.images import FACE_SHAPE, resize
    from fer_pipeline.inference import model_loader

    grain = np.random.default_rng(3).normal(0, 40, (20, 480, 480))
    large = np.kron(faces.images[:20, ..., 0], np.ones((10, 10))) + grain
    large = np.clip(np.rint(large), 0, 255).astype(np.uint8)
    pictures = [PIL.Image.fromarray(image).convert(mode) for image in large]
    small = [
        np.array(picture.convert("RGB").resize((48, 48), PIL.Image.Resampling.BILINEAR))
        for picture in pictures
    ]
    found = _probabilities(mediapipe, classifier("float32_rgb"), small)
    resized = np.stack([resize(image[..., None]) for image in large])
    assert resized.shape[1:] == FACE_SHAPE
    path = exported.folder / ARTIFACTS["float32_rgb"].path
    np.testing.assert_allclose(found, model_loader.open_model(path)(resized), atol=2e-2)


def test_the_grey_files_are_not_for_mediapipe(classifier):
    """Why there are RGB files."""
    with pytest.raises(ValueError, match="RGB"):
        classifier("int8")
