"""Names expressions: python -m fer_pipeline.predict face.jpg"""

from __future__ import annotations

import contextlib
import sys

from absl import flags

from fer_pipeline import gpus
from fer_pipeline.classes import NUM_CLASSES
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

_DESCRIPTION = """
Names the expression on pictures of faces, with the model that comes with the package or your own.

  python -m fer_pipeline.predict face.jpg more/*.png
  python -m fer_pipeline.predict --model=runs/NAME/export/model_int8.tflite FOLDER
  find . -name '*.jpg' -print0 | python -m fer_pipeline.predict --format=csv - >faces.csv
  python -m fer_pipeline.predict --example

A PATH is a picture, a folder (the pictures in it and below), a glob in quotes, or - for a list of
paths on standard input, one a line or ended by NUL. Pictures of any size and colour are converted
to 48x48 grey first. --example writes a picture of a face to face.jpg, or to the PATH given, and
answers for it.
"""

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A .tflite file, a SavedModel folder, an export's model.json or .keras, an export, or a run "
    "directory; by default the pretrained model. A .tflite file answers without TensorFlow.",
)
_EXAMPLE = flags.DEFINE_bool("example", False, "Write a picture of a face, and answer for it.")
_FORMAT = flags.DEFINE_enum(
    "format",
    "table",
    ["table", "json", "csv"],
    "json: an object a line with file, frame, box, label and probabilities. csv: the same in "
    "columns.",
)
_TOP = flags.DEFINE_integer(
    "top",
    1,
    "How many of the most probable expressions the table names.",
    lower_bound=1,
    upper_bound=NUM_CLASSES,
)
_ALL = flags.DEFINE_bool("all", False, "Add a column for each of the seven to the table.")
_TTA = flags.DEFINE_bool(
    "tta", False, "Average a face and its mirror image: a little better, in twice the time."
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image",
    "continue",
    ["continue", "skip", "fail"],
    "What to do about a picture that cannot be read. continue: name it, go on, and exit with 1 in "
    "the end; skip: the same, but exit with 0 if there was any answer; fail: stop there.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes that run a .tflite file, and threads that read pictures; by default one a core.",
    lower_bound=1,
)
_TRUST = flags.DEFINE_bool(
    "trust",
    False,
    "Run a model that asks for more than an export of this software needs. Such a SavedModel can "
    "read and write your files.",
)


def main(argv: list[str]) -> int:
    """Reads the flags and prints an answer for every face."""
    # The answer is to be that of any machine, and a training may need the GPU's memory.
    gpus.hide()
    paths = argv[1:]
    if _EXAMPLE.value:
        from fer_pipeline.inference import example

        paths = [example.write_example(paths)]
    if not paths:
        raise UserError("no picture given; name files or folders, or pass --example for one")
    from fer_pipeline.inference import predictor, reporting, results, sources

    predictions = predictor.predictions(
        sources.expand(paths),
        model=_MODEL.value,
        tta=_TTA.value,
        trust=_TRUST.value,
        workers=_WORKERS.value,
    )
    # Closed at once when nobody reads on: its processes end.
    with contextlib.closing(predictions):
        counts = reporting.report(
            predictions,
            results.writer(
                _FORMAT.value,
                top=_TOP.value,
                everything=_ALL.value,
                width=sources.width(paths) if _FORMAT.value == "table" else 0,
            ),
            on_bad_image=_ON_BAD_IMAGE.value,
            total=lambda: sources.count(paths),
        )
    if not counts.answered and (counts.unreadable != 1 or _ON_BAD_IMAGE.value == "skip"):
        raise UserError("no readable picture among those given")
    if counts.answered and counts.unreadable > 1:
        print(f"{counts.unreadable:,} could not be read", file=sys.stderr)
    return int(counts.unreadable > 0 and _ON_BAD_IMAGE.value != "skip")


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
