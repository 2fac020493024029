"""The export stage: weights in, a verified ``export/`` out."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.delivery import manifest, model_card, staging
from export.delivery.staging import Workshop
from export.formats import keras_files, rgb, saved_model, tflite
from export.formats import mirror as mirror_lib
from export.formats.inference_model import inference_model
from export.spec import artifacts, golden, io_spec
from export.spec.artifacts import Artifact
from export.spec.comparison import compare
from export.verification import verify
from export.verification.table import format_reports
from export.verification.verify import ArtifactReport
from fer_pipeline import run_dir, run_record
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import report as run_report
from fer_pipeline.evaluation import temperature as temperature_lib
from fer_pipeline.inference import export_files
from fer_pipeline.inference.keras_loader import predict_probabilities
from fer_pipeline.terminal import native_log, progress, tables

if TYPE_CHECKING:
    import keras


def export_run(
    run: Path,
    weights: Sequence[np.ndarray],
    *,
    say: Callable[[str], None] = print,
    **arguments: Any,
) -> list[ArtifactReport]:
    """Calls ``export_in`` with the newest weights of a run; waits while it is exported already.

    To export weights that are read from a run which may be trained or exported meanwhile, read them
    inside ``staging.staged`` and call ``export_in``.

    Args:
      run: the run directory; the export is in ``<run>/export``.
      weights: as for ``export_in``.
      say: as for ``export_in``.
      **arguments: the others of ``export_in``, which says what is returned and raised.
    """
    # Before the run directory is touched.
    artifacts.choose(arguments.get("formats"))
    artifacts.check_tflite_batch(arguments.get("tflite_batch", 1))

    def wait() -> None:
        say("another process is exporting this run; waiting for it")

    with staging.staged(run, wait=wait) as workshop:
        return export_in(workshop, weights, say=say, **arguments)


def calibrated(
    weights: Sequence[np.ndarray],
    metrics: dict[str, Any] | None,
    splits: Splits,
    *,
    say: Callable[[str], None] = print,
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """Folds a temperature into weights: that of their ``metrics.json``, or else a fitted one.

    Returns:
      The weights for ``export_in``, and its ``temperature``.
    """
    found = metrics.get("temperature") if metrics else None
    if not found:
        fitted = temperature_lib.calibrate(inference_model(weights), splits)
        found = temperature_lib.as_json(fitted) if fitted else None
    say(temperature_lib.describe(found, len(splits.validation.labels)))
    return temperature_lib.fold(weights, found["value"] if found else None), found


def export_in(
    workshop: Workshop,
    weights: Sequence[np.ndarray],
    *,
    train: Split,
    evaluation: Split,
    config: dict[str, Any],
    metrics: dict[str, Any] | None,
    log_path: Path | None,
    formats: Sequence[str] | str | None = None,
    max_accuracy_drop: float | None = None,
    tflite_batch: int = 1,
    epoch: int | None = None,
    data: dict[str, str] | None = None,
    temperature: dict[str, Any] | None = None,
    mirror: bool = False,
    say: Callable[[str], None] = print,
) -> list[ArtifactReport]:
    """Exports trained weights to ``<run>/export``, every artifact verified before it appears there.

    An artifact that misses a gate is kept back in ``export.failed``, the others are delivered. If
    all miss theirs the previous export stays.

    Args:
      workshop: from ``staging.staged``.
      weights: float32 arrays in the order of ``build_model().get_weights()``, as they are
        delivered: a temperature is folded in already.
      train: images that int8 is calibrated on, at least one.
      evaluation: images that the artifacts are compared with the reference model on, at least one.
      config: of the run, for the manifest; its ``seed`` draws the calibration images, and its
        ``classes`` are those of the weights.
      metrics: the ``metrics.json`` of these weights, for the model card; None where there is none.
      log_path: what native code prints is appended there; None leaves it on the terminal.
      formats: names from ``artifacts.ARTIFACTS``; None means all.
      max_accuracy_drop: percentage points in place of the accuracy gates' own.
      tflite_batch: images of a call of every TFLite file.
      epoch: how many epochs made the weights, for the manifest; None where that is not known.
      data: ``source`` and ``fingerprint`` of the data that the images are of, for the manifest;
        None is the run's own.
      temperature: the one that is folded in, for the manifest; see ``evaluation.temperature``.
      mirror: whether files that can be average a face and its mirror image inside.
      say: shows a line or the table.

    Returns:
      A report for each artifact.

    Raises:
      UserError: a format or ``tflite_batch`` is not possible; or a gate was missed, which is raised
        when all the rest is delivered.
    """
    chosen = artifacts.with_accuracy_drop(artifacts.choose(formats), max_accuracy_drop)
    artifacts.check_tflite_batch(tflite_batch)
    started = time.perf_counter()
    say(f"exporting and verifying {', '.join(chosen)}")
    with staging.no_room_explained(workshop.run), native_log.redirected(log_path):
        model = inference_model(weights)
        classes = _check_classes(model, config)
        golden_faces = _write_golden(workshop.next, model, mirror, classes)
        images, labels = np.asarray(evaluation.images[:]), evaluation.labels
        predict = functools.partial(predict_probabilities, model)
        reference, plain = mirror_lib.reference(predict, images, mirror=mirror)
        seed = config.get("seed", 0)
        paths = (workshop.next, workshop.scratch)
        reports = verify.verify_artifacts(
            workshop.next,
            chosen,
            verify.Evaluation(images, labels, reference, plain),
            golden_faces,
            log_path=log_path,
            tflite_batch=tflite_batch,
            written=_announced(
                write_artifacts(
                    *paths, model, chosen, train, seed, tflite_batch, mirror=mirror, classes=classes
                ),
                len(chosen),
                say,
            ),
            classes=classes,
        )
        described = manifest.build(
            reports,
            chosen,
            config,
            reference=compare(reference, reference, labels),
            warnings=_warnings(reference, labels),
            tflite_batch=tflite_batch,
            epoch=epoch,
            data=data,
            temperature=temperature,
            plain_accuracy=None if plain is None else compare(plain, plain, labels).accuracy,
        )
        _deliver(workshop, reports, described, metrics)
    run_report.update(workshop.run)
    _sum_up(reports, described, time.perf_counter() - started, say)
    _raise_for(reports, workshop.run)
    return reports


def _sum_up(
    reports: Sequence[ArtifactReport],
    described: dict[str, Any],
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Shows the table, what it was measured on, and the warnings."""
    of = described["evaluation"]
    say(format_reports(reports, columns=tables.columns(sys.stdout)))
    say(
        f"verified on {of['images']:,} validation images, "
        f"float32 accuracy {of['float32_twin_accuracy']:.2%}; exported in {seconds:.1f} s"
    )
    for warning in described["warnings"]:
        say(f"warning: {warning}")


