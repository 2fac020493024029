"""One detector for all tests."""

import pytest

from fer_pipeline.inference.faces import detector


@pytest.fixture(scope="session")
def detect():
    return detector.open_detector()
