"""Packs a run's export into the package: python -m export.pretrained --run_dir=runs/NAME"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from fer_pipeline import gpus
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

_DESCRIPTION = """
Makes the pretrained model that comes with the package of a run's export.

  python -m export.pretrained --run_dir=runs/NAME

Takes the int8 and the float16 file and the weights, verifies each after the copy, and replaces the
folder as a whole. It may take 4,000,000 bytes.
"""

_RUN_DIR = flags.DEFINE_string("run_dir", None, "The run, finished and exported.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", "fer_pipeline/pretrained", "The folder to write or to replace."
)


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stage."""
    gpus.hide()
    cli.refuse_arguments(argv)
    if not _RUN_DIR.value:
        raise UserError("--run_dir is needed: the run whose export is packed")
    from export.delivery import pretrained
    from fer_pipeline.terminal import native_log

    with cli.narration(), native_log.redirected("/dev/null"):
        pretrained.pack(Path(_RUN_DIR.value), Path(_OUTPUT_DIR.value))


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION, narrates=True)
