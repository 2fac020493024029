"""How the input pipeline behaves as the data grows: time an image, time to start, memory.

Each measurement is a process of its own (``python -m fer_pipeline.throughput.scaling JSON``), since
memory that was used once is never seen to be free again.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer_pipeline import child_processes
from fer_pipeline.classes import IMAGE_SIZE
from fer_pipeline.datasets.splits import Split
from fer_pipeline.devices import allocator
from fer_pipeline.throughput.cases import Column, Row, Table
from fer_pipeline.throughput.machine import process_mib

#: Images of the data sets: from FER-2013's to what a web crawl gives.
SIZES = (30_000, 100_000, 300_000, 1_000_000)

#: Those that are decoded whenever they are used, which takes as long as it takes.
UNDECODED_SIZES = (10_000, 30_000)

BATCH_SIZES = (16, 64, 256, 1024, 4096)

COLUMNS = (
    Column("data MiB", "data"),
    Column("us/image", "microseconds", "{:,.2f}"),
    Column("min", "min", "{:,.2f}"),
    Column("max", "max", "{:,.2f}"),
    Column("iter() s", "iter_seconds", "{:.3f}"),
    Column("first batch s", "first_seconds", "{:.3f}"),
    Column("peak MiB", "peak"),
    Column("of it before", "idle"),
)

#: Rounds of a measurement, and seconds of one.
_ROUNDS, _SECONDS = 5, 1.0

_SEED = 0
_MIB = 2**20
_IMAGE_BYTES = IMAGE_SIZE**2


def sizes(*, quick: bool) -> Table:
    """Time an image and memory for every ``--cache``, from 30,000 images to a million."""
    rows = [
        _row(f"{cache}, {count:,} images", cache=cache, images=count, batch_size=64)
        for cache, counts in (("memory", SIZES), ("disk", SIZES), ("none", UNDECODED_SIZES))
        for count in counts[: 1 if quick else None]
    ]
    return Table("batch 64", COLUMNS, rows)


def settings(*, quick: bool) -> Table:
    """Throughput for every batch size, with all threads and with one."""
    rows = []
    for threads in (0, 1):
        for batch_size in BATCH_SIZES[: 1 if quick else None]:
            name = f"batch {batch_size:,}, {'1 thread' if threads else 'all threads'}"
            options = {"batch_size": batch_size, "threads": threads}
            rows.append(_row(name, cache="memory", images=SIZES[0], **options))
    return Table("batch size and threads, 30,000 images in memory", COLUMNS, rows)


def measure(cache: str, images: int, batch_size: int, threads: int = 0) -> dict[str, Any]:
    """Takes shuffled, mirrored batches for some seconds in this process.

    Args:
      cache: as for ``fer_pipeline.train``. ``memory`` and ``disk`` are random pixels, ``none`` a
        folder of JPEG files.
      images: in the data set.
      batch_size: images of a batch.
      threads: TensorFlow's, beside which the pipeline has one that reads ahead; 0 leaves them.

    Returns:
      ``microseconds`` an image, the median of five rounds of a second, and their ``min`` and
      ``max``; ``iter_seconds`` to the iterator and ``first_seconds`` from there to its first batch;
      and MiB: ``data``, the pixels; ``idle``, the process before there were any; ``peak``, most
      that it had at the end of a round, less what of the mapped file the system holds and can drop.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    from fer_pipeline.throughput.input_cases import consumer, endless

    # As a training does.
    allocator.retain_freed_memory()
    # TensorFlow's own start is none of the iterator's time.
    tf.constant(0)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        make = _files(Path(scratch), images) if cache == "none" else None
        idle = process_mib("RssAnon")
        split = make() if make else _random(images, Path(scratch) if cache == "disk" else None)
        start = time.perf_counter()
        batches = iter(endless(split, batch_size))
        made = time.perf_counter()
        next(batches)
        first = time.perf_counter()
        del batches
        step = consumer(endless(split, batch_size), batch_size)
        step()
        rounds, most = [], process_mib("RssAnon")
        for _ in range(_ROUNDS):
            done, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < _SECONDS:
                done += step()
            rounds.append(1e6 * (time.perf_counter() - begun) / done)
            most = max(most, process_mib("RssAnon"))
        del step, split
    return {
        "microseconds": statistics.median(rounds),
        "min": min(rounds),
        "max": max(rounds),
        "iter_seconds": made - start,
        "first_seconds": first - made,
        "data": images * _IMAGE_BYTES / _MIB,
        "idle": idle,
        "peak": most,
    }


def _row(name: str, **arguments: Any) -> Row:
    row = {"name": name, "note": "", "kind": "ours", **arguments}
    try:
        return row | json.loads(child_processes.run(__name__, json.dumps(arguments)))
    except child_processes.ChildError as error:
        return row | {"note": f"not measured: {error}"}


def _random(images: int, folder: Path | None) -> Split:
    """Random pixels in memory, or mapped from a file in ``folder``."""
    rng = np.random.default_rng(_SEED)
    labels = (np.arange(images) % 7).astype(np.int32)
    shape = (images, IMAGE_SIZE, IMAGE_SIZE, 1)
    if folder is None:
        pixels = np.empty(shape, np.uint8)
    else:
        pixels = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    for start in range(0, images, 10_000):
        part = pixels[start : start + 10_000]
        part[...] = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
    if folder is not None:
        pixels.flush()
        pixels = np.load(folder / "images.npy", mmap_mode="r")
    return Split(pixels, labels)


def _files(folder: Path, images: int) -> Any:
    """Writes a data source of JPEG files; returns a function that opens it undecoded."""
    import tensorflow as tf

    from fer_pipeline import datasets
    from fer_pipeline.classes import CLASS_NAMES

    rng = np.random.default_rng(_SEED)
    face = rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
    content = tf.io.encode_jpeg(face).numpy()
    for part, count in (("train", images), ("test", len(CLASS_NAMES))):
        for i in range(count):
            file = folder / part / CLASS_NAMES[i % len(CLASS_NAMES)] / f"{i:07d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return lambda: datasets.load(folder, cache="none").splits.train


if __name__ == "__main__":
    from fer_pipeline.terminal import native_log

    with native_log.redirected("/dev/null"):
        found = measure(**json.loads(sys.argv[1]))
    print(json.dumps(found))
