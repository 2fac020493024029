"""Opens a run: whether it may be, its faces, its configuration, its devices, its directory."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fer_pipeline import (
    __version__,
    atomic_files,
    cores,
    datasets,
    gpus,
    pictures,
    recipes,
    run_dir,
)
from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import NUM_CLASSES
from fer_pipeline.config import Config
from fer_pipeline.datasets import arrays, exclusion, files, layout
from fer_pipeline.datasets.splits import Splits, class_counts, class_table, fingerprint
from fer_pipeline.devices import determinism
from fer_pipeline.devices import strategy as strategy_lib
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained
from fer_pipeline.models.networks import count_parameters
from fer_pipeline.run_record import known_resume_key, resume_key, to_record, with_defaults
from fer_pipeline.stages import initial_weights, teachers
from fer_pipeline.stages.finished import refuse_finished
from fer_pipeline.training import checkpoints, loop

if TYPE_CHECKING:
    from fer_pipeline.devices.strategy import Devices

#: Sizes in copies of the weights. A checkpoint holds the weights and Adam's two moments, or of Muon
#: one. The nine artifacts take 6.3 copies, and temporary files while they are written 3.
_CHECKPOINT_COPIES, _EXPORT_COPIES = {"adam": 3, "adamw": 3, "muon": 2}, 10
_BYTES_PER_PARAMETER = 4

#: Bytes of an export however small the network: nine times graphs, texts and golden faces.
_SMALLEST_EXPORT = 4_000_000


class Run(NamedTuple):
    """A run that is open.

    Attributes:
      path: the run directory.
      splits: the data.
      config: the settings, those resolved that the device decides.
      record: the content of ``config.json``.
      devices: what trains.
      initial: weights to start from, see ``loop.train``.
    """

    path: Path
    splits: Splits
    config: Config
    record: dict[str, Any]
    devices: Devices
    initial: list[np.ndarray] | None = None


def find_problem(
    path: Path, config: Config, *, chief: bool, exporting: bool, loading: bool = True
) -> UserError | None:
    """What is wrong, as far as that shows without TensorFlow or reading an image; else None.

    Args:
      path: the run directory.
      config: what the user chose, with the recipe's settings.
      chief: whether this host writes there; the others have one of their own, or none.
      exporting: whether the trained network will be exported.
      loading: whether the faces come from ``config.data``.
    """
    try:
        if config.tensorboard and not importlib.util.find_spec("tensorboard"):
            raise UserError("--tensorboard: pip install 'fer_pipeline[tensorboard]' first")
        teachers.check(teachers.names(config.teacher))
        initial_weights.check(path, config)
        if config.exclude:
            exclusion.read(config.exclude)
        if chief:
            check_run(path, config, exporting=exporting)
        # A run that goes on has to be given what it was started with.
        if config.overwrite or not (path / run_dir.CONFIG).is_file():
            recipes.check_used(config)
        if loading:
            datasets.check(
                config.data,
                classes=config.classes,
                validation_fraction=config.validation_fraction,
                on_bad_image=config.on_bad_image,
                cache=config.cache,
                ferplus=config.ferplus,
                ferplus_labels=config.ferplus_labels,
            )
        else:
            check_given(config)
    except UserError as error:
        return error
    return None


def check_given(config: Config) -> None:
    """Raises UserError for a setting that says how a source is read, where the faces are arrays."""
    for name in ("ferplus", "ferplus_labels", "validation_fraction"):
        if getattr(config, name) != getattr(Config, name):
            raise UserError(f"{name}: the faces are arrays; pass it to load_data instead")


def check_run(path: Path, config: Config, *, exporting: bool) -> None:
    """Checks that the run directory can be used as it is wanted, before anything is written.

    Raises:
      UserError: it is no run, is busy, is finished, was started otherwise, or its disk is full; or
        weights that are needed would be deleted with it.
    """
    run_dir.check_usable(path)
    if config.overwrite:
        check_kept(path, config)
    if (path / run_dir.CONFIG).exists() and not config.overwrite:
        known = known_resume_key(config) | {"exclude_sha256": list_digest(config)}
        run_dir.check_same_config(path, read_record(path), known)
        refuse_finished(path, config, exporting=exporting)
    if (path / run_dir.CONFIG).exists():
        run_dir.check_free(path)
    # Where the data decide, there may be more, whose weights are few.
    num_classes = len(classes_lib.parse(config.classes) or ()) or NUM_CLASSES
    weights = _BYTES_PER_PARAMETER * count_parameters(config.model, num_classes)
    # Averaged weights are one more.
    size = (_CHECKPOINT_COPIES[config.optimizer] + bool(config.ema)) * weights
    needed = checkpoints.space_needed(path, size, anew=config.overwrite)
    needed += max(_EXPORT_COPIES * weights, _SMALLEST_EXPORT) if exporting else 0
    # What is deleted first makes room.
    needed -= run_dir.size_written(path) if config.overwrite else 0
    run_dir.check_space(
        path, needed, "its checkpoints and its export" if exporting else "its checkpoints"
    )


def check_kept(path: Path, config: Config) -> None:
    """Raises UserError where ``--overwrite`` would delete the weights that a run learns from."""
    sources = [("teacher", name) for name in teachers.names(config.teacher)]
    sources += [("init_weights", config.init_weights)] if config.init_weights else []
    for flag, source in sources:
        if source != pretrained.NAME and run_dir.is_cleared(path, Path(source)):
            raise UserError(
                f"--{flag}={source}: --overwrite would delete it; pass another --run_dir"
            )


@contextlib.contextmanager
def lock_run(opened: Run, config: Config, *, exporting: bool) -> Iterator[None]:
    """Holds the run directory and begins or continues the run in it; tells the other hosts."""
    path = opened.path
    with contextlib.ExitStack() as stack:
        with strategy_lib.errors_on_all_workers(opened.devices):
            stack.enter_context(run_dir.owned(path))
            if config.overwrite:
                with run_dir.locked(path, run_dir.EXPORT_LOCK, busy=run_dir.EXPORTING):
                    run_dir.clear(path)
            else:
                # Another process may have finished it while the data was loaded.
                refuse_finished(path, config, exporting=exporting)
            write_record(path, opened.record)
        yield


def default_run_dir(config: Config) -> Path:
    """``runs/<data>-<recipe>-s<seed>``."""
    recipe = f"b{config.batch_size}-lr{config.learning_rate:g}"
    if (config.model, config.recipe) != ("notebook", "notebook"):
        recipe = f"{config.model}-{config.recipe}-e{config.epochs}-{recipe}"
    return Path("runs") / f"{datasets.source_name(config.data)}-{recipe}-s{config.seed}"


def open_run(
    path: Path,
    config: Config,
    problem: UserError | None = None,
    splits: Splits | None = None,
) -> Run:
    """Joins the other hosts if there are any, loads the faces and makes the configuration.

    Args:
      path: the run directory.
      config: what the user chose.
      problem: what keeps this host from training, to be told to the others.
      splits: the faces, if they are not to be loaded.

    Raises:
      UserError: on all hosts, where one cannot train.
    """
    threads = determinism.configure(
        seed=config.seed, threads=config.threads, deterministic=config.deterministic
    )
    devices = strategy_lib.join(
        config.strategy, batch_size=config.batch_size, join_minutes=config.join_minutes, log=_log
    )
    if devices.replicas > 1:
        print(
            f"{devices.replicas} devices; worker {devices.worker.index} of {devices.worker.count}"
        )
    with strategy_lib.errors_on_all_workers(devices):
        if problem:
            raise problem
        splits = _given(splits, config) if splits else load_data(config)
        check_classes(splits, config)
        teachers.check_classes(teachers.names(config.teacher), splits.classes)
        start = initial_weights.of_run(path, config, splits.classes)
    trained_on = strategy_lib.training_gpus(devices)
    classes = classes_lib.as_text(splits.classes)
    config = dataclasses.replace(
        loop.resolve(config, devices),
        threads=threads,
        classes=classes,
        init_weights=initial_weights.place(config.init_weights),
        teacher=teachers.places(config.teacher),
    )
    if datasets.is_path(config.data):
        config = dataclasses.replace(config, data=os.path.abspath(config.data))
    if config.ferplus:
        config = dataclasses.replace(config, ferplus=os.path.abspath(config.ferplus))
    if config.exclude:
        config = dataclasses.replace(config, exclude=os.path.abspath(config.exclude))
    if config.cache_dir:
        place = os.path.abspath(os.path.expanduser(config.cache_dir))
        config = dataclasses.replace(config, cache_dir=place)
    record = to_record(
        config,
        fingerprint=fingerprint(splits),
        devices=devices.replicas,
        versions=versions(),
        teachers=teachers.digests(teachers.names(config.teacher)),
        initial_weights=start.digest,
        exclude_sha256=list_digest(config),
        ferplus_sha256=splits.label_digest or None,
    )
    hint = None if trained_on else gpus.unused_gpu_hint()
    if hint:
        _log(hint)
    _log(gpus.training_line(trained_on, config.precision, cores.usable()))
    return Run(path, splits, config, record, devices, start.weights)


def _log(line: str) -> None:
    print(line, flush=True)


def list_digest(config: Config) -> str | None:
    """SHA-256 of the list of images that are left out; None without one."""
    return exclusion.digest(config.exclude) if config.exclude else None


def _given(splits: Splits, config: Config) -> Splits:
    """Faces that were given as arrays, checked, without those that a list leaves out.

    Raises:
      UserError: the arrays are others than ``Splits`` has, or the list cannot be read.
    """
    splits = arrays.checked(splits)
    if not config.exclude:
        return splits
    splits, excluded = exclusion.apply(splits, exclusion.read(config.exclude))
    _log(exclusion.describe(excluded))
    return splits


def check_classes(splits: Splits, config: Config) -> None:
    """Checks that a network can be trained to tell the classes of the data apart.

    Raises:
      UserError: the classes are other than ``--classes``, or are none; or a class has no training
        image, or a single one.
    """
    names, wanted = splits.classes, classes_lib.parse(config.classes)
    if problem := classes_lib.problem_of(names):
        raise UserError(f"{config.data}: {problem}; give other classes to the data")
    if wanted and (problem := classes_lib.unlike(wanted, names)):
        raise UserError(f"--classes={config.classes}: the data have {problem}; leave it out")
    counts = class_counts(splits.train, len(names))
    if config.validation_fraction is not None:
        counts = counts + class_counts(splits.validation, len(names))
    few = [name for name, count in zip(names, counts, strict=True) if count < 2]
    if few:
        raise UserError(
            f"{config.data}: has fewer than two training images of {classes_lib.listed(few)}; add "
            "more or leave the class out"
        )


def load_data(config: Config) -> Splits:
    """Loads the faces and says what they are."""
    print(f"data: {config.data}", flush=True)
    started = time.perf_counter()
    loaded = datasets.load(
        config.data,
        classes=config.classes,
        seed=config.seed,
        validation_fraction=config.validation_fraction,
        on_bad_image=config.on_bad_image,
        cache=config.cache,
        cache_dir=config.cache_dir,
        exclude=config.exclude,
        ferplus=config.ferplus,
        ferplus_labels=config.ferplus_labels,
    )
    seconds = time.perf_counter() - started
    print(class_table(loaded.splits))
    if loaded.cut:
        print(loaded.cut)
    if loaded.unread:
        print(layout.describe_unread(loaded.unread))
    if loaded.relabelled:
        print(loaded.relabelled)
    if loaded.splits.selected_on == "test":
        print("there are no validation images: the test images take their place")
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
        if not pictures.reads_heif() and any(endings[suffix] for suffix in files.HEIF_SUFFIXES):
            print("HEIC images are read after: pip install 'fer_pipeline[images]'")
    if loaded.excluded:
        print(exclusion.describe(loaded.excluded))
    print(f"loaded in {seconds:.1f} s", flush=True)
    return loaded.splits


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


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes ``config.json``, or checks that the run there was started with the same one."""
    if (path / run_dir.CONFIG).exists():
        run_dir.check_same_config(path, read_record(path), resume_key(record))
    atomic_files.write_json(path / run_dir.CONFIG, record)


def read_record(path: Path) -> dict[str, Any]:
    """A run's ``config.json``, with the defaults of what an older version did not record."""
    return with_defaults(run_dir.read_config(path))
