"""The stages of a training run in their order: data, training, evaluation, export."""

from __future__ import annotations

import csv
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    allocator,
    checkpoints,
    cluster,
    distillation,
    distribution,
    native_log,
    opening,
    precision,
    run_dir,
)
from fer_pipeline.agreement import allowed
from fer_pipeline.errors import UserError
from fer_pipeline.opening import Options, Run

if TYPE_CHECKING:
    import keras

    from fer_pipeline.checkpoints import Checkpoint
    from fer_pipeline.training import EpochHook, EpochLog, EpochTiming, Trained

#: Images on which the training network under its policy is compared with the float32 twin.
_TWIN_IMAGES = 512

#: Share of images on which the two must name the same class; see ``agreement.allowed``.
_TWIN_AGREEMENT = 0.99


def run(options: Options, export_stage: Callable[..., None] | None) -> Path:
    """Trains, evaluates and exports; returns the run directory.

    With several hosts all of them train, and the chief does everything else.

    Args:
      options: what the user chose.
      export_stage: called with ``run``, ``weights``, ``train``, ``evaluation``, ``config``,
        ``metrics``, ``epoch`` and ``log_path`` once the metrics are written; None leaves the export
        out.

    Raises:
      UserError: bad input, a run that is finished or was started with another configuration, or a
        failed gate.
    """
    start = time.perf_counter()
    allocator.keep_memory()
    path = Path(options.run_dir or opening.default_run_dir(options))
    here = cluster.place(options.strategy)
    exporting = export_stage is not None
    problem = opening.refusal(path, options, chief=here.chief, exporting=exporting)
    if problem and here.workers == 1:
        raise problem
    if problem:
        print(f"{problem}; the other hosts are told before this one ends", flush=True)
    # Until the data has proved good nothing is written, not even a log.
    with tempfile.TemporaryDirectory() as scratch:
        scratch_log = Path(scratch) / run_dir.TF_LOG
        with native_log.redirected(scratch_log):
            opened = opening.open_run(path, options, problem)
            if not here.chief:
                follow(opened, options)
                return path
        with opening.own(opened, options, exporting=exporting):
            (path / run_dir.TF_LOG).write_bytes(scratch_log.read_bytes())
            with native_log.redirected(path / run_dir.TF_LOG):
                draw_data(opened)
                trained = fit(opened, options)
                exported = evaluate(opened, trained)
                if export_stage:
                    export_stage(
                        run=path,
                        weights=exported.weights,
                        train=opened.splits.train,
                        evaluation=opened.splits.validation,
                        config=opened.config,
                        metrics=run_dir.read_metrics(path),
                        epoch=exported.state["epoch"],
                        log_path=path / run_dir.TF_LOG,
                    )
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    print(f"\n{path} is complete after {minutes}:{seconds:02d}")
    return path


def follow(opened: Run, options: Options) -> None:
    """What a host that is not the chief does: it trains."""
    # The chief's word on whether the run directory is its own.
    distribution.raise_together(opened.job, None)
    fit(opened, options)
    print(f"worker {opened.job.place.worker}: done; the chief evaluates and exports")


def draw_data(opened: Run) -> None:
    """Draws the samples and the class counts."""
    from fer_pipeline import plots

    plots.save(plots.samples(opened.splits.train), opened.path / run_dir.SAMPLES_FIGURE)
    plots.save(plots.counts(opened.splits), opened.path / run_dir.CLASS_COUNTS_FIGURE)


def fit(opened: Run, options: Options) -> Trained:
    """Trains, keeping history, timing and curves on disk up to date after every epoch."""
    from fer_pipeline import training

    path, splits, config, job = opened
    names = [field.name for field in dataclasses.fields(training.Recipe)]
    execution = training.Execution(
        job=job,
        steps_per_execution=options.steps_per_execution,
        jit_compile=config["jit_compile"],
        checkpoint_minutes=options.checkpoint_minutes,
    )
    callbacks = []
    targets = None
    if distillation.names(options.teacher):
        print(f"asking {options.teacher} about the training faces", flush=True)
        targets = distillation.targets_of_runs(
            distillation.names(options.teacher),
            splits.train.images,
            temperature=options.temperature,
            path=path / run_dir.TARGETS if job.place.chief else None,
        )
    if job.place.chief:
        print(f"\ntraining; {path / run_dir.CURVES_FIGURE} is redrawn after every epoch")
        if options.tensorboard:
            callbacks.append(_tensorboard(path))
    return training.train(
        splits,
        training.Recipe(**{name: config[name] for name in names}),
        run=path,
        hooks=[record(opened)],
        callbacks=callbacks,
        execution=execution,
        identity=opening.identity(config),
        targets=targets,
        say=print,
    )


