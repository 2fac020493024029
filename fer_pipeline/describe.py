"""Shows what a data set holds: python -m fer_pipeline.describe fer2013.zip [--model=pretrained]"""

from __future__ import annotations

import tempfile
from pathlib import Path

from absl import flags

from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli, native_log

_DESCRIPTION = """
Describes a data set: images by class and split, repeated and blank ones, mean faces, and with
--model the labels that a model doubts. Prints a table, and writes a page for any browser.

  python -m fer_pipeline.describe DATA                       to description/
  python -m fer_pipeline.describe DATA --model=pretrained    and to description/doubtful.csv
  python -m fer_pipeline.describe DATA --folds=3             the same for training images
  python -m fer_pipeline.train --data=DATA --exclude=description/doubtful.csv

DATA is what fer_pipeline.train takes: a folder, a .zip, a .csv, kaggle:OWNER/NAME, or synthetic.
Doubts come from confident learning (Northcutt, Jiang, Chuang, 2021), which needs images that the
model was not trained on. Look at the page before you leave any of them out: a model is wrong, too.
"""

_OUT = flags.DEFINE_string("out", "description", "Folder to write to.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Whose doubts to list: pretrained, a run, an export, or one of its files.",
)
_SPLITS = flags.DEFINE_list(
    "splits",
    None,
    "Comma-separated: train, validation, test. Which labels may be doubted; by default all but the "
    "training images, and none of the same photograph as one of them.",
)
_FOLDS = flags.DEFINE_integer(
    "folds",
    None,
    "In place of --model: doubt labels of training images, by so many small networks, each trained "
    "without the part that it is asked about. It takes as long as a short training.",
    lower_bound=2,
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a doubtful.csv that is there.")
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do about an image that cannot be read."
)


def main(argv: list[str]) -> None:
    """Reads the flags, describes the data and prints the table."""
    if len(argv) != 2:
        what = "no data given" if len(argv) < 2 else f"unexpected argument {argv[2]!r}"
        raise UserError(
            f"{what}; name one folder, .zip or .csv of faces, kaggle:OWNER/NAME, or synthetic"
        )
    if _FOLDS.value and _MODEL.value:
        raise UserError("--folds: trains networks of its own; pass it or --model, not both")
    if _SPLITS.value and not _MODEL.value:
        raise UserError("--splits: has no effect without --model; name a model, or leave it out")
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline.stages import description

        described = description.describe(
            argv[1],
            Path(_OUT.value),
            model=_MODEL.value,
            splits=_SPLITS.value,
            folds=_FOLDS.value,
            on_bad_image=_ON_BAD_IMAGE.value,
            overwrite=_OVERWRITE.value,
        )
    print(description.table(described))
    print(f"written: {', '.join(map(str, described.files))}")


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
