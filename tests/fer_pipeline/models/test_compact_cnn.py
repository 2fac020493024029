import keras
import numpy as np
import pytest

from fer_pipeline.models import compact_cnn, networks
from fer_pipeline.models.fast_layers import FusedBatchNormalization


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1)).astype(np.float32)


def with_statistics(weights, seed=0):
    """Vectors off their initial zeros and ones, so that each counts."""
    rng = np.random.default_rng(seed)
    return [w if w.ndim > 1 else w + rng.uniform(0.1, 0.5, w.shape) for w in weights]


@pytest.mark.parametrize(
    ("name", "parameters"), [("tiny", 66_007), ("compact", 584_055), ("wide", 2_324_711)]
)
def test_the_parameters_are_counted_without_building(name, parameters):
    model = networks.build_model(name)
    assert model.count_params() == networks.count_parameters(name) == parameters
    assert networks.name_of(parameters) == name
    assert networks.count_layers(name) == sum(bool(layer.weights) for layer in model.layers)
    assert model.input_shape == (None, 48, 48, 1)
    assert model.output_shape == (None, 7)


def test_every_name_builds_another_network():
    assert len({networks.count_parameters(name) for name in networks.NAMES}) == len(networks.NAMES)
    assert networks.name_of(12) is None


@pytest.mark.parametrize("name", networks.NAMES)
def test_a_network_has_as_many_answers_as_classes(name):
    """Each class more is a row of the last kernel and a bias."""
    two, three = (networks.count_parameters(name, classes) for classes in (2, 3))
    seven = networks.count_parameters(name)
    assert seven - three == 4 * (three - two)
    assert networks.name_of(three, 3) == name
    assert networks.name_of(three) is None
    if name == "tiny":
        for build in (networks.build_model, networks.build_training_model):
            assert build(name, 3).output_shape == (None, 3)
        assert networks.build_model(name, 3).count_params() == three


def test_the_training_network_has_the_function_of_the_plain_one(images):
    plain = networks.build_model("tiny", batch_size=4)
    fast = networks.build_training_model("tiny", seed=1)
    weights = with_statistics(fast.get_weights())
    plain.set_weights(weights)
    fast.set_weights(weights)
    np.testing.assert_allclose(fast(images), plain(images), atol=1e-5)


def test_at_first_a_block_passes_its_shortcut_on(images):
    model = networks.build_training_model("tiny", seed=1)
    stem = keras.Model(model.input, model.get_layer("stem_relu").output)
    first = keras.Model(model.input, model.get_layer("stage1_block2_relu2").output)
    np.testing.assert_array_equal(stem(images), first(images))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_the_policy_holds_for_all_but_the_softmax(policy, images):
    model = networks.build_training_model("tiny", dtype_policy=policy)
    compute = policy.removeprefix("mixed_")
    assert {layer.compute_dtype for layer in model.layers[1:-1]} == {compute}
    assert model(images).dtype == ("float64" if policy == "float64" else "float32")


def test_settings_reach_their_layers():
    model = networks.build_training_model("tiny", dropout=0.3, normalization_momentum=0.8)
    assert model.get_layer("dropout").rate == 0.3
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    assert len(norms) == 15
    assert {norm.momentum for norm in norms} == {0.8}
    assert networks.build_training_model("tiny").get_layer("dropout").rate == 0.1


def test_the_notebooks_network_drops_before_the_head_alone_where_a_rate_is_given():
    def rates(**options):
        layers = networks.build_training_model("notebook", **options).layers
        return [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]

    assert rates() == [0.25] * 6
    assert rates(dropout=0.1) == [0.0] * 5 + [0.1]


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (
        networks.build_training_model("tiny", seed=seed).get_weights() for seed in (5, 5, 6)
    )
    for ours, same, others in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(ours, same)
        assert ours.ndim == 1 or (ours != others).any()
    kernels = [w.ravel()[:200] for w in first if w.size >= 200]
    assert len({kernel.std() > 0 and kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_widths_are_multiples_of_sixteen_where_speed_counts():
    assert all(width % 16 == 0 for width in compact_cnn.WIDTHS["compact"])


def test_what_is_frozen_is_counted_in_layers_with_weights():
    model = networks.build_training_model("tiny")
    networks.freeze(model, 3)
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert frozen == ["stem_conv", "stem_bn", "stage1_block1_conv1"]
    networks.freeze(model, None)
    assert [v.path for v in model.trainable_variables] == ["head/kernel", "head/bias"]


def test_frozen_normalization_goes_by_its_moving_statistics_in_training(images):
    layer = FusedBatchNormalization()
    layer.build((4, 48, 48, 1))
    layer.set_weights([np.array([v], np.float32) for v in (1.5, -2.0, 100.0, 900.0)])
    layer.trainable = False
    expected = 1.5 * (images - 100.0) / np.sqrt(900.0 + layer.epsilon) - 2.0
    np.testing.assert_allclose(layer(images, training=True), expected, atol=1e-4)
    np.testing.assert_array_equal(layer.get_weights()[2:], [[100.0], [900.0]])
