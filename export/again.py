"""Exports a run that is trained: again, in other formats, or from another epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export import pipeline
from export.delivery import staging
from export.delivery.model_card import read_matching_metrics
from export.spec import artifacts
from export.verification.verify import ArtifactReport
from fer_pipeline import datasets, recipes, run_dir
from fer_pipeline.datasets import run_data
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import native_log
from fer_pipeline.training import checkpoints


def export_again(
    run: Path,
    *,
    data: str | None = None,
    formats: Sequence[str] | str | None = None,
    export_checkpoint: str | None = None,
    calibrate: bool | None = None,
    mirror: bool | None = None,
    tflite_batch: int = 1,
    max_accuracy_drop: float | None = None,
    on_bad_image: str | None = None,
) -> list[ArtifactReport]:
    """Exports a run to ``<run>/export``; it may be training meanwhile.

    Args:
      run: the run directory.
      data: faces to calibrate and verify on, as for ``datasets.load``; None is the run's own.
      formats: names from ``artifacts.ARTIFACTS``; None means all.
      export_checkpoint: ``"last"`` or ``"best"``; None is what the run chose.
      calibrate: whether to divide the logits by a temperature; None is what the run chose.
      mirror: whether to average a face and its mirror image inside; None is what the run chose.
      tflite_batch: images of a call of every TFLite file.
      max_accuracy_drop: percentage points in place of the accuracy gates' own.
      on_bad_image: ``"fail"`` or ``"skip"``; None is what the run did.

    Returns:
      A report for each artifact.

    Raises:
      UserError: it is no run, its data has changed, an option is not possible, or a gate was
        missed, which is raised when all the rest is delivered.
    """
    artifacts.choose(formats)
    artifacts.check_tflite_batch(tflite_batch)
    run_dir.recover_export(run)
    config = run_dir.read_config(run)
    config["calibrate"] = recipes.recorded(config, "calibrate")
    chosen = {"export_checkpoint": export_checkpoint, "calibrate": calibrate, "mirror": mirror}
    config |= {name: value for name, value in chosen.items() if value is not None}
    which = config.get("export_checkpoint") or "last"
    # The lock first: whatever weights are read under it, no newer ones are exported meanwhile.
    with staging.staged(run) as workshop, native_log.redirected(run / run_dir.TF_LOG):
        checkpoint = checkpoints.load_end(run, which)
        epoch = checkpoint.state["epoch"]
        metrics = read_matching_metrics(run, which, epoch)
        loaded = run_data.load(config, data, on_bad_image=on_bad_image)
        if not data and not loaded.own:
            raise UserError(
                f"{config['data']}: has other images than the run was trained on; name the data to "
                "calibrate and verify on with --data"
            )
        weights, temperature = checkpoint.weights, None
        if config["calibrate"]:
            weights, temperature = pipeline.calibrated(weights, metrics, loaded.splits)
        return pipeline.export_in(
            workshop,
            weights,
            train=loaded.splits.train,
            evaluation=loaded.splits.validation,
            config=config,
            metrics=metrics,
            log_path=run / run_dir.TF_LOG,
            formats=formats,
            max_accuracy_drop=max_accuracy_drop,
            tflite_batch=tflite_batch,
            epoch=epoch,
            temperature=temperature,
            mirror=config.get("mirror", False),
            data={
                "source": datasets.source_name(data or config["data"]),
                "fingerprint": loaded.fingerprint,
            },
        )
