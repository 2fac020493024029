"""Names expressions: python -m fer_pipeline.predict --model=model_int8.tflite face.jpg"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from fer_pipeline import cli, native_log
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from fer_pipeline.faces import OnBadImage

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
    names = argv[1:]
    if not _MODEL.value:
        raise UserError("--model: name the model to ask (--help shows what it may be)")
    if not names:
        raise UserError("no picture given; name one or more files after the flags")
    names, encoded = read_all(names, on_bad_image=_ON_BAD_IMAGE.value)
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline import faces, runtimes

        model = runtimes.open_model(Path(_MODEL.value), trust=_TRUST.value)
        decoded = faces.decode_faces(encoded, names, on_bad_image=_ON_BAD_IMAGE.value)
        for name in decoded.skipped:
            print(f"{name}: skipped, not a readable image", file=sys.stderr)
        if not len(decoded.kept):
            raise UserError("no readable picture among those given")
        probabilities = model(decoded.images)
    # Written so that a NaN counts.
    if not (probabilities >= 0).all():
        raise UserError(f"{_MODEL.value}: damaged (it gives no probabilities); export it again")
    kept = [names[i] for i in decoded.kept]
    width = max(map(len, kept))
    for name, row in zip(kept, probabilities, strict=True):
        print(f"{name:{width}}  {answer(row, everything=_ALL.value)}")


def read_all(names: Sequence[str], *, on_bad_image: OnBadImage) -> tuple[list[str], list[bytes]]:
    """The files that can be read, and their bytes; ``"skip"`` names the others and leaves them out.

    Raises:
      UserError: a file cannot be read, or with ``"skip"`` none can.
    """
    readable, contents = [], []
    for name in names:
        try:
            contents.append(Path(name).read_bytes())
            readable.append(name)
        except OSError as error:
            if on_bad_image == "fail":
                raise UserError(f"{name}: cannot be read ({error.strerror})") from error
            print(f"{name}: skipped, cannot be read ({error.strerror})", file=sys.stderr)
    if not readable:
        raise UserError("no readable picture among those given")
    return readable, contents


def answer(probabilities: np.ndarray, *, everything: bool) -> str:
    """The first of the most probable classes and its probability; then, if asked for, each's."""
    best = int(probabilities.argmax())
    columns = [f"{CLASS_NAMES[best]:8}", f"{probabilities[best]:.4f}"]
    if everything:
        columns += [f"{n} {p:.4f}" for n, p in zip(CLASS_NAMES, probabilities, strict=True)]
    return "  ".join(columns)


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
