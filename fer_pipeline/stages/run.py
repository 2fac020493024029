"""The stages of a training run in their order: data, training, evaluation, export."""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import atomic_files, recipes, run_dir
from fer_pipeline.agreement import allowed
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import class_counts
from fer_pipeline.devices import allocator, cluster, precision, strategy
from fer_pipeline.errors import UserError
from fer_pipeline.run_record import resume_key
from fer_pipeline.stages import initial_weights, opening, teachers
from fer_pipeline.stages.opening import Run
from fer_pipeline.terminal import native_log
from fer_pipeline.terminal.next_steps import next_steps
from fer_pipeline.training import checkpoints

if TYPE_CHECKING:
    import keras

    from fer_pipeline.datasets.splits import Splits
    from fer_pipeline.evaluation.metrics import Evaluation
    from fer_pipeline.evaluation.mistakes import Mistakes
    from fer_pipeline.evaluation.temperature import Fitted
    from fer_pipeline.training.checkpoints import Checkpoint
    from fer_pipeline.training.loop import EpochHook, EpochLog, EpochTiming, Trained

#: Images on which the training network under its policy is compared with the
#: float32 reference model.
_REFERENCE_IMAGES = 512

#: Share of images on which the two must name the same class; see ``agreement.allowed``.
_REFERENCE_AGREEMENT = 0.99


def run_training(
    config: Config, export_stage: Callable[..., None] | None, splits: Splits | None = None
) -> Path:
    """Trains, evaluates and exports; returns the run directory.

    With several hosts all of them train, and the chief does everything else.

    Args:
      config: what the user chose.
      export_stage: called with ``run``, ``weights``, ``train``, ``evaluation``, ``config``,
        ``metrics``, ``epoch``, ``temperature``, ``mirror`` and ``log_path`` once the metrics are
        written; None leaves the export out.
      splits: the faces, where ``config.data`` is no source but ``datasets.ARRAYS``.

    Raises:
      UserError: bad input, a run that is finished or was started with another configuration, or a
        failed gate.
    """
    start = time.perf_counter()
    allocator.retain_freed_memory()
    config = recipes.resolve(initial_weights.with_network(config))
    path = Path(config.run_dir or opening.default_run_dir(config))
    worker = cluster.worker_info(config.strategy)
    exporting = export_stage is not None
    problem = opening.find_problem(
        path, config, chief=worker.chief, exporting=exporting, loading=splits is None
    )
    if problem and worker.count == 1:
        raise problem
    if problem:
        print(f"{problem}; the other hosts are told before this one ends", flush=True)
    # Until the data has proved good nothing is written, not even a log.
    with tempfile.TemporaryDirectory() as scratch:
        scratch_log = Path(scratch) / run_dir.TF_LOG
        with native_log.redirected(scratch_log):
            opened = opening.open_run(path, config, problem, splits)
            if not worker.chief:
                train_as_worker(opened)
                return path
        with opening.lock_run(opened, config, exporting=exporting):
            (path / run_dir.TF_LOG).write_bytes(scratch_log.read_bytes())
            with native_log.redirected(path / run_dir.TF_LOG):
                draw_data(opened)
                trained = fit(opened)
                exported = evaluate(opened, trained)
                if export_stage:
                    print(flush=True)
                    metrics = run_dir.read_metrics(path)
                    export_stage(
                        run=path,
                        weights=exported.weights,
                        train=opened.splits.train,
                        evaluation=opened.splits.validation,
                        config=opened.record,
                        metrics=metrics,
                        epoch=exported.state["epoch"],
                        temperature=metrics.get("temperature"),
                        mirror=config.mirror,
                        log_path=path / run_dir.TF_LOG,
                    )
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    made = [run_dir.REPORT, run_dir.METRICS, f"{run_dir.FIGURES}/", f"{run_dir.CHECKPOINTS}/"]
    made += [f"{run_dir.EXPORT}/"] if exporting else []
    print(f"\n{path} is complete after {minutes}:{seconds:02d}; it has {', '.join(made)}")
    print(next_steps(path, exported=exporting))
    return path


def train_as_worker(opened: Run) -> None:
    """The part of a host that is not the chief: it only trains."""
    # The chief may be unable to lock the run directory; then all hosts end.
    strategy.raise_on_all_workers(opened.devices, None)
    fit(opened)
    print(f"worker {opened.devices.worker.index}: done; the chief evaluates and exports")


