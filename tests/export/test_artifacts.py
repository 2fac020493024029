import pytest

from export import artifacts
from export.contract import CONTRACTS, labels_text
from fer_pipeline.errors import UserError


def test_all_formats_have_a_contract():
    assert list(CONTRACTS) == list(artifacts.ARTIFACTS)


def test_chosen_keeps_the_tables_order():
    assert list(artifacts.chosen(["int8", " keras"])) == ["keras", "int8"]
    assert list(artifacts.chosen(None)) == list(artifacts.ARTIFACTS)


@pytest.mark.parametrize("names", [[], [""], ["int8", "onnx"]])
def test_chosen_refuses_nothing_and_the_unknown(names):
    with pytest.raises(UserError, match="choose from keras, keras_v3, saved_model, float32"):
        artifacts.chosen(names)


def test_labels_are_seven_lines():
    text = "angry\ndisgust\nfear\nhappy\nneutral\nsad\nsurprise\n"
    assert labels_text() == text


def test_the_gates_are_as_agreed():
    gates = {name: tuple(artifact.gate) for name, artifact in artifacts.ARTIFACTS.items()}
    exact = (1e-4, 0.999, None)
    assert gates == {
        "keras": exact,
        "keras_v3": exact,
        "saved_model": exact,
        "float32": exact,
        "float16": (5e-3, None, 0.1),
        "dynamic_range": (None, 0.99, 0.3),
        "int8": (None, 0.97, 0.5),
    }
