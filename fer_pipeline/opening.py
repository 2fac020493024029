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
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    __version__,
    augmentation,
    checkpoints,
    cores,
    datasets,
    determinism,
    distillation,
    distribution,
    gpus,
    precision,
    run_dir,
)
from fer_pipeline.datasets.splits import Splits, class_table, fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.gpus import Gpu
from fer_pipeline.networks import count_parameters
from fer_pipeline.session import Recipe

if TYPE_CHECKING:
    from fer_pipeline.distribution import Job

#: What makes a run the one that it is: it is continued with the same, or started anew. The data
#: counts by its pixels and labels, whatever flags it was read with.
_IDENTITY = (
    "batch_size",
    "learning_rate",
    "seed",
    "precision",
    "deterministic",
    "fingerprint",
    "model",
    "optimizer",
    "schedule",
    "warmup",
    "weight_decay",
    "label_smoothing",
    "dropout",
    "normalization_momentum",
    "augment",
    "temperature",
    "distill",
    "teachers",
)

#: What else does where every bit is to be the same.
_DETERMINISTIC_IDENTITY = ("threads", "jit_compile", "devices")

#: Settings that are shares of something.
_SHARES = ("warmup", "label_smoothing", "dropout", "normalization_momentum", "distill")

#: What of it the command line alone tells, before there is any data.
_TYPED_IDENTITY = tuple(
    name for name in _IDENTITY if name not in ("precision", "fingerprint", "teachers")
)

#: Sizes in copies of the weights: a checkpoint holds them and Adam's two moments. The nine
#: artifacts take 6.3, and what they are made of while they are written 3.
_CHECKPOINT_COPIES, _EXPORT_COPIES = 3, 10

#: Bytes of an export however small the network: its graphs, texts and golden faces, nine times.
_SMALLEST_EXPORT = 4_000_000
_BYTES_PER_PARAMETER = 4

#: The first NVIDIA architecture that the XLA of TensorFlow 2.21 compiles code for that is too old.
_TOO_NEW_FOR_XLA = (12, 0)


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
    join_minutes: float = 10.0
    steps_per_execution: int | None = None
    jit_compile: str = "auto"
    checkpoint_minutes: float = 10.0
    deterministic: bool = False
    threads: int | None = None
    tensorboard: bool = False
    recipe: str = "notebook"
    model: str = "notebook"
    optimizer: str = "adam"
    schedule: str = "plateau"
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float | None = None
    normalization_momentum: float = 0.99
    augment: str = "flip"
    teacher: str | None = None
    temperature: float = 1.0
    distill: float = 0.5


class Run(NamedTuple):
    """A run that is open: where it is written, its data, its configuration and its devices."""

    path: Path
    splits: Splits
    config: dict[str, Any]
    job: Job


def refusal(path: Path, options: Options, *, chief: bool, exporting: bool) -> UserError | None:
    """What is wrong, as far as that shows without TensorFlow or reading an image; else None.

    Args:
      path: the run directory.
      options: what the user chose.
      chief: whether this host writes there; the others have one of their own, or none.
      exporting: whether the trained network will be exported.
    """
    try:
        check_options(options)
        if chief:
            check_run(path, options, exporting=exporting)
        datasets.check(
            options.data,
            validation_fraction=options.validation_fraction,
            on_bad_image=options.on_bad_image,
            cache=options.cache,
        )
    except UserError as error:
        return error
    return None


