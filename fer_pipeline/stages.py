"""The stages of a training run in their order: data, training, evaluation, export."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import io
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    __version__,
    checkpoints,
    cluster,
    datasets,
    determinism,
    distribution,
    native_log,
    run_dir,
)
from fer_pipeline.datasets.splits import Splits, class_table, fingerprint
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import keras

    from fer_pipeline.distribution import Job
    from fer_pipeline.training import EpochHook, EpochLog, EpochTiming, Trained

#: What makes a run the one that it is: it is continued with the same, or started anew. The data
#: counts by its pixels and labels, whatever flags it was read with.
_IDENTITY = ("batch_size", "learning_rate", "seed", "precision", "deterministic", "fingerprint")

#: What else does where every bit is to be the same.
_DETERMINISTIC_IDENTITY = ("threads", "jit_compile", "devices")

#: Images on which the training network under its policy is compared with the float32 twin.
_TWIN_IMAGES = 512

#: Share of these images on which the two must name the same class.
_TWIN_AGREEMENT = 0.99


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user chose; the flags of ``fer_pipeline.train`` under the same names."""

    data: str = "synthetic"
    run_dir: str | None = None
    overwrite: bool = False
    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 5e-4
    seed: int = 0
    precision: str = "auto"
    cache: str = "memory"
    cache_dir: str | None = None
    validation_fraction: float | None = None
    on_bad_image: str = "fail"
    export_checkpoint: str = "last"
    strategy: str = "auto"
    steps_per_execution: int | None = None
    jit_compile: str = "auto"
    checkpoint_minutes: float = 10.0
    deterministic: bool = False
    threads: int | None = None
    tensorboard: bool = False


class Run(NamedTuple):
    """A run that is open: where it is written, its data, its configuration and its devices."""

    path: Path
    splits: Splits
    config: dict[str, Any]
    job: Job


def run(options: Options, export_stage: Callable[..., None] | None) -> Path:
    """Trains, evaluates and exports; returns the run directory.

    With several hosts all of them train, and the chief does everything else.

    Args:
      options: what the user chose.
      export_stage: called with ``run``, ``weights``, ``train``, ``evaluation``, ``config``,
        ``metrics`` and ``log_path`` once the metrics are written; None leaves the export out.

    Raises:
      UserError: bad input, a run that is finished or was started with another configuration, or a
        failed gate.
    """
    start = time.perf_counter()
    path = Path(options.run_dir or default_run_dir(options))
    here = cluster.place(options.strategy)
    problem = refusal(path, options, exporting=export_stage is not None) if here.chief else None
    if problem and here.workers == 1:
        raise problem
    # Until the data has proved good nothing is written, not even a log.
    with tempfile.TemporaryDirectory() as scratch:
        scratch_log = Path(scratch) / run_dir.TF_LOG
        with native_log.redirected(scratch_log):
            opened = open_run(path, options, problem)
            if not here.chief:
                follow(opened, options)
                return path
        with own(opened, overwrite=options.overwrite):
            (path / run_dir.TF_LOG).write_bytes(scratch_log.read_bytes())
            with native_log.redirected(path / run_dir.TF_LOG):
                draw_data(opened)
                trained = fit(opened, options)
                weights = evaluate(opened, trained)
                if export_stage:
                    export_stage(
                        run=path,
                        weights=weights,
                        train=opened.splits.train,
                        evaluation=opened.splits.validation,
                        config=opened.config,
                        metrics=run_dir.read_metrics(path),
                        log_path=path / run_dir.TF_LOG,
                    )
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    print(f"\n{path} is complete after {minutes}:{seconds:02d}")
    return path


def refusal(path: Path, options: Options, *, exporting: bool) -> UserError | None:
    """Why the run directory cannot be used as it is wanted; None where it can."""
    try:
        run_dir.check_usable(path)
        if not options.overwrite:
            refuse_finished(path, options, exporting=exporting)
    except UserError as error:
        return error
    return None


