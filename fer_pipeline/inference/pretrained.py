"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files

#: An export of the compact network: its files, labels and manifest.
FOLDER = Path(__file__).parents[1] / "pretrained"

#: What it is called where a run or a file can be named too.
NAME = "pretrained"


def pretrained_path() -> Path:
    """The pretrained 8-bit TFLite file.

    Raises:
      UserError: this copy of the package has none.
    """
    return _found(export_files.PATHS["int8"])


def weights_path() -> Path:
    """The pretrained weights, ``.h5`` of float16 arrays; raises as ``pretrained_path``."""
    return _found(export_files.MODEL_WEIGHTS)


def _found(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        raise UserError(
            "this copy of fer_pipeline holds no pretrained model; name one with --model"
        )
    return path
