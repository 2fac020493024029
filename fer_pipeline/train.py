"""Trains the CNN and exports it: python -m fer_pipeline.train --epochs=15 [--data=fer2013.zip]"""

from __future__ import annotations

from absl import flags

from fer_pipeline import export_package
from fer_pipeline.devices import cluster, precision
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

#: A user's own file or folder of that name, in the place of which ours is used.
_OTHER_EXPORT = export_package.load()

from export.spec import artifacts  # noqa: E402 - only now is it certain to be ours

_DESCRIPTION = """
Trains the facial-expression CNN and exports it for phones and servers.

  python -m fer_pipeline.train --epochs=15                    the embedded synthetic faces
  python -m fer_pipeline.train --epochs=15 --data=fer2013.zip a folder, a .zip or a .csv

The same command continues a run that was interrupted.
"""

_DATA = flags.DEFINE_string(
    "data",
    "synthetic",
    "Where the faces come from: 'synthetic'; a folder or .zip of train/<class>/ and test/<class>/ "
    "images; or Kaggle's fer2013.csv or icml_face_data.csv.",
)
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Where everything is written; by default runs/<data>-<recipe>-s<seed>."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete the run in --run_dir and start anew.")
_EPOCHS = flags.DEFINE_integer("epochs", 15, "Passes over the training images.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a training step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 5e-4, "Adam's, at the start.", lower_bound=0.0)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of weights, dropout, shuffling and flips.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
_PRECISION = flags.DEFINE_enum(
    "precision", "auto", ["auto", *precision.POLICIES], "Keras dtype policy of the training."
)
_CACHE = flags.DEFINE_enum(
    "cache",
    "memory",
    ["memory", "disk", "none"],
    "Where decoded faces are kept: in memory; on disk, so that the next start decodes nothing; or "
    "nowhere, for sources larger than memory.",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Folder of --cache=disk; by default fer_pipeline in the user's cache."
)
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction",
    None,
    "Cut this share of the training images off for validation, in place of the source's own.",
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "fail", ["fail", "skip"], "What to do about an image that cannot be read."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "auto",
    cluster.STRATEGIES,
    "Which devices train: one; all GPUs of this host; or the hosts of TF_CONFIG. 'auto' takes the "
    "hosts if TF_CONFIG is set, else all GPUs if a batch has 256 images for each, else one.",
)
_JOIN_MINUTES = flags.DEFINE_float(
    "join_minutes", 10.0, "Minutes to wait for the other hosts of TF_CONFIG.", lower_bound=0.0
)
_STEPS_PER_EXECUTION = flags.DEFINE_integer(
    "steps_per_execution",
    None,
    "Steps without Python in between; by default as many as take about a second.",
    lower_bound=1,
)
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    "auto",
    ["auto", "true", "false"],
    "Compile by XLA; 'auto' does on one GPU of compute capability below 12.0 without "
    "--deterministic.",
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "Minutes between two checkpoints inside an epoch; there is one after every epoch, too.",
    lower_bound=0.0,
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Have a repetition give the same bits, on as many threads and devices."
)
_THREADS = flags.DEFINE_integer(
    "threads",
    None,
    "Threads of an operation; by default one a core.",
    lower_bound=1,
    upper_bound=4096,
)
_TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write <run_dir>/tensorboard; needs the extra 'tensorboard'."
)
_EXPORT = flags.DEFINE_bool("export", True, "Export the trained network to <run_dir>/export.")
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    f"Comma-separated formats to export, by default all: {', '.join(artifacts.ARTIFACTS)}.",
)
_EXPORT_CHECKPOINT = flags.DEFINE_enum(
    "export_checkpoint",
    "last",
    ["last", "best"],
    "Evaluate and export the last epoch's weights, or those of the best validation accuracy.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stages."""
    cli.refuse_arguments(argv)
    artifacts.chosen(_FORMATS.value)
    if _FORMATS.value and not _EXPORT.value:
        raise UserError("--formats: has no effect with --noexport; leave one of them out")
    from fer_pipeline.stages import run as run_lib

    options = run_lib.Options(
        data=_DATA.value,
        run_dir=_RUN_DIR.value,
        overwrite=_OVERWRITE.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        learning_rate=_LEARNING_RATE.value,
        seed=_SEED.value,
        precision=_PRECISION.value,
        cache=_CACHE.value,
        cache_dir=_CACHE_DIR.value,
        validation_fraction=_VALIDATION_FRACTION.value,
        on_bad_image=_ON_BAD_IMAGE.value,
        export_checkpoint=_EXPORT_CHECKPOINT.value,
        strategy=_STRATEGY.value,
        join_minutes=_JOIN_MINUTES.value,
        steps_per_execution=_STEPS_PER_EXECUTION.value,
        jit_compile=_JIT_COMPILE.value,
        checkpoint_minutes=_CHECKPOINT_MINUTES.value,
        deterministic=_DETERMINISTIC.value,
        threads=_THREADS.value,
        tensorboard=_TENSORBOARD.value,
    )
    with cli.narration():
        if _OTHER_EXPORT:
            print(f"{_OTHER_EXPORT}: is not this software's package export, which is used instead")
        run_lib.run(options, export_stage=_export if _EXPORT.value else None)


def _export(**arguments) -> None:
    """Hands the trained weights to the export package, imported only now."""
    from export import pipeline

    pipeline.export_run(formats=_FORMATS.value, **arguments)


def run() -> None:
    """The console script ``fer-pipeline``."""
    cli.run_app(main, _DESCRIPTION, narrates=True)


if __name__ == "__main__":
    run()
