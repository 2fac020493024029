import numpy as np
import pytest

from export.formats import saved_model, tflite
from export.formats.inference_model import inference_model

NAMES = ("float32", "float16", "dynamic_range", "int8")
RGB_NAMES = ("float32_rgb", "int8_rgb")


@pytest.fixture(scope="module")
def contents(exported):
    names = NAMES + RGB_NAMES
    return {name: (exported.folder / f"model_{name}.tflite").read_bytes() for name in names}


@pytest.fixture(scope="module")
def graphs(contents):
    return {name: tflite.describe(content) for name, content in contents.items()}


@pytest.fixture
def fixed_batch(weights, tmp_path):
    folder = tmp_path / "fixed"
    saved_model.write_fixed_batch(inference_model(weights), folder)
    return folder


def _interpreter(content):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize(("name", "limit"), [("float32", 1e-4), ("float16", 5e-3)])
def test_float_files_give_the_networkslitert(contents, faces, reference_model, name, limit, litert):
    found = litert(contents[name], faces.images[:70])
    np.testing.assert_allclose(found, reference_model[:70], atol=limit)


def test_int8_takes_bytes_and_gives_256ths(contents, faces, reference_model, litert):
    found = litert(contents["int8"], faces.images)
    assert found.dtype == np.uint8
    assert np.mean(found.argmax(axis=1) == reference_model.argmax(axis=1)) >= 0.97
    assert np.abs(found / 256 - reference_model).mean() < 0.02


@pytest.mark.parametrize("name", NAMES + RGB_NAMES)
def test_the_batch_is_fixed_and_the_ends_are_named(contents, name):
    interpreter = _interpreter(contents[name])
    [source] = interpreter.get_input_details()
    assert source["shape_signature"].tolist() == [1, 48, 48, 3 if name in RGB_NAMES else 1]
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }


@pytest.mark.parametrize("name", ["int8", "int8_rgb"])
def test_int8_ends_have_the_agreed_quantisation(contents, name):
    interpreter = _interpreter(contents[name])
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["quantization"] == (1.0, 0)
    assert target["quantization"] == (1 / 256, 0)


def test_describe_agrees_with_the_interpreter(contents, graphs):
    for name in NAMES + RGB_NAMES:
        operators = [
            details["op_name"] for details in _interpreter(contents[name])._get_ops_details()
        ]
        # The interpreter appends the operator that stands for its own accelerator.
        assert graphs[name].operators == tuple(o for o in operators if o != "DELEGATE")


@pytest.mark.parametrize("name", ["int8", "int8_rgb"])
def test_the_int8_graph_has_integer_kernels_alone(graphs, name):
    graph = graphs[name]
    assert tflite.find_int8_problems(graph) == []
    assert graph.operators.count("CONV_2D") == 4
    assert graph.operators.count("FULLY_CONNECTED") == 3
    assert {tensor.dtype for tensor in graph.tensors} == {"INT8", "INT32", "UINT8"}
    assert [len(weights.scales) for weights in graph.weights] == [8, 8, 16, 32, 64, 128, 7]


def test_the_rgb_front_costs_no_operator(graphs):
    assert graphs["int8_rgb"].operators == graphs["int8"].operators
    assert graphs["float32_rgb"].operators == graphs["float32"].operators
    assert graphs["int8_rgb"].weights[0].shape == (8, 3, 3, 3)


def test_another_graph_is_told_from_int8(graphs):
    problems = " ".join(tflite.find_int8_problems(graphs["float16"]))
    for word in ("input FLOAT32", "output FLOAT32", "DEQUANTIZE", "float tensors", "0 scales"):
        assert word in problems


def test_sizes_fall_with_the_weights_width(contents):
    sizes = [len(contents[name]) for name in ("float32", "float16", "dynamic_range")]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_a_larger_batch_gives_every_image_its_own_answer(
    contents, weights, faces, tmp_path, name, litert
):
    folder = tmp_path / "three"
    saved_model.write_fixed_batch(inference_model(weights), folder, 3)
    images = tflite.calibration_images(faces.images, faces.labels, seed=3)
    content = tflite.convert(folder, name, images, 3)
    interpreter = _interpreter(content)
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["shape_signature"].tolist() == [3, 48, 48, 1]
    interpreter.set_tensor(source["index"], faces.images[:3].astype(source["dtype"]))
    interpreter.invoke()
    alone = litert(contents[name], faces.images[:3])
    # Calibrated on the same images, but for the few that fill the last batch.
    limit = 1e-5 if name == "float32" else 8
    found = interpreter.get_tensor(target["index"])
    np.testing.assert_allclose(found.astype(float), alone, atol=limit)


def test_a_calibration_without_black_and_white_is_caught(fixed_batch, faces):
    grey = np.clip(faces.images[:10], 50, 200)
    with pytest.raises(ValueError, match="input UINT8"):
        tflite.convert(fixed_batch, "int8", grey)


class TestCalibrationImages:
    def images(self, counts):
        labels = np.repeat(np.arange(7), counts)
        images = np.full((len(labels), 48, 48, 1), 100, np.uint8)
        # Each image carries its number, so that it can be told which were drawn.
        images[:, 1, 0, 0], images[:, 1, 1, 0] = np.divmod(np.arange(len(labels)), 256)
        return images, labels

    def drawn(self, images, labels, seed=0):
        found = tflite.calibration_images(images, labels, seed)
        numbers = found[:-1, 1, 0, 0].astype(int) * 256 + found[:-1, 1, 1, 0]
        return found, numbers

    def test_classes_are_even(self):
        images, labels = self.images([300, 40, 35, 400, 31, 90, 30])
        found, numbers = self.drawn(images, labels)
        assert found.dtype == np.uint8
        assert np.bincount(labels[numbers]).tolist() == [30] * 7
        assert len(set(numbers)) == 210

    def test_a_small_class_leaves_its_share_to_the_others(self):
        images, labels = self.images([100, 6, 100, 100, 100, 100, 100])
        _, numbers = self.drawn(images, labels)
        assert np.bincount(labels[numbers]).tolist() == [34, 6, 34, 34, 34, 34, 34]

    def test_few_images_are_all_drawn(self):
        images, labels = self.images([2, 1, 0, 3, 1, 1, 1])
        found, numbers = self.drawn(images, labels)
        assert sorted(numbers) == list(range(9))
        assert found.shape == (10, 48, 48, 1)

    def test_one_image_holds_black_and_white(self):
        found, _ = self.drawn(*self.images([40] * 7))
        assert found[-1].min() == 0
        assert found[-1].max() == 255

    def test_the_seed_draws(self):
        images, labels = self.images([100] * 7)
        first, again, other = (self.drawn(images, labels, seed)[1] for seed in (0, 0, 1))
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.tolist()
