"""Lets a training and two exports write one run at the same time, and reads what they leave.

    python tests/proofs/export_race.py --rounds=50

A round is a training of three epochs that ends with its own export, and two processes that export
the same run again and again, one its last weights and one its best. Locks, checkpoints, the choice
of weights, the manifest and the swap are the real ones, called as ``fer_pipeline.train`` and
``python -m export`` call them; what takes minutes, making the network's files and running them, is
replaced: the one file of such an export holds the number that the weights hold, which is their
epoch. All the time somebody reads: there is an export at every moment, its manifest is that of its
file, none takes the place of a newer one, and the last one is of the last epoch.
"""

import json
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from export import __main__ as command
from export import pipeline
from export.delivery import manifest
from export.spec import io_spec
from export.spec.artifacts import ARTIFACTS
from export.spec.comparison import compare
from export.verification import verify
from fer_pipeline import atomic_files, run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import run_data
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.training import checkpoints

EPOCHS = 3
FACES = Split(np.zeros((7, 48, 48, 1), np.uint8), np.arange(7))
CONFIG = {"data": "synthetic", "fingerprint": "f", "versions": {}, "export_checkpoint": "last"}
NAME = "float32"
PATH = ARTIFACTS[NAME].path

#: What an export is told that has to try again: by the lock, or before the first epoch's end.
WAIT = ("another process is exporting it", "checkpoint; train it first")


def write(folder, scratch, model, *_, **__):
    """In place of ``pipeline.write_artifacts``: a file that holds the weights' number."""
    (folder / "labels.txt").write_text(io_spec.format_labels())
    (folder / PATH).write_text(str(model))
    time.sleep(0.002)
    yield NAME


def report(folder, artifacts, evaluation, golden, *, written, **_):
    """In place of ``verify.verify_artifacts``: all is well."""
    list(written)
    same = compare(evaluation.reference, evaluation.reference, evaluation.labels)
    latency = verify.Latency(1.0, 1.0)
    size = (folder / PATH).stat().st_size
    agreed = io_spec.get_io_spec(NAME)
    return [verify.ArtifactReport(NAME, PATH, size, agreed, same, 0.0, latency, ())]


def slowly(load):
    """``checkpoints.load``, after which others have time to overtake whoever has no lock."""

    def loaded(path):
        checkpoint = load(path)
        time.sleep(random.uniform(0, 0.1))
        return checkpoint

    return loaded


def replace_what_takes_minutes():
    pipeline.inference_model = lambda weights: int(weights[0][0])
    pipeline.predict_probabilities = lambda model, images: np.eye(7, dtype=np.float32)[
        : len(images)
    ]
    pipeline._check_classes = lambda model, config: CLASS_NAMES
    pipeline._write_golden = lambda folder, *_: (folder / "golden.npz").touch()
    pipeline.write_artifacts = write
    verify.verify_artifacts = report
    manifest.importlib.metadata.version = lambda package: "0"
    splits = Splits(FACES, FACES, FACES)
    run_data.load = lambda *_, **__: run_data.RunData(splits, "f", True)


def train_and_export(run):
    """What ``stages.run`` does, with a number for weights."""
    with run_dir.owned(run):
        done = checkpoints.progress(run)[0]
        for epoch in range(done + 1, done + EPOCHS + 1):
            time.sleep(0.05)
            checkpoint = checkpoints.Checkpoint([np.full(8, epoch)], [], [], {"epoch": epoch})
            # Every second epoch is the best so far.
            checkpoints.save(run, checkpoint, best=epoch % 2 == 1)
        last = checkpoints.load_end(run)
        pipeline.export_run(
            run,
            last.weights,
            train=FACES,
            evaluation=FACES,
            config=CONFIG | {"epochs": done + EPOCHS},
            metrics=None,
            log_path=None,
            epoch=last.state["epoch"],
            say=lambda _: None,
        )


def export_again(run, which, over):
    """What ``python -m export --export_checkpoint=...`` does, until the training is over."""
    flags.FLAGS([sys.argv[0], f"--run_dir={run}", f"--export_checkpoint={which}"])
    checkpoints.load = slowly(checkpoints.load)
    while True:
        ending = over.is_set()
        try:
            # It prints its table.
            pipeline.export_in.__kwdefaults__["say"] = lambda _: None
            command._export(run, None)
        except UserError as error:
            if not any(words in str(error) for words in WAIT):
                raise
            time.sleep(0.001)
        if ending:
            return


def manifest_of(run):
    """The epoch that the manifest names, and the number in the file beside it."""
    folder = run / run_dir.EXPORT
    # An open folder is one export, whatever takes its name meanwhile.
    text = (folder / "manifest.json").read_text()
    said = json.loads(text)
    return said["weights"]["epoch"], said["files"][PATH]["sha256"], said


def look(run, over, problems):
    """Reads until the exports are over."""
    import hashlib

    newest = {}
    while not over.is_set():
        try:
            epoch, digest, said = manifest_of(run)
        except FileNotFoundError:
            # Before the first export only.
            if newest:
                problems.put("there was a moment without an export")
            continue
        which = said["weights"]["checkpoint"]
        if epoch < newest.get(which, 0):
            problems.put(f"an export of epoch {epoch} took the place of a newer one")
        newest[which] = epoch
        if digest != hashlib.sha256(str(epoch).encode()).hexdigest():
            problems.put(f"the manifest says epoch {epoch}, and the file is another's")


def one_round(run):
    """Returns what was wrong, a line each."""
    context = multiprocessing.get_context("fork")
    trained, exported, problems = context.Event(), context.Event(), context.Queue()
    # Daemons: if this process ends with an error, they end with it.
    exports = [
        context.Process(target=export_again, args=(run, which, trained), daemon=True)
        for which in ("last", "best")
    ]
    reader = context.Process(target=look, args=(run, exported, problems), daemon=True)
    training = context.Process(target=train_and_export, args=(run,), daemon=True)
    everybody = [*exports, reader, training]
    for process in everybody:
        process.start()
    training.join()
    epoch, _, said = manifest_of(run)
    trained.set()
    for process in exports:
        process.join()
    exported.set()
    reader.join()
    found = [f"a process ended with {p.exitcode}" for p in everybody if p.exitcode]
    while not problems.empty():
        found.append(problems.get())
    # When the training had ended, its own export or a later one was there.
    last = checkpoints.progress(run)[0]
    best = last if last % 2 else last - 1
    wanted = {"last": last, "best": best}[said["weights"]["checkpoint"]]
    if epoch != wanted:
        found.append(f"after {last} epochs the export is of {epoch}")
    number = int((run / run_dir.EXPORT / PATH).read_text())
    epoch, _, _ = manifest_of(run)
    if number != epoch:
        found.append(f"the manifest says {epoch}, the weights are {number}'s")
    return found


def prepared(folder):
    replace_what_takes_minutes()
    run = Path(folder) / "run"
    run.mkdir()
    atomic_files.write_json(run / run_dir.CONFIG, CONFIG)
    return run


def main():
    rounds = int(sys.argv[1].removeprefix("--rounds=")) if len(sys.argv) > 1 else 50
    sys.argv = sys.argv[:1]
    with tempfile.TemporaryDirectory() as folder:
        run = prepared(folder)
        for number in range(rounds):
            if found := one_round(run):
                sys.exit(f"round {number + 1}: {'; '.join(found)}")
        epochs = checkpoints.progress(run)[0]
    print(f"{rounds} rounds, {epochs} epochs: the manifest was true every time")


if __name__ == "__main__":
    main()
