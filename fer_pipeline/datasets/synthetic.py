"""*Synthetic faces*: the embedded data set, drawn on demand from a seed.

Every face is posed by facial action units (Ekman & Friesen, *Facial Action Coding System*, 1978)
and painted by ``face_renderer``. Identity, pose, light and camera are drawn independently of the
label, so the classes differ in nothing but the expression.
"""

from __future__ import annotations

import numpy as np

from fer_pipeline.classes import CLASS_NAMES, IMAGE_SIZE, NUM_CLASSES
from fer_pipeline.datasets import face_renderer
from fer_pipeline.datasets.face_look import LOOK_SIZE, look_from_uniform
from fer_pipeline.datasets.splits import Split, Splits

#: The action units of each expression, after EMFACS (Friesen & Ekman, *EMFACS-7: Emotional
#: Facial Action Coding System*, 1983). By number: 1 inner brow raiser, 2 outer brow raiser,
#: 4 brow lowerer, 5 upper lid raiser, 6 cheek raiser, 7 lid tightener, 9 nose wrinkler, 12 lip
#: corner puller, 15 lip corner depressor, 16 lower lip depressor, 20 lip stretcher, 23 lip
#: tightener, 26 jaw drop.
ACTION_UNITS: dict[str, tuple[int, ...]] = {
    "angry": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "happy": (6, 12),
    "neutral": (),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
}

#: Intensity of an active unit: uniform between these; 1 is the strongest. Expressions are clear, so
#: that the few faces of ``load`` teach the notebook's network in fifteen epochs.
INTENSITY_RANGE: tuple[float, float] = (0.95, 1.0)

#: Faces painted at a time, few enough for the arrays to stay in a core's cache.
_CHUNK = 32


def render(labels: np.ndarray, *, seed: int | np.random.SeedSequence) -> np.ndarray:
    """Paints one face per label.

    Args:
      labels: int ``[N]``, indices into ``classes.CLASS_NAMES``.
      seed: non-negative, or a fresh sequence; face ``i`` depends on nothing but ``seed``, ``i`` and
        ``labels[i]``, and has the same identity, pose, light and noise whatever its label.

    Returns:
      uint8 ``[N, 48, 48, 1]``, grey levels 0..255.

    Raises:
      ValueError: labels not one-dimensional, not integers or out of range, or a negative seed.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not (labels.size == 0 or np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(f"labels must be integers [N], got {labels.dtype} {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= NUM_CLASSES):
        raise ValueError(f"labels must lie in 0..{NUM_CLASSES - 1}")
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(seed)
    # Each stream is read image by image, so no image depends on the number of images or on where a
    # chunk ends.
    looks, strengths, noises = (np.random.Generator(np.random.PCG64(s)) for s in seed.spawn(3))
    # Halves the time of painting with glibc: ``free`` returns memory to the system beyond a
    # threshold, which grows with the largest block freed so far, such as this one.
    np.empty(2**24, np.uint8)
    units = face_renderer.PAINTED_UNITS
    active = np.array([[unit in ACTION_UNITS[name] for unit in units] for name in CLASS_NAMES])
    low, high = INTENSITY_RANGE
    images = np.empty((len(labels), IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
    for start in range(0, len(labels), _CHUNK):
        chunk = labels[start : start + _CHUNK]
        look = look_from_uniform(looks.random((len(chunk), LOOK_SIZE)))
        strength = low + (high - low) * strengths.random((len(chunk), active.shape[1]))
        # The difference of two uniform numbers: nearly normal, and exact on every machine.
        pair = noises.random((len(chunk), 2, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
        images[start : start + _CHUNK, :, :, 0] = face_renderer.paint(
            look, strength * active[chunk], pair[:, 0] - pair[:, 1]
        )
    return images


def _split(size: int, seed: np.random.SeedSequence) -> Split:
    """Draws ``size`` faces in random order, as many of each class to within one."""
    order, faces = seed.spawn(2)
    labels = np.arange(size, dtype=np.int32) % NUM_CLASSES
    labels = np.random.Generator(np.random.PCG64(order)).permutation(labels)
    return Split(render(labels, seed=faces), labels)


def load(*, train: int = 980, validation: int = 280, test: int = 280, seed: int = 0) -> Splits:
    """Draws the data set.

    Args:
      train: training faces.
      validation: validation faces.
      test: test faces.
      seed: non-negative; the same seed and sizes give the same bytes. The splits come from
        independent streams: the size of one does not change another.

    Returns:
      The three splits, uint8 ``[N, 48, 48, 1]`` and int32 ``[N]`` each.

    Raises:
      ValueError: a negative size or seed.
    """
    sizes = (train, validation, test)
    if min(sizes) < 0:
        raise ValueError(f"sizes must not be negative, got {sizes}")
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    return Splits(*(_split(size, stream) for size, stream in zip(sizes, streams, strict=True)))
