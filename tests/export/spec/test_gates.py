import pytest

from export.spec import artifacts, gates
from export.spec.comparison import Comparison
from export.spec.gates import Gate

GATE = Gate(1e-4, 1e-5, 0.99, 0.5, 0.2)


def _comparison(**changes):
    base = Comparison(2000, 0.6, 0.0, 1.0, 0, 0.0, 0.0, 0.0)
    return base._replace(**changes)


def test_limits_themselves_pass():
    at_limit = {"max_difference": 1e-4, "p99_difference": 1e-5}
    at_limit = _comparison(agreement=0.99, accuracy_drop=0.5, **at_limit)
    assert gates.find_missed_limits(at_limit, GATE) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_difference": 1.01e-4}, "a probability differs by"),
        ({"max_difference": float("nan")}, "a probability differs by"),
        ({"p99_difference": 1.01e-5}, "99 % of the images"),
        ({"p99_difference": float("nan")}, "99 % of the images"),
        ({"agreement": 0.9895}, "names 21 of 2,000 images otherwise than the network"),
        ({"accuracy_drop": 0.51}, "accuracy"),
    ],
)
def test_each_gate_is_missed_alone(changes, words):
    [missed] = gates.find_missed_limits(_comparison(**changes), GATE)
    assert words in missed


def test_accuracy_is_gated_from_2000_images_on():
    few = _comparison(images=1999, accuracy_drop=9.0)
    assert gates.find_missed_limits(few, GATE) == ()
    assert gates.find_missed_limits(few._replace(images=2000), GATE)


@pytest.mark.parametrize(
    ("images", "differing", "passes"),
    [(14, 2, True), (14, 3, False), (60, 3, True), (60, 4, False)],
)
def test_few_images_may_differ_by_chance(images, differing, passes):
    found = _comparison(images=images, agreement=1 - differing / images)
    assert (gates.find_missed_limits(found, GATE) == ()) is passes


def test_what_has_no_limit_passes():
    far = _comparison(max_difference=1.0, p99_difference=1.0, agreement=0.0, accuracy_drop=60.0)
    assert (
        gates.find_missed_limits(far, Gate()) == gates.find_missed_golden_limit(far, Gate()) == ()
    )


def test_on_the_golden_faces_the_largest_difference_has_a_limit_of_its_own():
    found = _comparison(images=64, max_difference=0.2)
    assert gates.find_missed_golden_limit(found, GATE) == ()
    [line] = gates.find_missed_golden_limit(found._replace(max_difference=0.21), GATE)
    assert line == "on the golden faces a probability differs by 0.21 > 0.2"
    assert gates.find_missed_golden_limit(found._replace(max_difference=float("nan")), GATE)
    # Drawn faces may lie between two classes of a network that was trained on others.
    assert gates.find_missed_golden_limit(found._replace(agreement=0.5), GATE) == ()


def test_a_limit_on_accuracy_replaces_those_that_there_are():
    chosen = artifacts.with_accuracy_drop(artifacts.choose(["int8", "float32"]), 5.0)
    assert {name: a.gate.accuracy_drop for name, a in chosen.items()} == {
        "float32": None,
        "int8": 5.0,
    }
    assert artifacts.with_accuracy_drop(chosen, None) == chosen


def test_a_float16_file_of_a_certain_network_passes():
    # README's run after sixteen epochs: 700 images, one probability of 4,900 differs by 0.0075.
    found = _comparison(images=700, max_difference=0.0075, p99_difference=0.001, accuracy=0.9971)
    assert gates.find_missed_limits(found, artifacts.ARTIFACTS["float16"].gate) == ()


def test_on_2000_images_agreement_and_accuracy_are_held_as_strictly_as_ever():
    least = {"keras": 0.999, "float32": 0.999, "dynamic_range": 0.99, "int8": 0.97}
    for name, agreement in least.items():
        gate = artifacts.ARTIFACTS[name].gate
        assert gates.find_missed_limits(_comparison(agreement=agreement), gate) == ()
        assert gates.find_missed_limits(_comparison(agreement=agreement - 0.0005), gate)
    for name, points in {"float16": 0.1, "dynamic_range": 0.3, "int8": 0.5}.items():
        assert gates.find_missed_limits(
            _comparison(accuracy_drop=points + 0.05), artifacts.ARTIFACTS[name].gate
        )
