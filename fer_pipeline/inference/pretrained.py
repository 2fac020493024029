"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files

#: An export of the compact network: its files, labels and manifest.
FOLDER = Path(__file__).parents[1] / "pretrained"


def pretrained_path() -> Path:
    """The pretrained 8-bit TFLite file.

    Raises:
      UserError: this copy of the package has none.
    """
    path = FOLDER / export_files.PATHS["int8"]
    if not path.is_file():
        raise UserError(
            "this copy of fer_pipeline holds no pretrained model; name one with --model"
        )
    return path