def follow(opened: Run, options: Options) -> None:
    """What a host that is not the chief does: it trains."""
    # The chief's word on whether the run directory is its own.
    distribution.raise_together(opened.job, None)
    fit(opened, options)
    print(f"worker {opened.job.place.worker}: done; the chief evaluates and exports")


@contextlib.contextmanager
def own(opened: Run, *, overwrite: bool) -> Iterator[None]:
    """Holds the run directory and begins or continues the run in it; tells the other hosts."""
    path = opened.path
    with contextlib.ExitStack() as stack:
        with distribution.together(opened.job):
            stack.enter_context(run_dir.owned(path))
            if overwrite:
                run_dir.clear(path)
            begin(path, opened.config)
        yield


def default_run_dir(options: Options) -> Path:
    """``runs/<data>-<recipe>-s<seed>``."""
    recipe = f"b{options.batch_size}-lr{options.learning_rate:g}"
    return Path("runs") / f"{datasets.source_name(options.data)}-{recipe}-s{options.seed}"


def refuse_finished(path: Path, options: Options, *, exporting: bool) -> None:
    """Raises UserError where ``path`` holds a run with nothing left to do, or with more epochs."""
    trained, step = checkpoints.progress(path)
    if (trained, step) > (options.epochs, 0):
        begun = trained + (step > 0)
        raise UserError(
            f"{path}: has trained {trained} epochs already{' and begun another' if step else ''}; "
            f"pass --epochs={begun} or more, or --overwrite to start anew"
        )
    wanted = {"epochs": options.epochs, "export_checkpoint": options.export_checkpoint}
    if trained == options.epochs and wanted == evaluated(path):
        if exporting and wanted != exported(path):
            return
        raise UserError(
            f"{path}: is finished; pass --overwrite to train it again, more --epochs to train it "
            "further, or another --run_dir"
        )


def evaluated(path: Path) -> dict[str, Any]:
    """Which weights ``metrics.json`` is about; empty where there is none."""
    if not (path / run_dir.METRICS).exists():
        return {}
    metrics = run_dir.read_metrics(path)
    return {"epochs": metrics["epochs"], "export_checkpoint": metrics["checkpoint"]}