def draw_data(opened: Run) -> None:
    """Draws the samples and the class counts, and keeps these for the report."""
    from fer_pipeline.evaluation import plots, report

    splits = opened.splits
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if splits.selected_on == "test":
        del parts["validation"]
    classes = splits.classes
    counts = {name: class_counts(part, len(classes)).tolist() for name, part in parts.items()}
    atomic_files.write_json(opened.path / run_dir.CLASS_COUNTS, counts)
    plots.save(plots.samples(splits.train, classes), opened.path / run_dir.SAMPLES_FIGURE)
    plots.save(plots.counts(splits), opened.path / run_dir.CLASS_COUNTS_FIGURE)
    report.update(opened.path)


def fit(opened: Run) -> Trained:
    """Trains, keeping history, timing and curves on disk up to date after every epoch."""
    from fer_pipeline.training import loop

    path, devices = opened.path, opened.devices
    callbacks = []
    runs, targets = teachers.names(opened.config.teacher), None
    if runs:
        print(f"asking {', '.join(runs)} about the training faces", flush=True)
        targets = teachers.targets_of_runs(
            runs,
            opened.splits.train.images,
            temperature=opened.config.temperature,
            path=path / run_dir.TARGETS if devices.worker.chief else None,
            num_classes=len(opened.splits.classes),
        )
    if devices.worker.chief:
        print(f"\nafter every epoch {path / run_dir.REPORT} shows how far it is", flush=True)
        if opened.config.tensorboard:
            callbacks.append(_tensorboard(path))
    return loop.train(
        opened.splits,
        opened.config,
        devices=devices,
        run=path,
        hooks=[epoch_recorder(opened)],
        callbacks=callbacks,
        resume_key=resume_key(opened.record),
        targets=targets,
        initial=opened.initial,
    )


def _tensorboard(path: Path) -> keras.callbacks.Callback:
    import keras

    return keras.callbacks.TensorBoard(str(path / run_dir.TENSORBOARD), write_graph=False)


def epoch_recorder(opened: Run) -> EpochHook:
    """An epoch hook that rewrites ``history.csv``, ``timing.csv``, the curves and the report."""
    from fer_pipeline.evaluation import plots, report

    def hook(history: Sequence[EpochLog], timing: Sequence[EpochTiming]) -> None:
        atomic_files.write_text(opened.path / run_dir.HISTORY, as_csv(history))
        atomic_files.write_text(opened.path / run_dir.TIMING, as_csv(timing))
        figure = plots.curves(history, selected_on=opened.splits.selected_on)
        plots.save(figure, opened.path / run_dir.CURVES_FIGURE)
        report.update(opened.path)

    return hook


