import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from export.formats import saved_model
from fer_pipeline import images as faces_lib
from fer_pipeline.classes import CLASS_NAMES


@pytest.fixture(scope="module")
def loaded(exported):
    import tensorflow as tf

    return tf.saved_model.load(str(exported.folder / "saved_model/1"))


def _file(face, kind, mode, size):
    """A face as the bytes of an image file; its colours differ from one another."""
    image = Image.fromarray(face[..., 0]).resize(size, Image.Resampling.BICUBIC)
    if mode == "RGB":
        grey = np.asarray(image)
        image = Image.fromarray(np.stack([grey, 255 - grey, grey // 2], axis=-1))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_serving_default_takes_any_batch(loaded, faces, reference_model):
    import tensorflow as tf

    serve = loaded.signatures["serving_default"]
    for count in (1, 33):
        image = tf.constant(faces.images[:count], tf.float32)
        found = serve(image=image)["probabilities"].numpy()
        np.testing.assert_allclose(found, reference_model[:count], atol=1e-5)


def test_classify_takes_bytes_and_gives_names_and_scores(loaded, faces, reference_model):
    import tensorflow as tf

    result = loaded.signatures["classify"](image=tf.constant(faces.images[:50]))
    labels = [label.decode() for label in result["label"].numpy()]
    assert labels == [CLASS_NAMES[i] for i in reference_model[:50].argmax(axis=1)]
    assert len(set(labels)) > 3
    np.testing.assert_allclose(result["score"].numpy(), reference_model[:50].max(axis=1), atol=1e-5)


def test_serve_encoded_takes_image_files_of_any_kind_and_size(loaded, network, faces):
    import tensorflow as tf

    kinds = [
        (kind, mode, size)
        for kind in ("PNG", "JPEG")
        for mode in ("L", "RGB")
        for size in ((48, 48), (100, 100), (31, 77))
    ]
    files = [_file(face, *kind) for face, kind in zip(faces.images, kinds, strict=False)]
    found = loaded.signatures["serve_encoded"](image_bytes=tf.constant(files))
    decoded = faces_lib.decode_faces(files, [str(kind) for kind in kinds])
    assert decoded.converted == 10
    expected = network.predict(decoded.images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found["probabilities"].numpy(), expected, atol=1e-5)
    # The first file is a face as it is: neither resized nor turned into grey.
    as_it_is = network.predict(faces.images[:1].astype(np.float32), verbose=0)
    np.testing.assert_allclose(found["probabilities"].numpy()[:1], as_it_is, atol=1e-5)


NO_IMAGE = """
import json, sys
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
none = {
    "serving_default": {"image": tf.zeros([0, 48, 48, 1])},
    "classify": {"image": tf.zeros([0, 48, 48, 1], tf.uint8)},
    "serve_encoded": {"image_bytes": tf.constant([], tf.string)},
}
print(json.dumps({
    name: {output: value.shape.as_list() for output, value in signatures[name](**given).items()}
    for name, given in none.items()
}))
"""


# oneDNN's kernels fail on an empty batch; each setting needs a process of its own.
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_no_image_at_all_is_no_error_whatever_kernels_are_chosen(exported, onednn):
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", NO_IMAGE, str(exported.folder / "saved_model/1")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-500:]
    assert json.loads(result.stdout) == {
        "serving_default": {"probabilities": [0, 7]},
        "classify": {"label": [0], "score": [0]},
        "serve_encoded": {"probabilities": [0, 7]},
    }


def test_a_writer_that_does_not_end_is_ended(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "_SECONDS", 0.05)
    archive, labels_file = exported.folder / "model.keras", exported.folder / "labels.txt"
    with pytest.raises(RuntimeError, match=r"could not be written: did not end within 0 s"):
        saved_model.write_apart(archive, tmp_path / "1", labels_file)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize("keep", [0, 4, 20, 0.5])
def test_serve_encoded_refuses_what_is_no_whole_image(loaded, faces, kind, keep):
    import tensorflow as tf

    whole = _file(faces.images[0], kind, "L", (48, 48))
    cut = whole[: keep if keep != 0.5 else len(whole) // 2]
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["serve_encoded"](image_bytes=tf.constant([whole, cut]))


def test_the_class_names_are_an_asset(exported):
    asset = exported.folder / "saved_model/1/assets/labels.txt"
    assert asset.read_text().splitlines() == list(CLASS_NAMES)


def test_what_a_process_did_before_does_not_show(exported, tmp_path):
    # This one has traced a good deal; the file is written by one that has not.
    archive, labels_file = exported.folder / "model.keras", exported.folder / "labels.txt"
    saved_model.write_apart(archive, tmp_path / "1", labels_file)
    ours, theirs = _files(tmp_path / "1"), _files(exported.folder / "saved_model/1")
    assert set(ours) == set(theirs)
    # TensorFlow puts a random id into it.
    assert {name for name in ours if ours[name] != theirs[name]} <= {"fingerprint.pb"}
