"""Finds photographs that a data set holds more than once: cropped anew, brighter, watermarked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer_pipeline.datasets.splits import LazyImages, chunks

#: Faces are compared as pictures of 16 x 16 means, of 3 x 3 pixels each.
_SIDE, _BLOCK = 16, 3

#: Pairs correlated above this are the same photograph. On FER-2013 all of 24 pairs looked at
#: between 0.94 and 0.98 were; below 0.92 most are two people in the same pose.
_SAME = 0.94

#: A larger share of the images than this is no photograph that is there many times: it is what the
#: pictures of this data set have in common, as drawings or the frames of a film have.
_MOST_OF_ONE = 0.05

#: Comparing takes the square of the number of images: 5 seconds for 29,000, two minutes for this.
_MOST_IMAGES = 150_000

_ROWS = 1024


def group(images: np.ndarray | LazyImages, hashes: np.ndarray) -> np.ndarray:
    """Gives images of the same photograph the same number, whatever their order.

    Two images are of the same photograph if their 16 x 16 means have a Pearson correlation above
    0.94; so are two that a chain of such pairs links. Above 150,000 different images, or where a
    twentieth of them would be one group, only equal hashes count.

    Args:
      images: uint8 ``[N, 48, 48, 1]``.
      hashes: their ``splitting.pixel_hashes``, uint64 ``[N]``.

    Returns:
      uint64 ``[N]``: the smallest hash of the images of the same photograph.
    """
    known, first, of_image = np.unique(hashes, return_index=True, return_inverse=True)
    if not 1 < len(known) <= _MOST_IMAGES:
        return hashes
    vectors = np.concatenate([_vectors(chunk) for chunk in chunks(images)])[first]
    # ``known`` ascends, so the lowest number of a group is that of its smallest hash.
    groups = _link(len(known), np.concatenate([*_similar_pairs(vectors), np.empty((0, 2), int)]))
    if np.bincount(groups).max() > max(2, _MOST_OF_ONE * len(known)):
        return hashes
    return known[groups][of_image]


def _vectors(images: np.ndarray) -> np.ndarray:
    """Means of blocks, of mean 0 and norm 1, whose products are correlations; 0 if constant."""
    blocks = images.reshape(len(images), _SIDE, _BLOCK, _SIDE, _BLOCK)
    means = blocks.mean((2, 4), dtype=np.float32).reshape(len(images), -1)
    means -= means.mean(axis=1, keepdims=True)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)


def _similar_pairs(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yields pairs of rows, int64 ``[P, 2]``, the first one below the second."""
    for start in range(0, len(vectors), _ROWS):
        alike = vectors[start : start + _ROWS] @ vectors[start:].T > _SAME
        pairs = np.argwhere(alike) + start
        yield pairs[pairs[:, 0] < pairs[:, 1]]


def _link(count: int, pairs: np.ndarray) -> np.ndarray:
    """The lowest number that chains of pairs link each of ``count`` to: int64 ``[count]``."""
    lowest = np.arange(count)
    while True:
        before = lowest.copy()
        both = lowest[pairs].min(axis=1)
        for column in pairs.T:
            np.minimum.at(lowest, column, both)
        lowest = lowest[lowest]
        if (lowest == before).all():
            return lowest
