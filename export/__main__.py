"""Exports a run's trained network again, or proves an export: python -m export --run_dir=..."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from export import artifacts
from fer_pipeline import cli, run_dir
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    from fer_pipeline.datasets.splits import Splits

_DESCRIPTION = """
Exports the network of a training run to <run_dir>/export, or proves an export.

  python -m export --run_dir=runs/NAME                      every format
  python -m export --run_dir=runs/NAME --formats=int8       some formats
  python -m export --run_dir=runs/NAME --verify_only        prove what is there
"""

_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The run; with --verify_only also the folder of an export."
)
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    f"Comma-separated formats, by default all: {', '.join(artifacts.ARTIFACTS)}. The new export "
    "holds these alone.",
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "Where the faces come from, by default the run's own data; with --verify_only, measure the "
    "accuracy on them too.",
)
_EXPORT_CHECKPOINT = flags.DEFINE_enum(
    "export_checkpoint",
    None,
    ["last", "best"],
    "Which weights: the last epoch's or those of the best validation accuracy; by default what the "
    "run chose.",
)
#: Settings of a run that decide which images are for validation.
_SPLITTING = ("seed", "validation_fraction")

#: And how they are read.
_READING = ("on_bad_image", "cache", "cache_dir")

_VERIFY_ONLY = flags.DEFINE_bool(
    "verify_only",
    False,
    "Write nothing; prove hashes, completeness, inputs and outputs, and golden outputs.",
)
_TFLITE_BATCH = flags.DEFINE_integer(
    "tflite_batch",
    1,
    f"Images that every TFLite file takes a call, up to {artifacts.MAX_TFLITE_BATCH}: more suit a "
    "server, phones and MediaPipe Tasks want 1. With --verify_only the manifest tells.",
)
_MAX_ACCURACY_DROP = flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Percentage points of accuracy that a quantised file may lose, in place of the gates' own.",
    lower_bound=0.0,
)


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stage."""
    cli.refuse_arguments(argv)
    if not _RUN_DIR.value:
        raise UserError("--run_dir is needed: the run to export")
    run = Path(_RUN_DIR.value)
    if not run.is_dir():
        raise UserError(f"--run_dir={run}: no such directory")
    with cli.narration():
        if _VERIFY_ONLY.value:
            _verify(run)
        else:
            _export(run)


def _verify(run: Path) -> None:
    from export import manifest
    from export.table import format_table
    from fer_pipeline import native_log
    from fer_pipeline.datasets.splits import fingerprint

    folder = run / run_dir.EXPORT if (run / run_dir.EXPORT).is_dir() else run
    # A folder that was handed over is left as it is, so its log goes nowhere.
    with native_log.redirected("/dev/null"):
        evaluation = fingerprint_of_data = None
        if _DATA.value:
            of_run = manifest.check_files(folder)["run"]
            # What somebody else's manifest says of caches and folders is none of this machine's.
            config = {name: of_run[name] for name in _SPLITTING if name in of_run}
            splits = _load(config | {"data": _DATA.value})
            evaluation = (splits.validation.images[:], splits.validation.labels)
            fingerprint_of_data = fingerprint(splits)
        reports = manifest.verify_folder(
            folder,
            evaluation=evaluation,
            fingerprint=fingerprint_of_data,
            max_accuracy_drop=_MAX_ACCURACY_DROP.value,
        )
    print(format_table(reports))
    images = reports[0].comparison.images
    on = f"{images:,} images of --data" if _DATA.value else f"its {images} golden faces"
    print(f"{folder}: hashes, inputs and outputs, and golden outputs are right; measured on {on}")


def _export(run: Path) -> None:
    artifacts.chosen(_FORMATS.value)
    artifacts.check_tflite_batch(_TFLITE_BATCH.value)
    config = run_dir.read_config(run)
    if _EXPORT_CHECKPOINT.value:
        config["export_checkpoint"] = _EXPORT_CHECKPOINT.value
    from export.model_card import metrics_of
    from fer_pipeline import checkpoints, datasets, native_log
    from fer_pipeline.datasets.splits import fingerprint

    metrics = metrics_of(run, config.get("export_checkpoint", "last"))
    log_path = run / run_dir.TF_LOG
    # Before anything is written there, and in words.
    with run_dir.locked(run, run_dir.EXPORT_LOCK, busy="another process is exporting it; wait"):
        pass
    with native_log.redirected(log_path):
        which = config.get("export_checkpoint", "last")
        weights = checkpoints.load_weights(run, which)
        splits = _load(config | ({"data": _DATA.value} if _DATA.value else {}))
        found = fingerprint(splits)
        if not _DATA.value and found != config["fingerprint"]:
            raise UserError(
                f"{config['data']}: has other images than the run was trained on; name the data to "
                "calibrate and verify on with --data"
            )
        from export import pipeline

        pipeline.export_run(
            run,
            weights,
            train=splits.train,
            evaluation=splits.validation,
            config=config,
            metrics=metrics,
            log_path=log_path,
            formats=_FORMATS.value,
            max_accuracy_drop=_MAX_ACCURACY_DROP.value,
            tflite_batch=_TFLITE_BATCH.value,
            epoch=checkpoints.epoch_of(run, which),
            data={
                "source": datasets.source_name(_DATA.value or config["data"]),
                "fingerprint": found,
            },
        )


def _load(config: dict[str, Any]) -> Splits:
    from fer_pipeline import datasets

    options = {name: config[name] for name in _SPLITTING + _READING if name in config}
    return datasets.load(config["data"], **options).splits


def run() -> None:
    """The module's entry."""
    cli.run_app(main, _DESCRIPTION, narrates=True)


if __name__ == "__main__":
    run()
