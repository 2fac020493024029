"""Kills a training at random moments, continues it, and compares it with an uninterrupted one.

    python tests/proofs/kill_and_resume.py --precision=float32

The command line, SIGKILL and the whole network; a folder of synthetic faces, checkpoints after
every few steps. Every variable of the last checkpoint and history.csv have to be the same bytes.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import synthetic


def write_faces(folder, count):
    for part, size, seed in (("train", count, 1), ("validation", 70, 2), ("test", 70, 3)):
        labels = np.arange(size, dtype=np.int32) % 7
        for i, face in enumerate(synthetic.render(labels, seed=seed)):
            path = folder / part / CLASS_NAMES[labels[i]] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(face).numpy())


def train(run, data, options):
    command = [sys.executable, "-m", "fer_pipeline.train", f"--data={data}", f"--run_dir={run}"]
    settings = [f"--epochs={options.epochs}", f"--precision={options.precision}"]
    often = ["--batch_size=32", "--checkpoint_minutes=0", "--steps_per_execution=2"]
    fixed = ["--deterministic", "--noexport"]
    return subprocess.Popen(
        [*command, *settings, *often, *fixed], stdout=subprocess.DEVNULL, env=os.environ
    )


def checkpoint_names(run):
    return sorted(path.name for path in (run / "checkpoints").glob("epoch_*.npz"))


def kill_at_random(run, data, options, rng):
    """Waits for a new checkpoint, then up to eight seconds more."""
    before = checkpoint_names(run)
    process = train(run, data, options)
    while checkpoint_names(run) == before and process.poll() is None:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 8))
    if process.poll() is not None:
        sys.exit(f"it ended by itself with status {process.returncode}")
    process.kill()
    process.wait()
    print("killed; newest checkpoint", checkpoint_names(run)[-1], flush=True)


def main(options):
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        data, whole, killed = (Path(folder) / name for name in ("data", "whole", "killed"))
        write_faces(data, options.images)
        if train(whole, data, options).wait():
            sys.exit("the uninterrupted run failed")
        for _ in range(options.kills):
            kill_at_random(killed, data, options, rng)
        if train(killed, data, options).wait():
            sys.exit("the last continuation failed")
        same_history = (whole / "history.csv").read_bytes() == (killed / "history.csv").read_bytes()
        name = f"checkpoints/epoch_{options.epochs:04d}.npz"
        ours, theirs = np.load(killed / name), np.load(whole / name)
        arrays = [key for key in theirs.files if key != "state"]
        different = [key for key in arrays if ours[key].tobytes() != theirs[key].tobytes()]
        print(f"history.csv the same: {same_history}; {len(arrays)} arrays, {different} differ")
        sys.exit(bool(different) or not same_history)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=330)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