def check_options(options: Options) -> None:
    """Checks what absl's flags cannot.

    Raises:
      UserError: names the flag.
    """
    if not 0 < options.learning_rate < math.inf:
        raise UserError(f"--learning_rate={options.learning_rate}: must be a number above 0")
    if not 0 <= options.checkpoint_minutes < math.inf:
        raise UserError(f"--checkpoint_minutes={options.checkpoint_minutes}: must be a number")
    if not 0 < options.join_minutes < math.inf:
        raise UserError(f"--join_minutes={options.join_minutes}: must be a number above 0")
    for name in _SHARES:
        if not 0 <= (getattr(options, name) or 0.0) <= 1:
            raise UserError(f"--{name}={getattr(options, name)}: must be a number from 0 to 1")
    if not 0 <= options.weight_decay < math.inf:
        raise UserError(f"--weight_decay={options.weight_decay}: must be a number of 0 or more")
    if not 0 < options.temperature < math.inf:
        raise UserError(f"--temperature={options.temperature}: must be a number above 0")
    augmentation.parse(options.augment)
    for teacher in distillation.names(options.teacher):
        run_dir.read_config(Path(teacher))
        checkpoints.load_end(Path(teacher))
    if options.tensorboard and not importlib.util.find_spec("tensorboard"):
        raise UserError("--tensorboard: pip install 'fer_pipeline[tensorboard]' first")


def check_run(path: Path, options: Options, *, exporting: bool) -> None:
    """Checks that the run directory can be used as it is wanted, before anything is written.

    Raises:
      UserError: it is no run, is busy, is finished, was started otherwise, or its disk is full.
    """
    run_dir.check_usable(path)
    if (path / run_dir.CONFIG).exists() and not options.overwrite:
        typed = {name: getattr(options, name) for name in _TYPED_IDENTITY}
        if options.precision != "auto":
            typed["precision"] = options.precision
        if depends_on_epochs(typed | {"epochs": options.epochs}):
            typed["epochs"] = options.epochs
        run_dir.refuse_another(path, read_config(path), typed)
        refuse_finished(path, options, exporting=exporting)
    if (path / run_dir.CONFIG).exists():
        run_dir.check_free(path)
    weights = _BYTES_PER_PARAMETER * count_parameters(options.model)
    size = _CHECKPOINT_COPIES * weights
    needed = checkpoints.space_needed(path, size, anew=options.overwrite)
    needed += max(_EXPORT_COPIES * weights, _SMALLEST_EXPORT) if exporting else 0
    # What is deleted first makes room.
    needed -= run_dir.size_written(path) if options.overwrite else 0
    run_dir.check_space(
        path, needed, "its checkpoints and its export" if exporting else "its checkpoints"
    )


@contextlib.contextmanager
def own(opened: Run, options: Options, *, exporting: bool) -> Iterator[None]:
    """Holds the run directory and begins or continues the run in it; tells the other hosts."""
    path = opened.path
    with contextlib.ExitStack() as stack:
        with distribution.together(opened.job):
            stack.enter_context(run_dir.owned(path))
            if options.overwrite:
                with run_dir.locked(path, run_dir.EXPORT_LOCK, busy=run_dir.EXPORTING):
                    run_dir.clear(path)
            else:
                # Another process may have finished it while the data was loaded.
                refuse_finished(path, options, exporting=exporting)
            begin(path, opened.config)
        yield


def default_run_dir(options: Options) -> Path:
    """``runs/<data>-<recipe>-s<seed>``."""
    recipe = f"b{options.batch_size}-lr{options.learning_rate:g}"
    if (options.model, options.recipe) != ("notebook", "notebook"):
        recipe = f"{options.model}-{options.recipe}-e{options.epochs}-{recipe}"
    return Path("runs") / f"{datasets.source_name(options.data)}-{recipe}-s{options.seed}"


def refuse_finished(path: Path, options: Options, *, exporting: bool) -> None:
    """Raises UserError where ``path`` holds a run with nothing left to do, or with more epochs."""
    trained, step = checkpoints.progress(path)
    if (trained, step) > (options.epochs, 0):
        finished = is_finished(path, trained, options.export_checkpoint, exporting=exporting)
        more = trained + (step > 0 or finished)
        raise UserError(
            f"{path}: has trained {trained} epochs already{' and begun another' if step else ''}; "
            f"pass --epochs={more} or more, or --overwrite to start anew"
        )
    if trained == options.epochs and is_finished(
        path, trained, options.export_checkpoint, exporting=exporting
    ):
        raise UserError(
            f"{path}: is finished; pass --overwrite to train it again, more --epochs to train it "
            "further, or another --run_dir"
        )


