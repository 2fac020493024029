import hashlib
import json

import pytest

from export.delivery import manifest
from export.spec.comparison import Comparison

FILES = (
    "MODEL_CARD.md",
    "golden.npz",
    "labels.txt",
    "model.json",
    "model.keras",
    "model_dynamic_range.tflite",
    "model_float16.tflite",
    "model_float32.tflite",
    "model_float32_rgb.tflite",
    "model_int8.tflite",
    "model_int8_rgb.tflite",
    "model_weights.h5",
    "saved_model/1/assets/labels.txt",
    "saved_model/1/fingerprint.pb",
    "saved_model/1/saved_model.pb",
    "saved_model/1/variables/variables.data-00000-of-00001",
    "saved_model/1/variables/variables.index",
)


@pytest.fixture(scope="module")
def stored(exported):
    return json.loads((exported.folder / "manifest.json").read_text())


def test_lists_every_file_with_size_and_hash(exported, stored):
    assert sorted(stored["files"]) == sorted(FILES)
    for name, entry in stored["files"].items():
        content = (exported.folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_hash_file_has_the_form_of_sha256sum(exported):
    digest = hashlib.sha256((exported.folder / "manifest.json").read_bytes()).hexdigest()
    assert (exported.folder / "manifest.sha256").read_text() == f"{digest}  manifest.json\n"


def test_says_what_a_developer_has_to_know(stored):
    int8 = stored["artifacts"]["int8"]
    assert int8["path"] == "model_int8.tflite"
    assert int8["inputs"] == [
        {
            "name": "image",
            "shape": [1, 48, 48, 1],
            "dtype": "uint8",
            "quantization": {"scale": 1.0, "zero_point": 0},
        }
    ]
    assert int8["outputs"][0]["quantization"] == {"scale": 1 / 256, "zero_point": 0}
    assert int8["latency"]["p50_ms"] > 0
    assert int8["latency"]["images"] == stored["tflite_batch"] == 1
    assert 0 < int8["accuracy"] <= 1
    assert stored["labels"] == "angry disgust fear happy neutral sad surprise".split()
    assert "0..255" in stored["preprocessing"]
    # Its name and not where it lies.
    assert stored["run"] == {"seed": 3, "data": "synthetic", "teacher": "wide"}
    assert stored["evaluation"]["images"] == 280
    assert stored["evaluation"]["accuracy_gated"] is False
    assert set(stored["versions"]) == {"python", "tensorflow", "keras", "numpy", "ai-edge-litert"}


def test_sizes_are_those_of_all_files_of_an_artifact(stored):
    sizes = {name: entry["size"] for name, entry in stored["files"].items()}
    keras_size = sizes["model.json"] + sizes["model_weights.h5"]
    assert stored["artifacts"]["keras"]["size"] == keras_size
    saved = sum(size for name, size in sizes.items() if name.startswith("saved_model/"))
    assert stored["artifacts"]["saved_model"]["size"] == saved


def test_a_run_says_what_its_data_are_and_not_where():
    reference = Comparison._make([None] * len(Comparison._fields))._replace(images=1, accuracy=1.0)
    config = {"data": "kaggle:owner/faces", "ferplus": "/home/me/new.csv", "cache_dir": "/home/me"}
    found = manifest.build([], {}, config, reference=reference)["run"]
    assert found == {"data": "faces", "ferplus": "new.csv"}
    config = {"teacher": '"/home/me, too/wide, old",/b/tiny'}
    found = manifest.build([], {}, config, reference=reference)["run"]
    assert found == {"teacher": '"wide, old",tiny'}
    # These words alone are the drawn faces and the pretrained model.
    for place, said in (("", ""), ("/home/me/", "./")):
        config = {"data": f"{place}synthetic", "init_weights": f"{place}pretrained"}
        config["teacher"] = f"/a/wide, {place}pretrained"
        found = manifest.build([], {}, config, reference=reference)
        expected = {"data": f"{said}synthetic", "init_weights": f"{said}pretrained"}
        assert found["run"] == expected | {"teacher": f"wide,{said}pretrained"}
        assert found["evaluation"]["source"] == "synthetic"
