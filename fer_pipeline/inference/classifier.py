"""Any model as one function of faces, in as many processes as pay."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fer_pipeline.errors import UserError
from fer_pipeline.inference import model_loader, pretrained

if TYPE_CHECKING:
    import numpy as np

#: uint8 ``[N, 48, 48, 1]`` -> float32 ``[N, C]`` probabilities; may be called from several threads.
Classifier = Callable[["np.ndarray"], "np.ndarray"]


@contextlib.contextmanager
def open_classifier(
    path: str | os.PathLike[str] | None = None,
    *,
    tta: bool = False,
    trust: bool = False,
    processes: int = 1,
) -> Iterator[Classifier]:
    """Opens a model for as long as the block lasts.

    A TFLite file runs in processes of its own, without TensorFlow. They start at once and are not
    waited for; the first call waits.

    Args:
      path: whatever ``model_loader.opened`` takes; None for the pretrained model.
      tta: whether to average the probabilities of a face and of its mirror image (test-time
        augmentation). It takes twice the time.
      trust: whether a SavedModel or Keras file may ask for more than an export needs.
      processes: how many may run a TFLite file.

    Yields:
      The classifier. It raises UserError for a model that cannot be run or gives no probabilities.

    Raises:
      UserError: there is no such model, it is damaged, or asks for more than it may.
    """
    path = _path(path)
    with model_loader.opened(path, trust=trust, processes=processes) as model:
        yield lambda images: _probabilities(path, model, images, tta)


def class_names(
    path: str | os.PathLike[str] | None = None, *, trust: bool = False
) -> tuple[str, ...]:
    """The names of a model's answers, in their order; ``path`` is as for ``open_classifier``."""
    return model_loader.class_names(_path(path), trust=trust)


def named_classes(path: str | os.PathLike[str] | None = None) -> tuple[str, ...] | None:
    """The same; None where nothing names the answers. The model is not opened."""
    return model_loader.named_classes(_path(path))


def _path(path: str | os.PathLike[str] | None) -> Path:
    return pretrained.pretrained_path() if path is None else Path(path)


def _probabilities(
    path: Path, model: model_loader.Model, images: np.ndarray, tta: bool
) -> np.ndarray:
    import numpy as np

    if tta:
        both = model(np.concatenate([images, images[:, :, ::-1]]))
        found = (both[: len(images)] + both[len(images) :]) / 2
    else:
        found = model(images)
    # Written so that a NaN counts.
    if not (found >= 0).all():
        raise UserError(f"{path}: damaged (it gives no probabilities); export it again")
    return found
