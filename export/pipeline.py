"""The export stage: weights in, a verified ``export/`` out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export import artifacts as catalogue
from export import (
    contract,
    golden,
    keras_files,
    manifest,
    model_card,
    rgb,
    saved_model,
    staging,
    tflite,
    verify,
)
from export.artifacts import Artifact
from export.inference_model import inference_model, probabilities
from export.table import format_table
from export.verify import ArtifactReport
from fer_pipeline import native_log
from fer_pipeline.datasets.splits import Split
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import keras


def export_run(
    run: Path,
    weights: Sequence[np.ndarray],
    *,
    train: Split,
    evaluation: Split,
    config: dict[str, Any],
    metrics: dict[str, Any] | None,
    log_path: Path | None,
    formats: Sequence[str] | None = None,
    max_accuracy_drop: float | None = None,
    tflite_batch: int = 1,
    epoch: int | None = None,
    data: dict[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> list[ArtifactReport]:
    """Exports trained weights to ``<run>/export``, every artifact proved before it appears there.

    Args:
      run: the run directory.
      weights: float32 arrays in the order of ``build_model().get_weights()``.
      train: images that int8 is calibrated on, at least one.
      evaluation: images that the artifacts are compared with the twin on, at least one.
      config: of the run, for the manifest; its ``seed`` draws the calibration images.
      metrics: the ``metrics.json`` of these weights, for the model card; None where there is none.
      log_path: what native code prints is appended there; None leaves it on the terminal.
      formats: names from ``artifacts.ARTIFACTS``; None means all.
      max_accuracy_drop: percentage points in place of the accuracy gates' own.
      tflite_batch: images of a call of every TFLite file.
      epoch: how many epochs made the weights, for the manifest; None where that is not known.
      data: ``source`` and ``fingerprint`` of the data that the images are of, for the manifest;
        None is the run's own.
      say: shows a line or the table.

    Returns:
      A report for each artifact.

    Raises:
      UserError: a format or ``tflite_batch`` is not possible; or a gate was missed. The previous
        export stays then, and the new one is left in ``export.failed`` with ``report.json``.
    """
    chosen = catalogue.chosen(formats)
    catalogue.check_tflite_batch(tflite_batch)
    started = time.perf_counter()
    say(f"exporting and verifying {', '.join(chosen)}")
    with (
        staging.no_room_explained(run),
        native_log.redirected(log_path),
        staging.staged(run) as (folder, scratch),
    ):
        model = inference_model(weights)
        proof = _write_golden(folder, model)
        images, labels = np.asarray(evaluation.images[:]), evaluation.labels
        twin = probabilities(model, images)
        reports = verify.verify_artifacts(
            folder,
            chosen,
            images,
            labels,
            twin,
            proof,
            log_path=log_path,
            max_accuracy_drop=max_accuracy_drop,
            tflite_batch=tflite_batch,
            written=write_artifacts(
                folder,
                scratch,
                model,
                chosen,
                train,
                seed=config.get("seed", 0),
                tflite_batch=tflite_batch,
            ),
        )
        table = format_table(reports)
        if any(report.failures for report in reports):
            _fail(run, folder, reports, table, say)
        accuracy = verify.compare(twin, twin, labels).accuracy
        promised = manifest.build(
            reports,
            accuracy,
            config,
            tflite_batch=tflite_batch,
            max_accuracy_drop=max_accuracy_drop,
            epoch=epoch,
            data=data,
        )
        card = model_card.text(promised, metrics)
        (folder / catalogue.MODEL_CARD).write_text(card, encoding="utf-8")
        manifest.write(folder, promised)
        staging.publish(run, folder)
    count = f"{len(labels):,} validation images, float32 accuracy {accuracy:.2%}"
    say(f"{table}\nverified on {count}; exported in {time.perf_counter() - started:.1f} s")
    return reports


def write_artifacts(
    folder: Path,
    scratch: Path,
    model: keras.Sequential,
    chosen: dict[str, Artifact],
    train: Split,
    *,
    seed: int,
    tflite_batch: int = 1,
) -> Iterator[str]:
    """Writes ``labels.txt`` and the chosen artifacts, and yields each one's name when it is there.

    Keras files come last: they are re-opened in this process, and nothing else should trace
    graphs in it while others are written, since TensorFlow numbers what it traces.

    Args:
      folder: where to write.
      scratch: for what is needed on the way, on any disk.
      model: the float32 twin for any batch size.
      chosen: artifacts by format.
      train: where calibration images are drawn from.
      seed: of the draw.
      tflite_batch: images of a call of a TFLite file.
    """
    labels_file = folder / catalogue.LABELS
    labels_file.write_text(contract.labels_text(), encoding="utf-8")
    if "saved_model" in chosen:
        archive = scratch / catalogue.KERAS_ARCHIVE
        keras_files.write_archive(model, archive)
        saved_model.write_apart(archive, folder / catalogue.SAVED_MODEL, labels_file)
        yield "saved_model"
    lite = {name: artifact for name, artifact in chosen.items() if artifact.runtime == "tflite"}
    for channels in sorted({artifact.channels for artifact in lite.values()}):
        network = rgb.rgb_model(model) if channels == 3 else model
        saved_model.write_fixed_batch(network, scratch / f"channels_{channels}", tflite_batch)
    for name, artifact in lite.items():
        images = None
        if name.startswith("int8"):
            images = tflite.calibration_images(train.images, train.labels, seed)
            images = rgb.colour_images(images) if artifact.channels == 3 else images
        source = scratch / f"channels_{artifact.channels}"
        content = tflite.convert(source, name, images, tflite_batch)
        (folder / artifact.path).write_bytes(content)
        yield name
    if "keras" in chosen:
        keras_files.write(model, folder)
        yield "keras"
    if "keras_v3" in chosen:
        keras_files.write_archive(model, folder / catalogue.KERAS_ARCHIVE)
        yield "keras_v3"


def _write_golden(folder: Path, model: keras.Model) -> golden.Golden:
    images, labels = golden.faces()
    proof = golden.Golden(images, labels, probabilities(model, images))
    golden.write(folder / catalogue.GOLDEN, proof)
    return proof


def _fail(
    run: Path,
    folder: Path,
    reports: list[ArtifactReport],
    table: str,
    say: Callable[[str], None],
) -> None:
    """Leaves the export in ``export.failed`` with its report, and raises UserError."""
    value = [_report_json(report) for report in reports]
    text = json.dumps(value, indent=2) + "\n"
    (folder / catalogue.REPORT).write_text(text, encoding="utf-8")
    kept = staging.keep_failed(run, folder)
    say(table)
    failed = [report for report in reports if report.failures]
    more = f" (and {len(failed) - 1} more artifacts)" if len(failed) > 1 else ""
    raise UserError(
        f"{kept / failed[0].path}: {'; '.join(failed[0].failures)}{more}; the export was not"
        f" replaced, see {kept / catalogue.REPORT}"
    )


def _report_json(report: ArtifactReport) -> dict[str, Any]:
    nested = {
        name: value._asdict() if value else None
        for name, value in (("comparison", report.comparison), ("latency", report.latency))
    }
    return report._asdict() | nested
