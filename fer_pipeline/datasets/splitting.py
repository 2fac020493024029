"""Splits images into training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline.datasets import hash_cut, near_duplicates
from fer_pipeline.datasets.splits import (
    PRIVATE_TEST,
    PUBLIC_TEST,
    TRAIN,
    UNSPLIT,
    VALIDATION,
    Faces,
    Split,
    Splits,
    chunks,
    images_at,
)
from fer_pipeline.errors import UserError


class Positions(NamedTuple):
    """Where the images of each split are among all of a source: int64, ascending.

    ``validation`` and ``test`` are the same array where ``selected_on`` is ``"test"``. ``note``
    says how the splits were made, where that is not as the source has them.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    selected_on: str
    note: str = ""


def split(
    source: str, faces: Faces, *, validation_fraction: float | None = None, seed: int = 0
) -> Splits:
    """Splits a source's images, as ``positions`` says; the arguments are the same.

    Returns:
      The splits, their images in the source's order. Contiguous parts of arrays are views, others
      are copies; ``LazyImages`` stay lazy.

    Raises:
      UserError: as ``positions``.
    """
    return select(
        faces, positions(source, faces, validation_fraction=validation_fraction, seed=seed)
    )


def select(faces: Faces, places: Positions) -> Splits:
    """The images of each split."""
    train, validation = _select(faces, places.train), _select(faces, places.validation)
    test = validation if places.selected_on == "test" else _select(faces, places.test)
    votes = None if faces.votes is None else faces.votes[places.train]
    return Splits(
        train,
        validation,
        test,
        places.selected_on,
        tuple(faces.classes),
        train_votes=votes,
        label_digest=faces.label_digest,
    )


def positions(
    source: str, faces: Faces, *, validation_fraction: float | None = None, seed: int = 0
) -> Positions:
    """Decides which image of a source belongs to which split.

    Without ``validation_fraction``:

    * ``validation/`` is validation and ``test/`` is test; if there is only one of the two, it is
      used as both;
    * without ``validation/``, but with both ``PublicTest_*`` and ``PrivateTest_*`` in ``test/``,
      ``PublicTest_*`` is validation and the rest of ``test/`` is test.

    With it, that part of the training images is validation and all of ``test/`` is test. A
    ``validation/`` folder is then used as test if there is no ``test/``, and otherwise ignored.
    Without either, the validation images are used as test images too.

    The images of a source without split folders are cut into all three, as ``hash_cut`` says.

    Args:
      source: its name in error messages.
      faces: all images of the source.
      validation_fraction: between 0 and 1, or None. Images of the same photograph stay
        together; see ``near_duplicates.group``.
      seed: of the split of the training images.

    Raises:
      UserError: there are no test images; or a class has no image for training, for the test, or
        for a validation that is not split off.
    """
    labels, groups, note = faces.labels, faces.groups, ""
    if (groups == UNSPLIT).any():
        return _cut_by_content(source, faces, validation_fraction)
    train, validation = np.flatnonzero(groups == TRAIN), np.flatnonzero(groups == VALIDATION)
    test = np.flatnonzero(groups >= PUBLIC_TEST)
    selected_on = "validation"
    if validation_fraction is not None:
        hashes = _hashes_of(faces)
        photographs = near_duplicates.group(images_at(faces.images, train), hashes[train])
        cut = cut_validation(labels[train], photographs, validation_fraction, seed)
        if train.size and not cut.any():
            raise UserError(
                f"{source}: --validation_fraction={validation_fraction} leaves no image for "
                "validation; pass a larger one"
            )
        if test.size and validation.size:
            note = (
                f"the {validation.size:,} images of the source for validation are not used: "
                "--validation_fraction cuts others from the training images"
            )
        test = test if test.size else validation
        train, validation = train[~cut], train[cut]
    elif not validation.size and all((groups == g).any() for g in (PUBLIC_TEST, PRIVATE_TEST)):
        validation = np.flatnonzero(groups == PUBLIC_TEST)
        test = np.flatnonzero(groups > PUBLIC_TEST)
    if not (test.size and validation.size):
        test = validation = test if test.size else validation
        selected_on = "test"
    if not test.size:
        raise UserError(
            f"{source}: nothing but training images; add a test/ folder or pass "
            "--validation_fraction=0.1"
        )
    for use, part in (("training", train), ("validation", validation), ("test", test)):
        missing = np.bincount(labels[part], minlength=len(faces.classes)) == 0
        # A validation that was split off may lack a class that has a single image.
        if missing.any() and (use == "training" or groups[part[0]] != TRAIN):
            names = classes_lib.listed(_chosen(faces.classes, missing))
            raise UserError(f"{source}: no {use} image of {names}; every class needs one")
    return Positions(train, validation, test, selected_on, note)


def _cut_by_content(source: str, faces: Faces, validation_fraction: float | None) -> Positions:
    """The splits of a source that has none."""
    found = hash_cut.cut(
        source, _hashes_of(faces), faces.labels, faces.classes, validation_fraction
    )
    places = [np.flatnonzero(found.parts == part) for part in range(3)]
    return Positions(*places, selected_on="validation", note=hash_cut.describe(found))


def _hashes_of(faces: Faces) -> np.ndarray:
    """``pixel_hashes`` of all images."""
    if faces.hashes is not None:
        return faces.hashes
    return np.concatenate([pixel_hashes(chunk) for chunk in chunks(faces.images)])


def _chosen(names: Sequence[str], chosen: np.ndarray) -> list[str]:
    """The names at the places where bool ``[N]`` is true."""
    return [names[place] for place in np.flatnonzero(chosen)]


def cut_validation(
    labels: np.ndarray, photographs: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """Chooses the training images that become validation images: bool ``[N]``.

    Chooses ``fraction`` of each class, rounded, and at least one image of it. Images of the same
    photograph, by its number, stay together, whatever their labels. The result depends on the set
    of images, not on their order. At least one photograph of a class always stays in training.
    """
    unique, group_of = np.unique(photographs, return_inverse=True)
    sizes = np.bincount(group_of)
    # FER-2013 has the same image with different labels; the lowest is used.
    num_classes = int(labels.max(initial=-1)) + 1
    class_of = np.full(len(unique), num_classes)
    np.minimum.at(class_of, group_of, labels)
    chosen = np.zeros(len(unique), bool)
    for label in range(num_classes):
        members = np.flatnonzero(class_of == label)
        members = np.random.default_rng([seed, label]).permutation(members)[:-1]
        wanted = max(1, round(fraction * np.count_nonzero(labels == label)))
        taken_before = np.cumsum(sizes[members]) - sizes[members]
        chosen[members[taken_before < wanted]] = True
    # All images of a class may be chosen as images of other classes too.
    for label in range(num_classes):
        members = np.unique(group_of[labels == label])
        if chosen[members].all():
            chosen[members[:1]] = False
    return chosen[group_of]


def pixel_hashes(images: np.ndarray) -> np.ndarray:
    """Hashes images by their pixels: uint8 ``[N, ...]`` -> uint64 ``[N]``."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def content_hashes(images: np.ndarray) -> list[str]:
    """SHA-256 of each image's pixels: uint8 ``[N, 48, 48, 1]`` -> N texts of 64 hex digits.

    The pixels are those after the conversion to 48x48 grey, row by row, so an image has the same
    hash in a folder, a .zip and a CSV file.
    """
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def _select(faces: Faces, places: np.ndarray) -> Split:
    """Selects the images at ascending positions: int64 ``[N]``."""
    return Split(images_at(faces.images, places), faces.labels[places])
