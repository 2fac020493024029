import numpy as np

from export import saved_model
from export.inference_model import inference_model
from fer_pipeline.expressions import CLASS_NAMES


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_serving_default_takes_any_batch(exported, faces, twin):
    import tensorflow as tf

    serve = tf.saved_model.load(str(exported.folder / "saved_model/1")).signatures[
        "serving_default"
    ]
    for count in (1, 33):
        image = tf.constant(faces.images[:count], tf.float32)
        found = serve(image=image)["probabilities"].numpy()
        np.testing.assert_allclose(found, twin[:count], atol=1e-5)


def test_classify_takes_bytes_and_gives_names_and_scores(exported, faces, twin):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported.folder / "saved_model/1"))
    result = loaded.signatures["classify"](image=tf.constant(faces.images[:50]))
    labels = [label.decode() for label in result["label"].numpy()]
    assert labels == [CLASS_NAMES[i] for i in twin[:50].argmax(axis=1)]
    assert len(set(labels)) > 3
    np.testing.assert_allclose(result["score"].numpy(), twin[:50].max(axis=1), atol=1e-5)


def test_the_class_names_are_an_asset(exported):
    asset = exported.folder / "saved_model/1/assets/labels.txt"
    assert asset.read_text().splitlines() == list(CLASS_NAMES)


def test_a_second_export_has_the_same_variables_and_assets(exported, weights, tmp_path):
    labels_file = exported.folder / "labels.txt"
    saved_model.write(inference_model(weights), tmp_path / "1", labels_file, CLASS_NAMES)
    ours, theirs = _files(tmp_path / "1"), _files(exported.folder / "saved_model/1")
    assert set(ours) == set(theirs)
    # TensorFlow numbers functions by a counter of the process, so the graph's bytes are equal
    # between processes that did the same, and not within one.
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert changed <= {"fingerprint.pb", "saved_model.pb"}
