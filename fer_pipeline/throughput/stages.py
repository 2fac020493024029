"""Loads the faces, runs each stage's cases by turns, prints and writes the figures."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fer_pipeline import atomic_files, cores, datasets, gpus
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.devices import precision
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import plots
from fer_pipeline.inference import export_files, pretrained
from fer_pipeline.throughput import (
    accuracy,
    accuracy_chart,
    cases,
    chart,
    export_cost,
    inference_cases,
    input_cases,
    machine,
    processes,
    scaling,
    train_cases,
)
from fer_pipeline.throughput.cases import Row, Table

#: The files that ``measure`` writes, and the one that holds what it has until it ends.
RESULT, CHART, PARTIAL = "benchmark.json", "benchmark.png", "benchmark.partial.json"

#: Accuracy against size, where that stage is asked for.
ACCURACY_CHART = "accuracy.png"

#: Batch sizes of the stages where none is given.
_INPUT_BATCHES, _TRAIN_BATCHES = (64, 256, 1024), (64,)
_GPU_TRAIN_BATCHES = (64, 256, 1024, 4096)

#: Images of the larger calls of the inference stage.
_INFERENCE_BATCH = 64

#: GiB that a process of a stage takes, generously, and how much more for an image of the batch.
_INPUT_GIB, _INFERENCE_GIB, _TRAIN_GIB, _IMAGE_GIB = 0.8, 0.8, 1.5, 0.01

#: What --quick exports.
_QUICK_FORMATS = ("float32", "int8")


@dataclasses.dataclass(frozen=True)
class Options:
    """How long and how much is measured.

    Attributes:
      quick: fewer cases: one batch size, two artifacts, one size of data.
      batch_size: images of a batch; None is each stage's own choice.
      models: TFLite files, or folders of them, that the accuracy stage compares; none are the
        pretrained ones.
      rounds: timed rounds of each case.
      seconds: of a round, at least.
      steps: of a training round, at least.
    """

    quick: bool = False
    batch_size: int | None = None
    models: list[str] = dataclasses.field(default_factory=list)
    rounds: int = 5
    seconds: float = 1.0
    steps: int = 6


def measure(data: str, options: Options, *, stages: Sequence[str], out: Path) -> dict[str, Any]:
    """Runs the stages, prints their tables, and writes ``benchmark.json`` and ``benchmark.png``.

    Files of an earlier call are replaced when all is measured; ``benchmark.partial.json`` has what
    there is until then, and stays where it ends too early.

    Args:
      data: source of the faces, as ``datasets.load`` takes it.
      options: how long and how much.
      stages: names out of ``STAGES``.
      out: folder of the two files.

    Returns:
      What was written as JSON.

    Raises:
      UserError: an unknown stage, bad data, a folder, ``out`` or the system's for temporary files,
        that cannot be written, or nothing that could be measured.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages or len(set(stages)) < len(stages):
        raise UserError(
            f"--stages={','.join(stages)}: choose from {','.join(STAGES)}, each at most once"
        )
    if not 0 < options.seconds < math.inf:
        raise UserError(f"--seconds={options.seconds:g}: must be more than 0 and finite")
    started = time.perf_counter()
    result = {"machine": machine.describe(), "data": data, **dataclasses.asdict(options)}
    print(machine.format_line(result["machine"]), flush=True)
    # Here nothing is measured, and two processes on a GPU would be in each other's way.
    machine.hide_gpus()
    splits, result["load"] = _load(data)
    result["stages"] = {stage: [] for stage in stages}
    # Before anything is measured, to find out whether it can be written.
    _write(result, out / PARTIAL)
    with _scratch() as scratch:
        for stage in stages:
            for table in STAGES[stage](splits, options, scratch):
                print(f"\n{stage}, {cases.format_table(table)}", flush=True)
                result["stages"][stage].append(table.as_json())
                _write(result, out / PARTIAL)
    if not chart.list_panels(result):
        raise UserError(
            f"nothing could be measured: the rows above say why, and {out / PARTIAL} keeps them"
        )
    plots.save(chart.draw(result), out / CHART)
    if points := accuracy_chart.list_points(result):
        plots.save(accuracy_chart.draw(points), out / ACCURACY_CHART)
    _write(result, out / RESULT)
    (out / PARTIAL).unlink()
    print(f"\n{out / RESULT} and {CHART} written after {time.perf_counter() - started:.0f} s")
    return result


