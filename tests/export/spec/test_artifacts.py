import pytest

from export.spec import artifacts
from export.spec.io_spec import format_labels, get_io_spec
from fer_pipeline.errors import UserError


def test_chosen_keeps_the_tables_order():
    assert list(artifacts.choose(["int8", " keras"])) == ["keras", "int8"]
    assert list(artifacts.choose("int8,keras")) == ["keras", "int8"]
    assert list(artifacts.choose(None)) == list(artifacts.ARTIFACTS)


@pytest.mark.parametrize("names", [[], [""], ["int8", "onnx"]])
def test_chosen_refuses_nothing_and_the_unknown(names):
    with pytest.raises(UserError, match="choose from keras, keras_v3, saved_model, float32"):
        artifacts.choose(names)


def test_labels_are_seven_lines():
    text = "angry\ndisgust\nfear\nhappy\nneutral\nsad\nsurprise\n"
    assert format_labels() == text


def test_the_gates_are_as_agreed():
    gates = {name: tuple(artifact.gate) for name, artifact in artifacts.ARTIFACTS.items()}
    exact = (1e-4, None, 0.999, None, 1e-4)
    assert gates == {
        "keras": exact,
        "keras_v3": exact,
        "saved_model": exact,
        "float32": exact,
        "float16": (None, 1e-2, 0.995, 0.1, 0.05),
        "dynamic_range": (None, None, 0.99, 0.3, 0.25),
        "int8": (None, None, 0.97, 0.5, 0.25),
        "float32_rgb": exact,
        "int8_rgb": (None, None, 0.97, 0.5, 0.25),
    }


def test_another_batch_changes_the_tflite_shapes_alone():
    eight = get_io_spec("int8_rgb", 8)
    assert eight["inputs"][0]["shape"] == [8, 48, 48, 3]
    assert eight["outputs"][0]["shape"] == [8, 7]
    assert eight["inputs"][0]["quantization"] == {"scale": 1.0, "zero_point": 0}
    assert get_io_spec("int8_rgb")["inputs"][0]["shape"] == [1, 48, 48, 3]
    assert get_io_spec("saved_model", 8) == get_io_spec("saved_model")


@pytest.mark.parametrize("size", [0, -3, 257])
def test_a_batch_out_of_bounds_is_refused(size):
    with pytest.raises(UserError, match=f"--tflite_batch={size}: choose from 1 to 256"):
        artifacts.check_tflite_batch(size)