def as_csv(rows: Sequence[NamedTuple]) -> str:
    """Rows of one NamedTuple type as CSV with a header; floats in their shortest exact form."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    return text.getvalue()


def evaluate(opened: Run, trained: Trained) -> Checkpoint:
    """Evaluates the float32 reference model on every split; returns the checkpoint it used.

    With ``config.calibrate`` the weights of both have their temperature folded in.
    """
    from fer_pipeline.evaluation import mistakes, report
    from fer_pipeline.evaluation import temperature as temperature_lib
    from fer_pipeline.models.networks import build_training_model

    path, splits, config = opened.path, opened.splits, opened.config
    print("\nevaluating the float32 network", flush=True)
    checkpoint = checkpoints.load_end(path, config.export_checkpoint)
    reference_model, weights, fitted = calibrated_reference(opened, checkpoint.weights)
    # On this host alone, whatever devices it was trained on.
    trained_network = build_training_model(
        config.model, len(splits.classes), dtype_policy=config.precision
    )
    trained_network.set_weights(weights)
    results, described, wrong = score_splits(reference_model, splits)
    metrics = {
        "epochs": len(trained.history),
        "checkpoint": config.export_checkpoint,
        "epoch": checkpoint.state["epoch"],
        "model_selected_on": splits.selected_on,
        "calibrate": bool(config.calibrate),
        "twin": compare_with_reference(opened, trained_network, reference_model),
        **described,
    }
    test = results["test"]
    if fitted:
        # Of the network that is delivered, which rounds otherwise.
        fitted = fitted._replace(after=test.calibration, accuracy_after=test.accuracy)
        metrics["temperature"] = temperature_lib.as_json(fitted)
    draw_evaluation(opened, reference_model, test, fitted)
    mistakes.save(wrong, path / run_dir.CONFIDENTLY_WRONG)
    atomic_files.write_json(path / run_dir.METRICS, metrics)
    report.update(path)
    print_evaluation(results, metrics)
    return checkpoint._replace(weights=weights)


def calibrated_reference(
    opened: Run, weights: Sequence[np.ndarray]
) -> tuple[keras.Model, list[np.ndarray], Fitted | None]:
    """The float32 network, and its weights with the temperature that is folded into them.

    That is None where ``config.calibrate`` is off or the validation images do not tell.
    """
    from fer_pipeline.evaluation import temperature as temperature_lib
    from fer_pipeline.models.networks import build_model

    model = build_model(opened.config.model, len(opened.splits.classes))
    model.set_weights(weights)
    if not opened.config.calibrate:
        return model, list(weights), None
    with precision.true_float32():
        fitted = temperature_lib.calibrate(model, opened.splits)
    folded = temperature_lib.fold(weights, fitted.value if fitted else None)
    model.set_weights(folded)
    return model, folded, fitted


def score_splits(
    model: keras.Model, splits: Splits
) -> tuple[dict[str, Evaluation], dict[str, dict[str, Any]], Mistakes]:
    """Metrics of every split by its name, the same for ``metrics.json``, and the test's mistakes.

    Where the test images are the validation images they are asked about once.
    """
    from fer_pipeline.evaluation import metrics as metrics_lib
    from fer_pipeline.evaluation import mistakes

    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    results, described = {}, {}
    for name, split in parts.items():
        if name == "test" and splits.selected_on == "test":
            results[name], described[name] = results["validation"], described["validation"]
            continue
        with precision.true_float32():
            predictions = metrics_lib.predict(model, split)
        results[name] = metrics_lib.score(predictions, split.labels, splits.classes)
        described[name] = metrics_lib.as_json(results[name])
        # The test images come last, or are the validation images.
        wrong = mistakes.find(split, predictions.probabilities)
        if name != "train":
            described[name]["without_duplicates"] = metrics_lib.without_duplicates(
                predictions, split, splits.train, splits.classes
            )
    return results, described, wrong


def draw_evaluation(
    opened: Run, model: keras.Model, test: Evaluation, fitted: Fitted | None
) -> None:
    """Draws reliability, confusion matrix and architecture."""
    from fer_pipeline.evaluation import plots, reliability

    path, classes = opened.path, opened.splits.classes
    figure = reliability.diagram(test.calibration, fitted.before if fitted else None)
    plots.save(figure, path / run_dir.RELIABILITY_FIGURE)
    title = f"{test.confusion.sum():,} test images, accuracy {test.accuracy:.1%}"
    figure = plots.confusion_matrix(test.confusion, classes, title=title)
    plots.save(figure, path / run_dir.CONFUSION_MATRIX_FIGURE)
    plots.save(plots.architecture(model), path / run_dir.ARCHITECTURE_FIGURE)


def print_evaluation(results: dict[str, Evaluation], metrics: dict[str, Any]) -> None:
    """Prints a line a split, the temperature if one was looked for, and the classes."""
    from fer_pipeline.evaluation import metrics as metrics_lib
    from fer_pipeline.evaluation import temperature as temperature_lib

    for name, result in results.items():
        print(f"{name:10}  accuracy {result.accuracy:.4f}  loss {result.loss:.4f}")
    if metrics["calibrate"]:
        images = metrics["validation"]["images"]
        print(temperature_lib.describe(metrics.get("temperature"), images))
    print(metrics_lib.format_report(results["test"]), flush=True)


def compare_with_reference(
    opened: Run, trained: keras.Model, reference_model: keras.Model
) -> dict[str, Any]:
    """Compares the training network, under its dtype policy, with the float32 reference model.

    Raises:
      UserError: they agree on too few images for the figures to describe what was trained.
    """
    from fer_pipeline.datasets.splits import Split
    from fer_pipeline.evaluation import metrics as metrics_lib

    # Spread evenly: many sources list their images class by class.
    images, labels = opened.splits.validation
    positions = np.unique(np.linspace(0, len(labels) - 1, _REFERENCE_IMAGES).astype(int))
    few = Split(images[positions], labels[positions])
    # As it was trained, with TF32 where the GPU has it.
    ours = metrics_lib.predict(trained, few).probabilities
    with precision.true_float32():
        theirs = metrics_lib.predict(reference_model, few).probabilities
    differing = int(np.sum(ours.argmax(axis=1) != theirs.argmax(axis=1)))
    agreement = 1 - differing / len(few.labels)
    limit = allowed(len(few.labels), _REFERENCE_AGREEMENT)
    if differing > limit:
        raise UserError(
            f"{opened.path}: the {opened.config.precision} network and the same in float32 agree "
            f"on {agreement:.2%} of {len(few.labels)} images, where {limit} may differ; train "
            "with --precision=float32"
        )
    return {
        "policy": opened.config.precision,
        "images": len(few.labels),
        "agreement": agreement,
        "max_probability_difference": float(np.abs(ours - theirs).max()),
    }
