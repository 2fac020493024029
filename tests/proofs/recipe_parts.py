"""Each part of the recipe ``tuned`` alone: the recipe with it against the recipe without it.

    python tests/proofs/recipe_parts.py fer2013.zip runs/parts

Trains ``compact`` once for each change, into folders of runs/parts, and prints a table. What is
there already is not trained again, and a run that was stopped goes on. The validation images are a
fifth of the training images, near-duplicates on one side; the test images are never asked about.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from fer_pipeline import run_dir
from fer_pipeline.datasets import run_data
from fer_pipeline.evaluation import metrics
from fer_pipeline.inference import model_loader

RECIPE = ("--recipe=tuned", "--model=compact", "--validation_fraction=0.2")

_STRONG = "--augment=flip,shift:4,rotate:10,zoom:0.1,cutout:10"

#: Flags by the name of a run. The first is what the others are compared with.
PARTS = {
    "base0": (),
    "base1": ("--seed=1",),
    "flip": ("--augment=flip",),
    "adamw": ("--optimizer=adamw",),
    "smooth0": ("--label_smoothing=0",),
    "taught": ("--teacher={base0}",),
    "strong": (_STRONG,),
    "strong024": (_STRONG, "--learning_rate=0.024"),
    "strong024smooth0": (_STRONG, "--learning_rate=0.024", "--label_smoothing=0"),
    "lr006": ("--learning_rate=0.006",),
    "lr024": ("--learning_rate=0.024",),
    "lr048": ("--learning_rate=0.048",),
    "drop0": ("--dropout=0",),
    "bn99": ("--normalization_momentum=0.99",),
    "ema99": ("--ema=0.99",),
    "batch64": ("--batch_size=64",),
    "taught37": ("--teacher={base0}", "--distill=0.37"),
    "taughtT1": ("--teacher={base0}", "--temperature=1"),
    "taughtT4": ("--teacher={base0}", "--temperature=4"),
    "shift": ("--augment=flip,shift:3",),
    "plateau": ("--schedule=plateau",),
    "warm0": ("--warmup=0",),
}


def train(name: str, data: str, runs: Path, epochs: int) -> None:
    """Trains a part, unless its run is complete."""
    if (runs / name / run_dir.METRICS).exists():
        trained = run_dir.read_config(runs / name)["epochs"]
        if trained != epochs:
            sys.exit(f"{runs / name}: has {trained} epochs, not {epochs}; name another folder")
        return
    flags = [f"--epochs={epochs}", *(flag.format(base0=runs / "base0") for flag in PARTS[name])]
    command = [sys.executable, "-m", "fer_pipeline.train", f"--data={data}", *RECIPE, "--noexport"]
    subprocess.run([*command, f"--run_dir={runs / name}", *flags], check=True, stdout=sys.stderr)


def answers(run: Path) -> tuple[np.ndarray, float]:
    """Which validation images a run names rightly, bool ``[N]``, and the loss, calibrated there."""
    config = run_dir.read_config(run)
    validation = run_data.load(config).splits.validation
    predictions = metrics.predict(model_loader.reference_model(run), validation)
    result = metrics.score(predictions, validation.labels)
    return predictions.probabilities.argmax(axis=1) == validation.labels, result.loss


def row(name: str, runs: Path, base: np.ndarray) -> str:
    """A line of the table: accuracy, paired difference and its standard error, loss, cost."""
    right, loss = answers(runs / name)
    # Another seed cuts other images.
    compared = "| | "
    if not any("seed" in flag for flag in PARTS[name]):
        differences = 100 * (right.astype(float) - base)
        error = differences.std() / np.sqrt(len(differences))
        compared = f"| {differences.mean():+.1f} | {error:.1f} "
    with open(runs / name / run_dir.TIMING) as file:
        seconds = statistics.median(float(line["train_seconds"]) for line in csv.DictReader(file))
    flags = " ".join(PARTS[name]).format(base0="runs/parts/base0")
    return (
        f"| {f'`{flags}`' if flags else 'nothing'} | {right.mean():.4f} {compared}| {loss:.4f} | "
        f"{seconds:.0f} |"
    )


def main() -> None:
    """Trains what is missing, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    # The others are compared with the first, and some of them learn from it.
    first = next(iter(PARTS))
    names = list(dict.fromkeys((first, *options.parts)))
    for name in names:
        train(name, options.data, options.runs, options.epochs)
    base, _ = answers(options.runs / first)
    print("| changed | accuracy | points | standard error | loss | seconds an epoch |")
    print("|---|---|---|---|---|---|")
    for name in names:
        print(row(name, options.runs, base), flush=True)


if __name__ == "__main__":
    main()
