"""Evaluates a trained run: python -m fer_pipeline.evaluate --run_dir=runs/NAME [--data=...]"""

from __future__ import annotations

import tempfile
from pathlib import Path

from absl import flags

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli, native_log

_DESCRIPTION = """
Evaluates the float32 network of a run and writes nothing.

  python -m fer_pipeline.evaluate --run_dir=runs/NAME                       on its own data
  python -m fer_pipeline.evaluate --run_dir=runs/NAME --data=fer2013.zip    on other faces
  python -m fer_pipeline.evaluate --run_dir=runs/NAME --data=faces --split=all
"""

_RUN_DIR = flags.DEFINE_string("run_dir", None, "The run, as fer_pipeline.train left it.")
_DATA = flags.DEFINE_string(
    "data", None, "Faces, as for fer_pipeline.train; by default those the run was trained on."
)
_FERPLUS = flags.DEFINE_string(
    "ferplus", None, "Labels of FER+, as for fer_pipeline.train; by default the run's, if any."
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "test",
    ["train", "validation", "test", "all"],
    "Which of them; all is for other faces than the run's, which may lie in class folders alone.",
)
_EXPORT_CHECKPOINT = flags.DEFINE_enum(
    "export_checkpoint",
    None,
    ["last", "best"],
    "Evaluate the last epoch's weights or those of the best validation accuracy; by default "
    "those that the run exported.",
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", None, ["fail", "skip"], "What to do about an image that cannot be read."
)


def main(argv: list[str]) -> None:
    """Reads the flags, evaluates and prints the report."""
    cli.refuse_arguments(argv)
    if not _RUN_DIR.value:
        raise UserError("--run_dir: name the run to evaluate")
    run = Path(_RUN_DIR.value)
    config = run_dir.read_config(run)
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline.datasets import layout
        from fer_pipeline.evaluation import metrics
        from fer_pipeline.stages import evaluation

        result, data, own, unread = evaluation.evaluate_run(
            run,
            _DATA.value,
            split=_SPLIT.value,
            which=_EXPORT_CHECKPOINT.value,
            on_bad_image=_ON_BAD_IMAGE.value,
            ferplus=_FERPLUS.value,
        )
    if _DATA.value is None and not own:
        print(f"{config['data']}: has other faces than when the run was trained")
    if unread:
        print(layout.describe_unread(unread))
    images = int(result.confusion.sum())
    print(
        f"{_SPLIT.value}: {images:,} images of {data}\n"
        f"accuracy {result.accuracy:.4f}  loss {result.loss:.4f}  macro F1 {result.macro_f1:.4f}  "
        f"balanced accuracy {result.balanced_accuracy:.4f}  "
        f"calibration error {result.calibration.ece:.4f}\n"
        f"{metrics.format_report(result)}"
    )


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
