"""Trains the CNN and exports it: python -m fer_pipeline.train --epochs=15 [--data=fer2013.zip]"""

from __future__ import annotations

from absl import flags

from fer_pipeline import (
    cli,
    cluster,
    export_package,
    networks,
    precision,
    recipes,
    schedule,
)
from fer_pipeline.errors import UserError

#: A user's own file or folder of that name, in the place of which ours is used.
_OTHER_EXPORT = export_package.load()

from export import artifacts  # noqa: E402 - only now is it certain to be ours

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
_MODEL = flags.DEFINE_enum("model", "notebook", networks.NAMES, "The network.")
_RECIPE = flags.DEFINE_enum(
    "recipe",
    "notebook",
    list(recipes.RECIPES),
    "What the flags below that name it are where they are not typed.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, f"Images of a step. {recipes.defaults('batch_size')}", lower_bound=1
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    None,
    "At the start, or the largest; Muon's is relative to the norm of a kernel. "
    f"{recipes.defaults('learning_rate')}",
    lower_bound=0.0,
)
_OPTIMIZER = flags.DEFINE_enum(
    "optimizer",
    None,
    ["adam", "adamw", "muon"],
    f"'muon' has AdamW for what is no hidden kernel. {recipes.defaults('optimizer')}",
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    None,
    schedule.NAMES,
    "'plateau' cuts the rate tenfold when the validation loss stalls for two epochs; 'linear' "
    f"rises, then falls to zero by the step. {recipes.defaults('schedule')}",
)
_WARMUP = flags.DEFINE_float(
    "warmup",
    None,
    f"Share of all steps over which 'linear' rises. {recipes.defaults('warmup')}",
    lower_bound=0.0,
    upper_bound=1.0,
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay",
    None,
    f"AdamW's; beside Muon the head's alone. {recipes.defaults('weight_decay')}",
    lower_bound=0.0,
)
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing",
    None,
    "Share of a label's weight that all classes have in common. "
    f"{recipes.defaults('label_smoothing')}",
    lower_bound=0.0,
    upper_bound=1.0,
)
_DROPOUT = flags.DEFINE_float(
    "dropout",
    None,
    "Rate before the last layer, and none elsewhere; without it the network's own. "
    f"{recipes.defaults('dropout')}",
    lower_bound=0.0,
    upper_bound=0.99,
)
_NORMALIZATION_MOMENTUM = flags.DEFINE_float(
    "normalization_momentum",
    None,
    f"Of the moving statistics. {recipes.defaults('normalization_momentum')}",
    lower_bound=0.0,
    upper_bound=1.0,
)
_AUGMENT = flags.DEFINE_string(
    "augment",
    None,
    "How training faces are changed at most: 'none', or some of flip, shift:PIXELS, "
    "rotate:DEGREES, zoom:SHARE, cutout:PIXELS; all but the flip fade out over the last tenth. "
    f"{recipes.defaults('augment')}",
)
_TEACHER = flags.DEFINE_string(
    "teacher", None, "Comma-separated finished runs whose answers the network also learns."
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, f"At which a teacher is imitated. {recipes.defaults('temperature')}"
)
_DISTILL = flags.DEFINE_float(
    "distill",
    None,
    f"Share of the loss that is the teachers'. {recipes.defaults('distill')}",
    lower_bound=0.0,
    upper_bound=1.0,
)
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
    from fer_pipeline import stages

    options = stages.Options(
        data=_DATA.value,
        run_dir=_RUN_DIR.value,
        overwrite=_OVERWRITE.value,
        epochs=_EPOCHS.value,
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
        recipe=_RECIPE.value,
        model=_MODEL.value,
        teacher=_TEACHER.value,
        **recipes.settings(
            _RECIPE.value,
            {
                "batch_size": _BATCH_SIZE.value,
                "learning_rate": _LEARNING_RATE.value,
                "optimizer": _OPTIMIZER.value,
                "schedule": _SCHEDULE.value,
                "warmup": _WARMUP.value,
                "weight_decay": _WEIGHT_DECAY.value,
                "label_smoothing": _LABEL_SMOOTHING.value,
                "dropout": _DROPOUT.value,
                "normalization_momentum": _NORMALIZATION_MOMENTUM.value,
                "augment": _AUGMENT.value,
                "temperature": _TEMPERATURE.value,
                "distill": _DISTILL.value,
            },
        ),
    )
    with cli.narration():
        if _OTHER_EXPORT:
            print(f"{_OTHER_EXPORT}: is not this software's package export, which is used instead")
        stages.run(options, export_stage=_export if _EXPORT.value else None)


def _export(**arguments) -> None:
    """Hands the trained weights to the export package, imported only now."""
    from export import pipeline

    pipeline.export_run(formats=_FORMATS.value, **arguments)


def run() -> None:
    """The console script ``fer-pipeline``."""
    cli.run_app(main, _DESCRIPTION, narrates=True)


if __name__ == "__main__":
    run()
