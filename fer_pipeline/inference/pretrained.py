"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files, integrity
from fer_pipeline.models import networks

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
    """The pretrained weights, an ``.h5`` file; raises as ``pretrained_path``."""
    return _found(export_files.MODEL_WEIGHTS, "name a run with --teacher")


def network_name() -> str:
    """Which network has the pretrained weights, as ``--model`` of a training calls it.

    Raises:
      UserError: the manifest is missing, damaged or older than this.
    """
    manifest = integrity.read_export(FOLDER) or {}
    about = manifest.get("pretrained")
    name = about.get("network") if isinstance(about, dict) else None
    if name not in networks.NAMES:
        raise UserError(
            f"{FOLDER / export_files.MANIFEST}: does not say which network the weights are of; "
            "make the folder again with python -m export.pretrained"
        )
    return name


def _found(name: str, way_out: str = "name one with --model") -> Path:
    path = FOLDER / name
    if not path.is_file():
        raise UserError(f"this copy of fer_pipeline holds no pretrained model; {way_out}")
    return path
