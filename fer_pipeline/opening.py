"""Opens a run: whether it may be, its faces, its configuration, its devices, its directory."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    __version__,
    checkpoints,
    datasets,
    determinism,
    distribution,
    run_dir,
)
from fer_pipeline.datasets.splits import Splits, class_table, fingerprint
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    from fer_pipeline.distribution import Job

#: What makes a run the one that it is: it is continued with the same, or started anew. The data
#: counts by its pixels and labels, whatever flags it was read with.
_IDENTITY = ("batch_size", "learning_rate", "seed", "precision", "deterministic", "fingerprint")

#: What else does where every bit is to be the same.
_DETERMINISTIC_IDENTITY = ("threads", "jit_compile", "devices")


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


def refusal(path: Path, options: Options, *, exporting: bool) -> UserError | None:
    """Why the run directory cannot be used as it is wanted; None where it can."""
    try:
        run_dir.check_usable(path)
        if not options.overwrite:
            refuse_finished(path, options, exporting=exporting)
    except UserError as error:
        return error
    return None


@contextlib.contextmanager
def own(opened: Run, *, overwrite: bool) -> Iterator[None]:
    """Holds the run directory and begins or continues the run in it; tells the other hosts."""
    path = opened.path
    with contextlib.ExitStack() as stack:
        with distribution.together(opened.job):
            stack.enter_context(run_dir.owned(path))
            if overwrite:
                with run_dir.locked(path, run_dir.EXPORT_LOCK, busy=run_dir.EXPORTING):
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
        if exporting and weights_evaluated(path) != weights_exported(path):
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


def weights_evaluated(path: Path) -> tuple[str, int]:
    """Checkpoint and epoch of the weights that ``metrics.json`` is about."""
    metrics = run_dir.read_metrics(path)
    which = metrics["checkpoint"]
    # Of the best one earlier versions of this software did not write down the epoch.
    epoch = metrics["epochs"] if which == "last" else metrics.get("epoch")
    return which, epoch or checkpoints.load_end(path, which).state["epoch"]


def weights_exported(path: Path) -> tuple[str, int] | None:
    """Checkpoint and epoch of the weights in the export, by its manifest; None where none is."""
    run_dir.recover_export(path)
    try:
        manifest = json.loads((path / run_dir.EXPORT / "manifest.json").read_text("utf-8"))
        weights = manifest["weights"]
        return weights["checkpoint"], weights["epoch"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


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
