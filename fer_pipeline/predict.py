"""Names expressions: python -m fer_pipeline.predict --model=model_int8.tflite face.jpg"""

from __future__ import annotations

import itertools
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from fer_pipeline import gpus
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import files, folders
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli, native_log

if TYPE_CHECKING:
    from fer_pipeline.images import OnBadImage

_DESCRIPTION = """
Names the expression on each picture of a face.

  python -m fer_pipeline.predict --model=runs/NAME/export/model_int8.tflite face.jpg more.png

Prints a line for each picture: file, expression, probability. Pictures of any size and colour are
converted to 48x48 grey first, for models that take RGB too.
"""

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A .tflite file, a SavedModel folder, an export's model.json or .keras, an export, or a run "
    "directory.",
)
_ALL = flags.DEFINE_bool("all", False, "Print all seven probabilities, too.")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do about an image that cannot be read."
)

_TRUST = flags.DEFINE_bool(
    "trust",
    False,
    "Run a model that asks for more than an export of this software needs. Such a SavedModel can "
    "read and write your files.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and the pictures, asks the model and prints its answers."""
    # The answer is to be that of any machine, and a training may need the GPU's memory.
    gpus.hide()
    names = argv[1:]
    if not _MODEL.value:
        raise UserError("--model: name the model to ask (--help shows what it may be)")
    if not names:
        raise UserError("no picture given; name one or more files after the flags")
    readable = [name for name in names if is_readable(name, on_bad_image=_ON_BAD_IMAGE.value)]
    if not readable:
        raise UserError("no readable picture among those given")
    pictures = files.FolderFiles("", readable)
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline.inference import model_loader

        model = model_loader.open_model(Path(_MODEL.value), trust=_TRUST.value)
        decoded = list(
            folders.decoded_batches(
                pictures, range(len(readable)), on_bad_image=_ON_BAD_IMAGE.value
            )
        )
        for name in itertools.chain(*(batch.skipped for batch in decoded)):
            print(f"{name}: skipped, not a readable image", file=sys.stderr)
        kept = [pictures.name(i) for batch in decoded for i in batch.kept]
        if not kept:
            raise UserError("no readable picture among those given")
        probabilities = model(np.concatenate([batch.images for batch in decoded]))
    # Written so that a NaN counts.
    if not (probabilities >= 0).all():
        raise UserError(f"{_MODEL.value}: damaged (it gives no probabilities); export it again")
    width = max(map(len, kept))
    for name, row in zip(kept, probabilities, strict=True):
        print(f"{name:{width}}  {format_prediction(row, everything=_ALL.value)}")


def is_readable(name: str, *, on_bad_image: OnBadImage) -> bool:
    """Whether a file can be opened, asked before anything large is loaded; ``"skip"`` names it.

    Raises:
      UserError: it cannot, and ``on_bad_image`` is ``"fail"``.
    """
    problem = None
    try:
        mode = os.stat(name).st_mode
        # Opening a pipe would wait for a writer.
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            open(name, "rb").close()
        else:
            problem = "not a regular file"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem and on_bad_image == "fail":
        raise UserError(f"{name}: {problem}")
    if problem:
        print(f"{name}: skipped, {problem}", file=sys.stderr)
    return not problem


def format_prediction(probabilities: np.ndarray, *, everything: bool) -> str:
    """The first of the most probable classes and its probability; then, if asked for, each's."""
    best = int(probabilities.argmax())
    columns = [f"{CLASS_NAMES[best]:8}", f"{probabilities[best]:.4f}"]
    if everything:
        columns += [f"{n} {p:.4f}" for n, p in zip(CLASS_NAMES, probabilities, strict=True)]
    return "  ".join(columns)


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
