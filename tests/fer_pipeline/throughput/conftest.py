"""A few faces, and the seed's layers with few filters."""

import numpy as np
import pytest

from fer_pipeline.datasets.splits import Split
from fer_pipeline.datasets.synthetic import render

#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"


@pytest.fixture(scope="session")
def train():
    labels = (np.arange(140) % 7).astype(np.int32)
    return Split(render(labels, seed=0), labels)


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(f"{NETWORK}.CONVOLUTIONS", ((4, 3), (4, 5), (8, 3), (8, 3)))
    monkeypatch.setattr(f"{NETWORK}.DENSE_UNITS", (8, 16))
