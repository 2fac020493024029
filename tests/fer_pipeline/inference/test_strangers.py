"""What a stranger's model asks for is named before anything of it runs."""

import numpy as np
import pytest
import tensorflow as tf

from fer_pipeline.errors import UserError
from fer_pipeline.inference import model_loader, strangers

SHAPE = [None, 48, 48, 1]


def faces(count):
    return np.zeros((count, 48, 48, 1), np.uint8)


def save(folder, serve):
    """A SavedModel of one function from faces to probabilities."""
    module = tf.Module()
    module.bias = tf.Variable(tf.ones([7]) / 7)
    module.serve = tf.function(
        lambda image: {"probabilities": serve(module, image)},
        input_signature=[tf.TensorSpec(SHAPE, tf.float32, "image")],
    )
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


def alike(module, image):
    """Every class as probable, by operators that an export has, too."""
    pixels = tf.reshape(image, [tf.shape(image)[0], 2304])
    return tf.nn.softmax(tf.matmul(pixels, tf.zeros([2304, 7])) + module.bias)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return save(tmp_path_factory.mktemp("harmless") / "1", alike)


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """One that reads a file of the user's and writes another, inside a branch."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "secret").write_text("a secret")

    def serve(module, image):
        def copy():
            content = tf.io.read_file(str(folder / "secret"))
            with tf.control_dependencies([tf.io.write_file(str(folder / "stolen"), content)]):
                return alike(module, image)

        return tf.cond(tf.shape(image)[0] > 0, copy, lambda: alike(module, image))

    return save(folder / "1", serve)


def test_a_saved_model_of_an_exports_operators_runs(harmless):
    strangers.check_saved_model(harmless)
    found = model_loader.open_model(harmless)(faces(3))
    np.testing.assert_allclose(found, np.full((3, 7), 1 / 7), atol=1e-6)


def test_operators_that_reach_files_are_named_and_do_not_run(evil):
    with pytest.raises(UserError, match=r"asks for .*ReadFile.*WriteFile.*--trust") as caught:
        model_loader.open_model(evil)(faces(1))
    assert "\n" not in str(caught.value)
    assert not (evil.parent / "stolen").exists()


def test_trusted_it_runs(evil):
    # That this is so is what the check is for.
    model_loader.open_model(evil, trust=True)(faces(1))
    assert (evil.parent / "stolen").read_text() == "a secret"
    (evil.parent / "stolen").unlink()


def rewritten(folder, tmp_path, change):
    """A copy of a SavedModel's graph with a change to its first meta graph."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0])
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    return tmp_path


def saving_function(graph):
    [function] = [f for f in graph.graph_def.library.function if "save" in f.signature.name]
    return function


def test_the_function_that_saves_must_not_be_called_by_others(harmless, tmp_path):
    def call_it(graph):
        name = saving_function(graph).signature.name
        graph.object_graph_def.concrete_functions[name].SetInParent()

    with pytest.raises(UserError, match=r"MergeV2Checkpoints.*SaveV2"):
        strangers.check_saved_model(rewritten(harmless, tmp_path, call_it))


@pytest.mark.parametrize("where", ["a function", "the graph"])
def test_the_function_that_saves_must_not_be_named_by_another_node(harmless, tmp_path, where):
    def name_it(graph):
        saving = saving_function(graph)
        functions = graph.graph_def.library.function
        other = next(f for f in functions if "traced" not in f.signature.name)
        nodes = other.node_def if where == "a function" else graph.graph_def.node
        nodes.add(op="StatefulPartitionedCall", name="x").attr[
            "f"
        ].func.name = saving.signature.name

    with pytest.raises(UserError, match="SaveV2"):
        strangers.check_saved_model(rewritten(harmless, tmp_path, name_it))


def rename_the_saving_function(graph, name):
    """It is named like an operator, and everything that saves refers to it by its new name."""
    function = saving_function(graph)
    for node in graph.graph_def.node:
        for attribute in node.attr.values():
            if attribute.func.name == function.signature.name:
                attribute.func.name = name
    function.signature.name = name


def test_a_function_cannot_pass_as_an_operator(harmless, tmp_path):
    # TensorFlow's loader makes a call of every node whose operator is a function's name, and the
    # serving function of this model holds a Softmax.
    def shadow(graph):
        rename_the_saving_function(graph, "Softmax")

    with pytest.raises(UserError, match=r"a function Softmax"):
        strangers.check_saved_model(rewritten(harmless, tmp_path, shadow))


def test_the_function_that_saves_must_not_be_a_nodes_operator(harmless, tmp_path):
    def call_it(graph):
        name = saving_function(graph).signature.name
        graph.graph_def.node.add(op=name, name="x")

    with pytest.raises(UserError, match=r"asks for .*SaveV2"):
        strangers.check_saved_model(rewritten(harmless, tmp_path, call_it))


def test_no_function_stands_in_for_another(harmless, tmp_path):
    # Grappler may swap functions of one interface (TensorFlow's implementation_selector).
    def swap(graph):
        saving_function(graph).attr["api_implements"].s = b"classify"

    with pytest.raises(UserError, match="a function with api_implements"):
        strangers.check_saved_model(rewritten(harmless, tmp_path, swap))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda graph: graph.graph_def.node.add(op="PyFunc", name="x"), "asks for PyFunc"),
        (lambda graph: graph.ClearField("object_graph_def"), "of TensorFlow 1"),
        (
            lambda graph: graph.object_graph_def.nodes.add().resource.SetInParent(),
            "an object of the kind 'resource'",
        ),
        (
            lambda graph: saving_function(graph).node_def.add(op="WriteFile", name="x"),
            "asks for WriteFile",
        ),
    ],
)
def test_whatever_else_runs_is_refused(harmless, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        strangers.check_saved_model(rewritten(harmless, tmp_path, change))


@pytest.mark.parametrize("content", [b"", b"no protocol buffer", None])
def test_what_is_no_graph_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(UserError, match=r"saved_model\.pb: (damaged|cannot be read)") as caught:
        strangers.check_saved_model(tmp_path)
    assert "\n" not in str(caught.value)