def _announced(names: Iterator[str], count: int, say: Callable[[str], None]) -> Iterator[str]:
    """Passes names of files on, and says now and then how many there were."""
    said = time.monotonic()
    for number, name in enumerate(names, start=1):
        if time.monotonic() - said >= progress.LINE_SECONDS:
            said = time.monotonic()
            say(f"exporting: {number} of {count} formats written")
        yield name


def _check_classes(model: keras.Model, config: dict[str, Any]) -> tuple[str, ...]:
    """The classes of a run; raises UserError where its network answers with fewer or more."""
    classes, count = run_record.classes_of(config), model.output_shape[-1]
    if len(classes) != count:
        raise UserError(
            f"weights: are of {count:,} classes, and the run has {len(classes):,}; the checkpoint "
            "is of another network"
        )
    return classes


def _warnings(probabilities: np.ndarray, labels: np.ndarray) -> list[str]:
    """What the manifest and the model card warn of: a network that learned nothing."""
    right = float(np.mean(probabilities.argmax(axis=1) == labels))
    common = np.bincount(labels).max() / len(labels)
    # Two standard errors of a share that is measured on so many images.
    if right > common + 2 * np.sqrt(common * (1 - common) / len(labels)):
        return []
    return [
        f"the network is no better than chance: it names {right:.2%} of {len(labels):,} images,"
        f" and {common:.2%} are of one class; train it further"
    ]


def _deliver(
    workshop: Workshop,
    reports: Sequence[ArtifactReport],
    described: dict[str, Any],
    metrics: dict[str, Any] | None,
) -> None:
    """Publishes what passed, and sets aside what did not."""
    failed = [report for report in reports if report.failures]
    if failed:
        _set_aside(workshop, reports, manifest.select_part(described, kept_back=False))
    if len(failed) < len(reports):
        delivered = manifest.select_part(described, kept_back=True)
        card = model_card.format_card(delivered, metrics)
        (workshop.next / export_files.MODEL_CARD).write_text(card, encoding="utf-8")
        manifest.write(workshop.next, delivered)
        staging.publish(workshop)
    if failed:
        staging.keep_failed(workshop)


