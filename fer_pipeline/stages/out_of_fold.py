"""Probabilities of training images by networks that have not seen them (cross-validation)."""

from __future__ import annotations

import numpy as np

from fer_pipeline import datasets
from fer_pipeline.config import Config
from fer_pipeline.datasets import splitting
from fer_pipeline.datasets.splits import Faces
from fer_pipeline.datasets.splitting import Positions
from fer_pipeline.errors import UserError

#: What is trained for each fold: small, and for as long as a first look is worth.
NETWORK, EPOCHS = "tiny", 6


def folds_of(photographs: np.ndarray, labels: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """Deals images to folds, those of the same photograph to the same one: int64 ``[N]``.

    Every class is dealt in turn, so that the folds have about as many images of it.

    Args:
      photographs: uint64 ``[N]``, equal for images of the same photograph.
      labels: int ``[N]``.
      folds: at least 2.
      seed: of the order in which they are dealt.
    """
    _, first, group_of = np.unique(photographs, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    # The class of a photograph is that of its first image.
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[group_of]


def probabilities(
    faces: Faces, train: np.ndarray, fold_of: np.ndarray, *, epochs: int = EPOCHS
) -> np.ndarray:
    """Trains a small network on all folds but one, for each of them, and asks it about that one.

    Args:
      faces: all images of a source.
      train: int64 ``[M]``, ascending, the positions of those that are dealt to folds.
      fold_of: int64 ``[M]``, the fold of each, from 0.
      epochs: of each network.

    Returns:
      float32 ``[M, C]``, of each image by the network that was trained without its fold.

    Raises:
      UserError: a fold holds every image of a class, or none.
    """
    found: np.ndarray | None = None
    folds = int(fold_of.max()) + 1
    for fold in range(folds):
        fitted, asked = train[fold_of != fold], train[fold_of == fold]
        if set(faces.labels[fitted].tolist()) != set(faces.labels[asked].tolist()):
            raise UserError("--folds: a class has too few images for so many; pass fewer")
        print(f"fold {fold + 1} of {folds}: training on {len(fitted):,} images", flush=True)
        answers = _fit_and_ask(faces, fitted, asked, epochs)
        if found is None:
            found = np.empty((len(train), answers.shape[1]), np.float32)
        found[fold_of == fold] = answers
    return found


def _fit_and_ask(faces: Faces, fitted: np.ndarray, asked: np.ndarray, epochs: int) -> np.ndarray:
    from fer_pipeline.evaluation import metrics
    from fer_pipeline.training import loop

    # What is asked about serves as validation, but neither the rate nor the epoch depends on it.
    splits = splitting.select(faces, Positions(fitted, asked, asked, "test"))
    config = Config(data=datasets.ARRAYS, model=NETWORK, recipe="tuned", epochs=epochs)
    return metrics.predict(loop.train(splits, config).model, splits.test).probabilities
