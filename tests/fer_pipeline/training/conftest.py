"""A few random faces."""

import numpy as np
import pytest

from fer_pipeline.datasets.splits import Split, Splits


def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 48, 48, 1)).astype(np.uint8)
    return Split(images, rng.integers(0, 7, count).astype(np.int32))


@pytest.fixture(scope="session")
def splits():
    return Splits(split(20, 0), split(9, 1), split(9, 2))
