"""How ``--augment`` is read."""

import pytest

from fer_pipeline import augmentation


def test_a_text_is_parsed():
    assert augmentation.parse("flip") == augmentation.Augmentation()
    assert not augmentation.parse("flip").moves
    assert augmentation.parse("none") == augmentation.Augmentation(flip=False)
    parsed = augmentation.parse("shift:2, rotate:8,zoom:0.08,cutout:10")
    assert parsed == augmentation.Augmentation(False, 2, 8, 0.08, 10)
    assert parsed.moves


@pytest.mark.parametrize(
    "text", ["", "flap", "shift", "shift:-1", "shift:nan", "zoom:1", "cutout:49", "flip:1", "flip,"]
)
def test_what_is_no_augmentation_is_named(text):
    with pytest.raises(ValueError, match=r"^'.*' is none of flip, shift:0..24"):
        augmentation.parse(text)