def exported(path: Path) -> dict[str, Any]:
    """Which weights the export is of, by its manifest; empty where there is none."""
    try:
        manifest = json.loads((path / run_dir.EXPORT / "manifest.json").read_text("utf-8"))
        config = manifest["run"]
        return {name: config[name] for name in ("epochs", "export_checkpoint")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def open_run(path: Path, options: Options, problem: UserError | None = None) -> Run:
    """Joins the other hosts if there are any, loads the faces and makes the configuration.

    Args:
      path: the run directory.
      options: what the user chose.
      problem: what keeps this host from training, to be told to the others.

    Raises:
      UserError: on all hosts, where one cannot train.
    """
    from fer_pipeline.precision import resolve

    if not 0 < options.learning_rate < math.inf:
        raise UserError(f"--learning_rate={options.learning_rate}: must be a number above 0")
    if not 0 <= options.checkpoint_minutes < math.inf:
        raise UserError(f"--checkpoint_minutes={options.checkpoint_minutes}: must be a number")
    if options.tensorboard and not importlib.util.find_spec("tensorboard"):
        raise UserError("--tensorboard: pip install 'fer_pipeline[tensorboard]' first")
    threads = determinism.pin(
        seed=options.seed, threads=options.threads, deterministic=options.deterministic
    )
    job = distribution.join(options.strategy)
    if job.replicas > 1:
        print(f"{job.replicas} devices; worker {job.place.worker} of {job.place.workers}")
    with distribution.together(job):
        if problem:
            raise problem
        splits = load_data(options)
    policy = resolve(options.precision)
    config = dataclasses.asdict(options) | {
        "data": options.data if options.data == "synthetic" else os.path.abspath(options.data),
        "fingerprint": fingerprint(splits),
        "precision": policy,
        "jit_compile": use_xla(options.jit_compile, job),
        "threads": threads,
        "devices": job.replicas,
        "versions": versions(),
    }
    for name in ("run_dir", "overwrite"):
        del config[name]
    print(f"training in {policy}", flush=True)
    return Run(path, splits, config, job)


def use_xla(flag: str, job: Job) -> bool:
    """Whether to compile by XLA; ``auto`` does on a single GPU. (On a CPU it is five times slower.)

    Raises:
      UserError: it is asked for on several devices.
    """
    import tensorflow as tf

    if flag == "auto":
        return job.replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    if flag == "true" and job.replicas > 1:
        raise UserError(
            f"--jit_compile=true: is for one device and not {job.replicas}; leave it on auto"
        )
    return flag == "true"


def load_data(options: Options) -> Splits:
    """Loads the faces and says what they are."""
    print(f"data: {options.data}", flush=True)
    started = time.perf_counter()
    loaded = datasets.load(
        options.data,
        seed=options.seed,
        validation_fraction=options.validation_fraction,
        on_bad_image=options.on_bad_image,
        cache=options.cache,
        cache_dir=options.cache_dir,
    )
    seconds = time.perf_counter() - started
    print(class_table(loaded.splits))
    if loaded.splits.selected_on == "test":
        print("there are no validation images: the test images steer the training too")
    if loaded.converted:
        print(f"{loaded.converted:,} images were converted to 48x48 grey")
    if loaded.skipped:
        print(f"{len(loaded.skipped):,} unreadable images were skipped, first {loaded.skipped[0]}")
    print(f"loaded in {seconds:.1f} s", flush=True)
    return loaded.splits


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration makes a run the one that it is."""
    names = _IDENTITY + (_DETERMINISTIC_IDENTITY if config["deterministic"] else ())
    return {name: config[name] for name in names}


def versions() -> dict[str, str]:
    """Versions of what produced the run."""
    import keras
    import tensorflow as tf

    return {
        "fer_pipeline": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def begin(path: Path, config: dict[str, Any]) -> None:
    """Writes ``config.json``, or checks that the run there was started with the same one."""
    if (path / run_dir.CONFIG).exists():
        run_dir.refuse_another(path, run_dir.read_config(path), identity(config))
    run_dir.write_json(path / run_dir.CONFIG, config)


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
        identity=identity(config),
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


def evaluate(opened: Run, trained: Trained) -> list[np.ndarray]:
    """Evaluates the float32 twin on every split and returns its weights."""
    from fer_pipeline import evaluation, plots
    from fer_pipeline.model import build_model, build_training_model

    path, splits, config, _ = opened
    print("\nevaluating the float32 network", flush=True)
    weights = checkpoints.load_weights(path, config["export_checkpoint"])
    twin = build_model()
    twin.set_weights(weights)
    # On this host alone, whatever devices it was trained on.
    trained_network = build_training_model(dtype_policy=config["precision"])
    trained_network.set_weights(weights)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    results = {}
    for name, split in parts.items():
        if name == "test" and splits.selected_on == "test":
            results[name] = results["validation"]
        else:
            results[name] = evaluation.score(evaluation.predict(twin, split), split.labels)
    metrics = {
        "epochs": len(trained.history),
        "checkpoint": config["export_checkpoint"],
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
    return weights


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
    ours, theirs = (evaluation.predict(model, few) for model in (trained, twin))
    agreement = float(np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)))
    if agreement < _TWIN_AGREEMENT:
        raise UserError(
            f"{opened.path}: the {opened.config['precision']} network and its float32 twin agree "
            f"on {agreement:.2%} of {len(few.labels)} images, below {_TWIN_AGREEMENT:.0%}; train "
            "with --precision=float32"
        )
    return {
        "policy": opened.config["precision"],
        "images": len(few.labels),
        "agreement": agreement,
        "max_probability_difference": float(np.abs(ours - theirs).max()),
    }
