"""Names expressions: python -m fer_pipeline.predict photo.jpg"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from fer_pipeline import classes as classes_lib
from fer_pipeline import gpus
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli, tables

if TYPE_CHECKING:
    from fer_pipeline.inference import results
    from fer_pipeline.inference.faces import asking

_DESCRIPTION = """
Names the expression on every face in pictures and films, or in front of a camera, with the model
that comes with the package or your own.

  python -m fer_pipeline.predict photo.jpg more/*.png --annotated=copies
  python -m fer_pipeline.predict --model=runs/NAME/export/model_int8.tflite FOLDER
  find . -name '*.jpg' -print0 | python -m fer_pipeline.predict --format=csv - >faces.csv
  python -m fer_pipeline.predict film.mp4 --every=5 --format=json
  python -m fer_pipeline.predict --camera=0
  python -m fer_pipeline.predict --example

A PATH is a picture, a film, a folder (the pictures in it and below), a glob in quotes, or - for a
list of paths on standard input, one a line or ended by NUL. Films come after all pictures. To find
faces, pip install 'fer_pipeline[faces]'; small pictures of one face need no search. Faces of any
size and colour are converted to 48x48 grey. --example writes a picture of a face to face.jpg, or to
the PATH given, and answers for it.
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
    "json: an object a line with file, frame, box, track, label and probabilities, all but "
    "file null where no face was found. csv: the same in columns.",
)
_FACES = flags.DEFINE_enum(
    "faces",
    "auto",
    ["auto", "always", "never"],
    "Whether to look for faces in pictures. auto: takes one of up to 64x64 pixels, or one that its "
    "only face fills, as a whole. never: takes every picture as one face.",
)
_ANNOTATED = flags.DEFINE_string(
    "annotated", None, "Folder for copies with boxes, labels and probabilities."
)
_CAMERA = flags.DEFINE_string(
    "camera",
    None,
    "Number of a camera: shows it in a window until q is pressed; without a display, and where the "
    "output is no terminal, rows are printed. A film or an address may stand for it.",
)
_EVERY = flags.DEFINE_integer(
    "every", 1, "Of a film or a camera, look at every how many frames.", lower_bound=1
)
_SMOOTH = flags.DEFINE_float(
    "smooth",
    0.5,
    "Share of the past in the probabilities of a face that is followed through a film; 0: none.",
    lower_bound=0,
    upper_bound=0.99,
)
_TOP = flags.DEFINE_integer(
    "top",
    1,
    "How many of the most probable expressions the table names.",
    lower_bound=1,
)
_ALL = flags.DEFINE_bool("all", False, "Add a column for each class to the table.")
_TTA = flags.DEFINE_bool(
    "tta",
    False,
    "Average a face and its mirror image: a little better, in twice the time. The pretrained model "
    "does so by itself.",
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
    if paths and _CAMERA.value:
        raise UserError("--camera: give no paths beside it")
    if _ANNOTATED.value and Path(_ANNOTATED.value).is_file():
        raise UserError(f"--annotated={_ANNOTATED.value}: is a file; name a folder for the copies")
    if not paths and not _CAMERA.value:
        raise UserError("no picture given; name files or folders, or pass --example for one")
    from fer_pipeline.inference import classifier, results, sources

    classes = classifier.named_classes(_MODEL.value)
    if classes is None:
        classes = classifier.class_names(_MODEL.value, trust=_TRUST.value)
        print(
            f"{_MODEL.value}: nothing names its answers, which are taken for "
            f"{classes_lib.listed(classes)}; a labels.txt beside it names them, one a line",
            file=sys.stderr,
        )
    if _TOP.value > len(classes):
        raise UserError(f"--top={_TOP.value}: the model has {len(classes)} classes; name fewer")
    write = results.writer(
        _FORMAT.value,
        classes,
        top=_TOP.value,
        everything=_ALL.value,
        width=sources.width(paths) if _FORMAT.value == "table" else 0,
        columns=tables.columns(sys.stdout),
    )
    # The usual way to end a camera where there is no window.
    with contextlib.suppress(*[KeyboardInterrupt] if _CAMERA.value else []):
        return _camera(classes, write) if _CAMERA.value else _files(paths, classes, write)
    return 0


def _question(classes: tuple[str, ...]) -> asking.Question:
    from fer_pipeline.inference.faces import asking

    return asking.Question(
        model=_MODEL.value,
        tta=_TTA.value,
        trust=_TRUST.value,
        workers=_WORKERS.value,
        faces=_FACES.value,
        annotated=Path(_ANNOTATED.value) if _ANNOTATED.value else None,
        every=_EVERY.value,
        smooth=_SMOOTH.value,
        classes=classes,
    )


def _files(paths: list[str], classes: tuple[str, ...], write: results.Writer) -> int:
    from fer_pipeline.inference import sources
    from fer_pipeline.inference.faces import asking, reporting

    # The copies of an earlier start may lie in the same folder as their pictures.
    copies = _ANNOTATED.value
    found = sources.expand(paths, without=copies)
    predictions = asking.of_files(found, _question(classes))
    # Closed at once when nobody reads on: its processes end.
    with contextlib.closing(predictions):
        counts = reporting.report(
            predictions,
            write,
            on_bad_image=_ON_BAD_IMAGE.value,
            total=lambda: sources.count(paths, without=copies),
        )
    if not counts.answered and (counts.unreadable != 1 or _ON_BAD_IMAGE.value == "skip"):
        raise UserError("no readable picture among those given")
    # Of a film the table has a row a frame, too many to see what they come to.
    for line in reporting.sum_up(counts.followed) if _FORMAT.value == "table" else ():
        print(line, file=sys.stderr)
    for line in reporting.say_who_is_missing(counts):
        print(line, file=sys.stderr)
    if counts.answered and counts.unreadable > 1:
        print(f"{counts.unreadable:,} could not be read", file=sys.stderr)
    return int(counts.unreadable > 0 and _ON_BAD_IMAGE.value != "skip")


def _camera(classes: tuple[str, ...], write: results.Writer) -> int:
    from fer_pipeline.inference.faces import asking, reporting, window

    show = window.open_window("fer_pipeline")
    if show and sys.stdout.isatty():
        print("press q in the window to end", file=sys.stderr)
        write = _nothing
    predictions = asking.of_camera(_CAMERA.value, _question(classes), show)
    with contextlib.closing(predictions):
        reporting.report(predictions, write, on_bad_image="fail")
    return 0


def _nothing(_: object) -> str:
    """Writes no rows: the window shows it all."""
    return ""


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
