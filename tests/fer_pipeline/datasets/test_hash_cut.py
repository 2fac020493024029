"""Sources without split folders are cut by the content of their pictures, always the same way."""

import hashlib

import numpy as np
import pytest
from PIL import Image

import fer_pipeline
from fer_pipeline import datasets
from fer_pipeline.datasets import hash_cut, run_data
from fer_pipeline.datasets.splits import fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.stages import description

CLASSES = ("blink", "frown", "grin")


def hashes_at(*shares: float) -> np.ndarray:
    """Hashes that lie so far along all possible ones."""
    return np.array([int(share * 2**64) for share in shares], np.uint64)


def share_of(pixels: np.ndarray) -> float:
    """Where the hash of a picture lies, computed anew."""
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def part_of(pixels: np.ndarray) -> str:
    share = share_of(pixels)
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48), np.uint8)


def folder_of(root, images, first: int = 0):
    """A flat folder of pictures, the classes in turn."""
    for i, pixels in enumerate(images, start=first):
        path = root / CLASSES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def named(splits) -> dict[bytes, str]:
    """The part of every picture, by its pixels."""
    found = {}
    for name in ("train", "validation", "test"):
        part = getattr(splits, name)
        for image in part.images[: len(part.labels)]:
            assert found.setdefault(image.tobytes(), name) == name
    return found


@pytest.fixture(scope="module")
def images():
    return pictures(150)


@pytest.fixture(scope="module")
def source(images, tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("flat") / "faces", images)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_the_hash_of_a_picture_is_its_part(source, images, tmp_path, cache):
    for _ in range(2 if cache == "disk" else 1):
        loaded = datasets.load(source, cache=cache, cache_dir=tmp_path)
        found = named(loaded.splits)
        assert found == {image.tobytes(): part_of(image) for image in images}
        assert set(found.values()) == {"train", "validation", "test"}
        assert loaded.splits.selected_on == "validation"
        assert loaded.cut.endswith("cut into train, validation and test by their content")
    labels = {image.tobytes(): i % 3 for i, image in enumerate(images)}
    for part in loaded.splits[:3]:
        for image, label in zip(part.images[: len(part.labels)], part.labels, strict=True):
            assert labels[image.tobytes()] == label


def test_added_pictures_leave_all_others_where_they_are(source, images, tmp_path):
    before = named(datasets.load(source).splits)
    # Other names and another order, too.
    more = folder_of(tmp_path / "more", pictures(60, seed=1))
    folder_of(more, images[::-1], first=1000 - 1000 % 3 + 3)
    after = named(datasets.load(more).splits)
    assert len(after) == 210
    assert before.items() <= after.items()


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_validation_fraction_leaves_the_test_images(source, images, fraction):
    splits = datasets.load(source, validation_fraction=fraction, seed=7).splits
    kept = {image.tobytes() for image in images if share_of(image) < 0.9 * (1 - fraction)}
    assert {image.tobytes() for image in splits.train.images} == kept
    whole = datasets.load(source).splits
    np.testing.assert_array_equal(splits.test.images, whole.test.images)


def test_the_shares_begin_where_they_say():
    hashes = hashes_at(0, 0.1, 0.2, 0.7999999, 0.8000001, 0.8999999, 0.9000001, 0.9999999)
    found = hash_cut.cut("data", hashes, np.zeros(8, int), ("a",))
    assert found.parts.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert found.moved == {}
    top = np.array([0, 1, 2**64 - 1, int(0.85 * 2**64)], np.uint64)
    assert hash_cut.cut("data", top, np.zeros(4, int), ("a",)).parts.tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize(
    ("shares", "parts", "moved"),
    [
        # Nothing for the test: the one with the highest hash; nothing for validation: the next.
        ([0.5, 0.1, 0.7, 0.3], [1, 0, 2, 0], 2),
        ([0.5, 0.1, 0.85, 0.82, 0.3], [0, 0, 2, 1, 0], 1),
        ([0.5, 0.1, 0.7, 0.95, 0.3], [0, 0, 1, 2, 0], 1),
        # Two to train on.
        ([0.5, 0.83, 0.86, 0.95], [0, 0, 1, 2], 1),
        ([0.91, 0.94, 0.93, 0.92, 0.95], [0, 2, 1, 0, 2], 3),
        ([0.81, 0.84, 0.83, 0.82], [0, 2, 1, 0], 3),
    ],
)
def test_the_nearest_pictures_fill_a_part_that_is_empty(shares, parts, moved):
    # Beside a class that has all it needs, and keeps it.
    full = [0.21, 0.41, 0.61, 0.851, 0.951]
    labels = np.array([1] * len(shares) + [0] * 5)
    found = hash_cut.cut("data", hashes_at(*shares, *full), labels, ("full", "few, rare"))
    assert found.parts.tolist() == [*parts, 0, 0, 0, 1, 2]
    assert found.moved == {"few, rare": moved}
    assert hash_cut.describe(found).endswith(f'to have every class: {moved} of "few, rare"')


def test_equal_pictures_stay_together_even_when_they_are_moved():
    # The picture at 0.7 is moved for class 0, and lies in class 1, too.
    shares = [0.1, 0.2, 0.7, 0.3, 0.85, 0.7, 0.4, 0.5, 0.81, 0.95]
    found = hash_cut.cut("data", hashes_at(*shares), np.repeat([0, 1], 5), ("a", "b"))
    assert found.parts.tolist() == [0, 0, 1, 0, 2, 1, 0, 0, 1, 2]
    order = np.random.default_rng(0).permutation(10)
    again = hash_cut.cut("data", hashes_at(*shares)[order], np.repeat([0, 1], 5)[order], ("a", "b"))
    np.testing.assert_array_equal(again.parts, found.parts[order])


def test_a_class_of_three_pictures_is_refused(tmp_path, images):
    root = folder_of(tmp_path / "faces", images[:11])
    # A second copy is no picture of its own.
    (root / "grin" / "copy.png").write_bytes((root / "grin" / "2.png").read_bytes())
    with pytest.raises(UserError, match="faces: fewer than 4 different pictures of grin; a class"):
        datasets.load(root)


def test_a_list_leaves_out_what_it_names(source, images, tmp_path):
    chosen = [image for image in images[:30] if part_of(image) == "train"][:5]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(hashlib.sha256(image.tobytes()).hexdigest() for image in chosen))
    before, after = datasets.load(source), datasets.load(source, exclude=listed)
    gone = {image.tobytes() for image in chosen}
    left = {key: part for key, part in named(before.splits).items() if key not in gone}
    assert named(after.splits) == left
    assert after.excluded.train == 5


def test_a_run_finds_its_own_pictures_in_the_same_parts(source, images, tmp_path):
    splits = fer_pipeline.load_data(source, validation_fraction=0.2)
    config = {"data": str(source), "fingerprint": fingerprint(splits), "validation_fraction": 0.2}
    config["classes"] = list(CLASSES)
    copy = folder_of(tmp_path / "copy" / "inside", images)
    own = run_data.load(config, str(copy.parent))
    assert own.own
    np.testing.assert_array_equal(own.splits.train.images, splits.train.images)
    # Others are cut as without the run.
    other = folder_of(tmp_path / "other", images[:90])
    loaded = run_data.load(config, str(other))
    assert not loaded.own
    assert named(loaded.splits) == named(datasets.load(other).splits)


def test_a_description_says_how_it_was_cut(source, tmp_path):
    told = description.describe(str(source), tmp_path / "out")
    assert told.data.splits == ("train", "validation", "test")
    assert "no part is named: images are cut into" in description.table(told)
