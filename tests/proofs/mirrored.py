"""What a face's mirror image adds to the accuracy of runs on the test images.

    python tests/proofs/mirrored.py fer2013.zip runs/wide runs/compact pretrained

Prints a row for each run, one for the mean of all answers and, of runs of one network, one for the
mean of all weights (Wortsman et al., "Model soups", 2022).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np

from fer_pipeline import datasets
from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import Split
from fer_pipeline.evaluation import metrics
from fer_pipeline.inference import model_loader, pretrained


def network(run: str) -> keras.Model:
    """The float32 network of a run."""
    if run == pretrained.NAME:
        return model_loader.pretrained_network()
    return model_loader.reference_model(Path(run))


def answers(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[N, C]`` of faces, and their means with those of the mirror images."""
    plain, mirrored = (
        metrics.predict(model, Split(faces, labels)).probabilities
        for faces in (images, np.ascontiguousarray(images[:, :, ::-1]))
    )
    return plain, (plain + mirrored) / 2


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("runs", nargs="+")
    options = parser.parse_args()
    splits = datasets.load(options.data).splits
    images, labels = splits.test
    new = ~np.isin(splitting.pixel_hashes(images), splitting.pixel_hashes(splits.train.images))
    print("| run | accuracy | without leaked | mirrored | mirrored, without leaked |")
    print("|---|---|---|---|---|")
    models, found = [network(run) for run in options.runs], []
    for run, model in zip(options.runs, models, strict=True):
        found.append(answers(model, images, labels))
        print(row(Path(run).name, found[-1], labels, new), flush=True)
    if len(found) > 1:
        print(row("mean of all", np.mean(found, axis=0), labels, new), flush=True)
    weights = [model.get_weights() for model in models]
    if len(found) > 1 and len({tuple(map(np.shape, arrays)) for arrays in weights}) == 1:
        mean = [np.mean(arrays, axis=0) for arrays in zip(*weights, strict=True)]
        models[0].set_weights(mean)
        print(row("mean of all weights", answers(models[0], images, labels), labels, new))


def row(name: str, both: np.ndarray, labels: np.ndarray, new: np.ndarray) -> str:
    """A line: plain and mirrored, of all images and of the ``new`` ones, bool ``[N]``."""
    cells = []
    for probabilities in both:
        right = probabilities.argmax(axis=1) == labels
        cells += [f"{right.mean():.4f}", f"{right[new].mean():.4f}"]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