def _write(result: dict[str, Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_json(path, result)
    except OSError as error:
        raise UserError(f"--out={path.parent}: cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for files that are gone afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
            yield Path(scratch)
    except BrokenPipeError:
        # The program that read the tables has ended.
        raise
    except OSError as error:
        raise UserError(
            f"{error.filename or tempfile.gettempdir()}: {error.strerror}; TMPDIR names another "
            "folder for the benchmark's own files"
        ) from error


def input_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """Delivering training batches: shuffled, randomly mirrored, cached where one can."""
    arguments = {
        "folder": str(input_cases.class_folders(splits.train, scratch)),
        "seconds": options.seconds,
        "workers": 0 if options.quick else cores.usable(),
    }
    for batch_size in _batch_sizes(options, _INPUT_BATCHES):
        rows = _measured(
            cases.measure_rates,
            input_cases,
            arguments | {"batch_size": batch_size},
            options,
            scratch,
            gib=_INPUT_GIB,
            rounds=options.rounds,
            # tf.data looks for the best numbers of threads and buffers for some seconds, but none
            # of the cases of a quick look leaves that to it.
            untimed=0 if options.quick else 3,
        )
        yield Table(f"batch {batch_size}, shuffled and mirrored", cases.RATE_COLUMNS, rows)


def train_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """Optimizer steps on the network."""
    on_gpu = bool(machine.gpu_names())
    arguments = {
        "folder": str(input_cases.class_folders(splits.train, scratch)),
        "steps": options.steps,
        "seconds": options.seconds,
        "policies": list(dict.fromkeys(["float32", precision.resolve("auto", gpus.visible()[:1])])),
        "on_gpu": on_gpu,
    }
    for batch_size in _batch_sizes(options, _GPU_TRAIN_BATCHES if on_gpu else _TRAIN_BATCHES):
        rows = _measured(
            cases.measure_rates,
            train_cases,
            arguments | {"batch_size": batch_size},
            options,
            scratch,
            gib=_TRAIN_GIB + batch_size * _IMAGE_GIB,
            rounds=options.rounds,
        )
        title = f"batch {batch_size}, rounds of {options.seconds:g} s or more"
        if on_gpu:
            title += f", float32 multiplied in {machine.arithmetic('float32')}"
        yield Table(title, train_cases.COLUMNS, train_cases.with_shares(rows, batch_size))


def inference_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """Calls of the exported files; their weights are random, which takes as long."""
    turns, calls = (3, 10) if options.quick else (10, 10)
    _exported(scratch, _formats(options))
    np.save(scratch / inference_cases.IMAGES, splits.train.images[:_INFERENCE_BATCH])
    # Where it cannot be done its rows say so.
    with contextlib.suppress(ImportError):
        inference_cases.write_onnx(scratch)
    on_gpu = bool(machine.gpu_names())
    rows = _measured(
        cases.measure_latencies,
        inference_cases,
        {"folder": str(scratch), "cores": cores.usable(), "on_gpu": on_gpu},
        options,
        scratch,
        gib=_INFERENCE_GIB,
        turns=turns,
        calls=calls,
    )
    where = "; SavedModel, Keras and PyTorch on the GPU" if on_gpu else ""
    yield Table(f"{turns * calls} calls each{where}", cases.LATENCY_COLUMNS, rows)


def _measured(
    measure: Callable[..., list[Row]],
    module: ModuleType,
    arguments: dict[str, Any],
    options: Options,
    scratch: Path,
    *,
    gib: float,
    **given: int,
) -> list[Row]:
    """``measure``'s rows of a module's cases, whose processes take so many GiB each."""
    found = module.cases(**arguments)
    chosen = [case for case in found if not options.quick or case.name.startswith(module.QUICK)]
    name = module.__name__.rpartition(".")[2]
    return measure(
        chosen,
        baseline=module.BASELINE,
        opener=processes.opener(name, arguments, scratch / "logs"),
        together=_fit(len(chosen), gib),
        **given,
    )


def export_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """Writing each artifact, without proving it."""
    del splits
    rows = _exported(scratch, _formats(options))
    yield Table("each in a process of its own", export_cost.COLUMNS, rows)


@functools.cache
def _exported(folder: Path, formats: tuple[str, ...]) -> list[Row]:
    """Writes the formats into the folder; two stages want them."""
    return export_cost.write(formats, folder)


def scaling_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """Larger data, other batch sizes, fewer threads."""
    del splits, scratch
    yield scaling.sizes(quick=options.quick)
    yield scaling.settings(quick=options.quick)


def accuracy_stage(splits: Splits, options: Options, scratch: Path) -> Iterator[Table]:
    """How often exported files are right, beside the files that other packages bring along."""
    del scratch
    yield accuracy.compare(
        accuracy.own_models(options.models or [str(pretrained.FOLDER)]),
        splits.train,
        splits.test,
        images=500 if options.quick else None,
        calls=10 if options.quick else 100,
    )


#: Every stage by its name on the command line.
STAGES: dict[str, Callable[[Splits, Options, Path], Iterator[Table]]] = {
    "input": input_stage,
    "train": train_stage,
    "inference": inference_stage,
    "export": export_stage,
    "scaling": scaling_stage,
    "accuracy": accuracy_stage,
}


def _load(data: str) -> tuple[Splits, dict[str, Any]]:
    """The images, and what loading them took."""
    start = time.perf_counter()
    splits = datasets.load(data).splits
    seconds = time.perf_counter() - start
    parts = (splits.train, splits.test) if splits.selected_on == "test" else splits[:3]
    images = sum(len(part.labels) for part in parts)
    rate = images / seconds
    print(f"{data}: {images:,} images loaded cold in {seconds:.1f} s, {rate:,.0f} images/s")
    return splits, {"images": images, "seconds": seconds}


def _fit(count: int, gib: float) -> bool:
    """Whether so many processes of so many GiB can be alive at once, or take their turns alone."""
    room = machine.available_memory()
    return room is None or count * gib * 2**30 <= room


def _batch_sizes(options: Options, usual: tuple[int, ...]) -> tuple[int, ...]:
    if options.batch_size:
        return (options.batch_size,)
    return usual[: 1 if options.quick else None]


def _formats(options: Options) -> tuple[str, ...]:
    return _QUICK_FORMATS if options.quick else tuple(export_files.PATHS)