def is_finished(path: Path, epochs: int, export_checkpoint: str, *, exporting: bool) -> bool:
    """Whether a run of so many epochs is evaluated and, if ``exporting``, exported."""
    if evaluated(path) != {"epochs": epochs, "export_checkpoint": export_checkpoint}:
        return False
    return not exporting or weights_evaluated(path) == weights_exported(path)


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
    threads = determinism.pin(
        seed=options.seed, threads=options.threads, deterministic=options.deterministic
    )
    job = distribution.join(
        options.strategy, batch_size=options.batch_size, join_minutes=options.join_minutes, say=_say
    )
    if job.replicas > 1:
        print(f"{job.replicas} devices; worker {job.place.worker} of {job.place.workers}")
    with distribution.together(job):
        if problem:
            raise problem
        splits = load_data(options)
    trained_on = distribution.training_gpus(job)
    policy = precision.resolve(options.precision, trained_on)
    config = dataclasses.asdict(options) | {
        "data": options.data if options.data == "synthetic" else os.path.abspath(options.data),
        "fingerprint": fingerprint(splits),
        "teachers": distillation.digests(distillation.names(options.teacher)),
        "precision": policy,
        "jit_compile": use_xla(
            options.jit_compile,
            trained_on,
            replicas=job.replicas,
            deterministic=options.deterministic,
        ),
        "threads": threads,
        "devices": job.replicas,
        "versions": versions(),
    }
    for name in ("run_dir", "overwrite"):
        del config[name]
    hint = None if trained_on else gpus.unused_gpu_hint()
    if hint:
        _say(hint)
    _say(gpus.training_line(trained_on, policy, cores.usable()))
    return Run(path, splits, config, job)


def _say(line: str) -> None:
    print(line, flush=True)


def use_xla(flag: str, trained_on: Sequence[Gpu], *, replicas: int, deterministic: bool) -> bool:
    """Whether to compile by XLA.

    ``auto`` does on a single GPU, where that can be done and gives the same bits every time. (On a
    CPU it is five times slower.)

    Raises:
      UserError: it is asked for on several devices.
    """
    if flag == "auto":
        return (
            replicas == 1
            and not deterministic
            and any(gpu.capability < _TOO_NEW_FOR_XLA for gpu in trained_on)
        )
    if flag == "true" and replicas > 1:
        raise UserError(
            f"--jit_compile=true: is for one device and not {replicas}; leave it on auto"
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
    if loaded.left_out:
        endings = Counter(os.path.splitext(name)[1].lower() for name in loaded.left_out)
        kinds = ", ".join(f"{ending or 'no ending'} {n:,}" for ending, n in sorted(endings.items()))
        print(
            f"{len(loaded.left_out):,} files that are no images were left out ({kinds}), first "
            f"{loaded.left_out[0]}"
        )
    print(f"loaded in {seconds:.1f} s", flush=True)
    return loaded.splits


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration makes a run the one that it is."""
    names = _IDENTITY + (_DETERMINISTIC_IDENTITY if config["deterministic"] else ())
    names += ("epochs",) if depends_on_epochs(config) else ()
    return {name: config[name] for name in names}


def depends_on_epochs(config: dict[str, Any]) -> bool:
    """Whether a run of other epochs is another run from its first step on."""
    return Recipe(schedule=config["schedule"], augment=config["augment"]).depends_on_epochs


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
        run_dir.refuse_another(path, read_config(path), identity(config))
    run_dir.write_json(path / run_dir.CONFIG, config)


def read_config(path: Path) -> dict[str, Any]:
    """A run's configuration; what an older version did not record had the default of today.

    Of what the device decides there is no default.
    """
    defaults = {name: getattr(Options(), name) for name in _TYPED_IDENTITY} | {"teachers": []}
    return defaults | run_dir.read_config(path)