def _tensorboard(path: Path) -> keras.callbacks.Callback:
    import keras

    return keras.callbacks.TensorBoard(str(path / run_dir.TENSORBOARD), write_graph=False)


def record(opened: Run) -> EpochHook:
    """An epoch hook that rewrites ``history.csv``, ``timing.csv`` and ``curves.png``."""
    from fer_pipeline import plots

    def hook(history: Sequence[EpochLog], timing: Sequence[EpochTiming]) -> None:
        run_dir.write_text(opened.path / run_dir.HISTORY, as_csv(history))
        run_dir.write_text(opened.path / run_dir.TIMING, as_csv(timing))
        figure = plots.curves(history, selected_on=opened.splits.selected_on)
        plots.save(figure, opened.path / run_dir.CURVES_FIGURE)

    return hook


def as_csv(rows: Sequence[NamedTuple]) -> str:
    """Rows of one NamedTuple type as CSV with a header; floats in their shortest exact form."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    return text.getvalue()


def evaluate(opened: Run, trained: Trained) -> Checkpoint:
    """Evaluates the float32 twin on every split and returns the checkpoint of its weights."""
    from fer_pipeline import evaluation, plots
    from fer_pipeline.networks import build_model, build_training_model

    path, splits, config, _ = opened
    print("\nevaluating the float32 network", flush=True)
    checkpoint = checkpoints.load_end(path, config["export_checkpoint"])
    weights = checkpoint.weights
    twin = build_model(config["model"])
    twin.set_weights(weights)
    # On this host alone, whatever devices it was trained on.
    trained_network = build_training_model(config["model"], dtype_policy=config["precision"])
    trained_network.set_weights(weights)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    results = {}
    for name, split in parts.items():
        if name == "test" and splits.selected_on == "test":
            results[name] = results["validation"]
        else:
            with precision.true_float32():
                predictions = evaluation.predict(twin, split)
            results[name] = evaluation.score(predictions, split.labels)
    metrics = {
        "epochs": len(trained.history),
        "checkpoint": config["export_checkpoint"],
        "epoch": checkpoint.state["epoch"],
        "model_selected_on": splits.selected_on,
        "twin": compare_with_twin(opened, trained_network, twin),
        **{name: evaluation.as_json(result) for name, result in results.items()},
    }
    test = results["test"]
    title = f"{test.confusion.sum():,} test images, accuracy {test.accuracy:.1%}"
    figure = plots.confusion_matrix(test.confusion, title=title)
    plots.save(figure, path / run_dir.CONFUSION_MATRIX_FIGURE)
    plots.save(plots.architecture(twin), path / run_dir.ARCHITECTURE_FIGURE)
    run_dir.write_json(path / run_dir.METRICS, metrics)
    for name, result in results.items():
        print(f"{name:10}  accuracy {result.accuracy:.4f}  loss {result.loss:.4f}")
    print(evaluation.format_report(test), flush=True)
    return checkpoint


def compare_with_twin(opened: Run, trained: keras.Model, twin: keras.Model) -> dict[str, Any]:
    """How far the training network under its dtype policy is from its float32 twin.

    Raises:
      UserError: they agree on too few images for the twin's figures to stand for what was trained.
    """
    from fer_pipeline import evaluation
    from fer_pipeline.datasets.splits import Split

    # Spread evenly: many sources list their images class by class.
    images, labels = opened.splits.validation
    positions = np.unique(np.linspace(0, len(labels) - 1, _TWIN_IMAGES).astype(int))
    few = Split(images[positions], labels[positions])
    # As it was trained, with TF32 where the GPU has it.
    ours = evaluation.predict(trained, few).probabilities
    with precision.true_float32():
        theirs = evaluation.predict(twin, few).probabilities
    differing = int(np.sum(ours.argmax(axis=1) != theirs.argmax(axis=1)))
    agreement = 1 - differing / len(few.labels)
    limit = allowed(len(few.labels), _TWIN_AGREEMENT)
    if differing > limit:
        raise UserError(
            f"{opened.path}: the {opened.config['precision']} network and its float32 twin agree "
            f"on {agreement:.2%} of {len(few.labels)} images, where {limit} may differ; train "
            "with --precision=float32"
        )
    return {
        "policy": opened.config["precision"],
        "images": len(few.labels),
        "agreement": agreement,
        "max_probability_difference": float(np.abs(ours - theirs).max()),
    }