def _set_aside(
    workshop: Workshop, reports: Sequence[ArtifactReport], described: dict[str, Any]
) -> None:
    """Makes of what missed its gates a folder that can be looked into as an export can."""
    for report in reports:
        for name in artifacts.ARTIFACTS[report.name].files if report.failures else ():
            source, target = workshop.next / name, workshop.failed / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
                if source.parent != workshop.next:
                    source.parent.rmdir()
    for name in (export_files.LABELS, export_files.GOLDEN):
        shutil.copyfile(workshop.next / name, workshop.failed / name)
    text = json.dumps([_report_json(report) for report in reports], indent=2) + "\n"
    (workshop.failed / export_files.REPORT).write_text(text, encoding="utf-8")
    manifest.write(workshop.failed, described)


def _report_json(report: ArtifactReport) -> dict[str, Any]:
    fields = {
        name: value._asdict() if name in ("comparison", "latency") and value else value
        for name, value in report._asdict().items()
    }
    # The file's name for it.
    return {"contract" if name == "io_spec" else name: fields[name] for name in fields}


def _raise_for(reports: Sequence[ArtifactReport], run: Path) -> None:
    """Raises UserError where an artifact was kept back: which, why, and what became of the rest."""
    failed = [report for report in reports if report.failures]
    if not failed:
        return
    reasons = "; ".join(f"{report.path}: {', '.join(report.failures)}" for report in failed)
    passed = len(reports) - len(failed)
    rest = f"the other {passed} are in {run / run_dir.EXPORT}"
    if not passed:
        rest = "the export was not replaced"
    raise UserError(f"{run / run_dir.EXPORT_FAILED}: kept back {reasons}; {rest}")


def write_artifacts(
    folder: Path,
    scratch: Path,
    model: keras.Sequential,
    chosen: dict[str, Artifact],
    train: Split,
    seed: int,
    tflite_batch: int = 1,
    *,
    mirror: bool = False,
    classes: Sequence[str] = CLASS_NAMES,
) -> Iterator[str]:
    """Writes ``labels.txt`` and the chosen artifacts, and yields each one's name when it is there.

    Keras files come last: they are re-opened in this process, and nothing else should trace graphs
    in it while others are written, since TensorFlow numbers what it traces.

    Args:
      folder: where to write.
      scratch: for what is needed on the way, on any disk.
      model: the float32 reference model for any batch size.
      chosen: artifacts by format.
      train: where the calibration images are drawn from, by ``seed``.
      seed: see there.
      tflite_batch: images of a call of a TFLite file.
      mirror: see ``export_in``.
      classes: the names of its answers.
    """
    labels_file, labels = folder / export_files.LABELS, io_spec.format_labels(classes)
    labels_file.write_text(labels, encoding="utf-8")
    if "saved_model" in chosen:
        archive = scratch / export_files.KERAS_ARCHIVE
        keras_files.write_archive(model, archive)
        target = folder / export_files.SAVED_MODEL
        saved_model.write_apart(archive, target, labels_file, mirror=mirror)
        yield "saved_model"
    lite = {name: artifact for name, artifact in chosen.items() if artifact.runtime == "tflite"}
    for channels in sorted({artifact.channels for artifact in lite.values()}):
        network = rgb.rgb_model(model) if channels == 3 else model
        target = scratch / f"channels_{channels}"
        saved_model.write_fixed_batch(network, target, tflite_batch, mirror=mirror)
    for name, artifact in lite.items():
        images = None
        if name.startswith("int8"):
            images = tflite.calibration_images(train.images, train.labels, seed)
            images = rgb.colour_images(images) if artifact.channels == 3 else images
        source = scratch / f"channels_{artifact.channels}"
        content = tflite.convert(source, name, images, tflite_batch, mirror=mirror, classes=classes)
        (folder / artifact.path).write_bytes(content)
        yield name
    if "keras" in chosen:
        keras_files.write(model, folder, labels)
        yield "keras"
    if "keras_v3" in chosen:
        keras_files.write_archive(model, folder / export_files.KERAS_ARCHIVE, labels)
        yield "keras_v3"


def _write_golden(
    folder: Path, model: keras.Model, mirror: bool, classes: Sequence[str]
) -> golden.Golden:
    images, labels = golden.draw_faces()
    predict = functools.partial(predict_probabilities, model)
    answers = mirror_lib.reference(predict, images, mirror=mirror)
    if tuple(classes) != CLASS_NAMES:
        labels = answers[0].argmax(axis=1).astype(labels.dtype)
    golden_faces = golden.Golden(images, labels, *answers)
    golden.write(folder / export_files.GOLDEN, golden_faces)
    return golden_faces
