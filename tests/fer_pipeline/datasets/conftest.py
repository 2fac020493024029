"""Small data sets in class folders, made of flat grey PNGs whose level says which image it is."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.classes import CLASS_NAMES


def flat_png(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((48, 48), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def class_files(split: str, *names: str, first_level: int = 0) -> dict[str, bytes]:
    """Files ``split/<class>/<name>``, each with a grey level of its own, counted up."""
    paths = [f"{split}/{cls}/{name}" for cls in CLASS_NAMES for name in names]
    return {path: flat_png(first_level + i) for i, path in enumerate(paths)}


class MakeSource:
    """Writes files to a new folder or .zip."""

    def __init__(self, folder: Path):
        self._folder = folder

    def folder(self, contents: dict[str, bytes], name: str = "faces") -> Path:
        root = self._folder / name
        for path, data in contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    def zip(
        self,
        contents: dict[str, bytes],
        name: str = "faces.zip",
        compression: int = zipfile.ZIP_DEFLATED,
    ) -> Path:
        path = self._folder / name
        with zipfile.ZipFile(path, "w", compression) as archive:
            for member, data in contents.items():
                archive.writestr(member, data)
        return path


@pytest.fixture
def make_source(tmp_path) -> MakeSource:
    return MakeSource(tmp_path)


@pytest.fixture
def train_files() -> dict[str, bytes]:
    """Two training images of each class: levels 0..13 in order of class and name."""
    return class_files("train", "Training_1.png", "Training_2.png")


@pytest.fixture
def test_files() -> dict[str, bytes]:
    """One test image of each class: levels 100..106."""
    return class_files("test", "PublicTest_1.png", first_level=100)


@pytest.fixture
def make_files():
    """``class_files`` itself, for other splits and names."""
    return class_files


@pytest.fixture
def make_png():
    """``flat_png`` itself."""
    return flat_png
