"""Everything about a synthetic face but its expression, and how it is drawn at random."""

from __future__ import annotations

from typing import Annotated, NamedTuple, get_type_hints

import numpy as np


def per_image(values: np.ndarray) -> np.ndarray:
    """Reshapes ``[B]`` numbers to float32 ``[B, 1, 1]``, to broadcast over a batch's pixels."""
    return values.astype(np.float32)[:, None, None]


class Look(NamedTuple):
    """Everything but the expression: float32 ``[B, 1, 1]`` each, lengths in pixels.

    Every field is drawn uniformly between its two numbers, independently of the others.
    """

    # Pose. ``roll`` is the tangent of half the angle: +-0.115 is about +-13 degrees.
    shift_x: Annotated[np.ndarray, -3.4, 3.4]
    shift_y: Annotated[np.ndarray, -3.0, 2.7]
    scale: Annotated[np.ndarray, 0.91, 1.14]
    roll: Annotated[np.ndarray, -0.115, 0.115]
    yaw: Annotated[np.ndarray, -2.0, 2.0]
    pitch: Annotated[np.ndarray, -1.2, 1.2]
    # Head, hair and skin; tones are 0 (black) to 1 (white).
    head_width: Annotated[np.ndarray, 15.3, 17.8]
    head_height: Annotated[np.ndarray, 19.8, 21.8]
    jaw: Annotated[np.ndarray, 0.05, 0.22]
    skin: Annotated[np.ndarray, 0.48, 0.88]
    hair_tone: Annotated[np.ndarray, 0.04, 0.42]
    hair_volume: Annotated[np.ndarray, 0.6, 3.2]
    hair_length: Annotated[np.ndarray, -8.0, 30.0]
    hairline: Annotated[np.ndarray, -18.5, -14.5]
    temples: Annotated[np.ndarray, 0.025, 0.065]
    parting: Annotated[np.ndarray, -0.22, 0.22]
    stubble: Annotated[np.ndarray, -0.5, 0.22]
    clothes: Annotated[np.ndarray, 0.1, 0.9]
    # Eyes and brows.
    eye_x: Annotated[np.ndarray, 7.2, 8.4]
    eye_y: Annotated[np.ndarray, -4.2, -3.0]
    eye_width: Annotated[np.ndarray, 4.2, 5.0]
    upper_lid: Annotated[np.ndarray, 2.1, 2.7]
    lower_lid: Annotated[np.ndarray, 1.3, 1.8]
    iris: Annotated[np.ndarray, 1.9, 2.3]
    iris_tone: Annotated[np.ndarray, 0.05, 0.32]
    gaze: Annotated[np.ndarray, -0.9, 0.9]
    brow_gap: Annotated[np.ndarray, 5.4, 6.6]
    brow_arch: Annotated[np.ndarray, 0.4, 1.5]
    brow_tilt: Annotated[np.ndarray, -0.5, 0.4]
    brow_thickness: Annotated[np.ndarray, 0.7, 1.25]
    brow_tone: Annotated[np.ndarray, 0.15, 0.45]
    glasses: Annotated[np.ndarray, -0.87, 0.13]
    # Nose, mouth and age.
    nose_tip: Annotated[np.ndarray, 3.6, 5.2]
    nose_width: Annotated[np.ndarray, 2.7, 3.8]
    mouth_y: Annotated[np.ndarray, 10.0, 12.2]
    mouth_width: Annotated[np.ndarray, 6.0, 7.4]
    mouth_bend: Annotated[np.ndarray, -0.2, 0.8]
    lip: Annotated[np.ndarray, 0.9, 1.7]
    lip_tone: Annotated[np.ndarray, 0.55, 0.8]
    age: Annotated[np.ndarray, 0.0, 0.16]
    # Light and camera.
    background: Annotated[np.ndarray, 0.1, 0.9]
    light_x: Annotated[np.ndarray, -0.014, 0.014]
    light_y: Annotated[np.ndarray, -0.01, 0.01]
    exposure: Annotated[np.ndarray, 0.85, 1.12]
    blur: Annotated[np.ndarray, 0.0, 0.16]
    noise: Annotated[np.ndarray, 0.01, 0.03]


#: Lower and upper end of each field: float64 ``[2, LOOK_SIZE]``.
_RANGES = np.array(
    [hint.__metadata__ for hint in get_type_hints(Look, include_extras=True).values()]
).T

#: Random numbers that a ``Look`` takes.
LOOK_SIZE: int = len(Look._fields)


def look_from_uniform(uniform: np.ndarray) -> Look:
    """Maps numbers uniform in [0, 1) to looks.

    Args:
      uniform: float64 ``[B, LOOK_SIZE]``.

    Returns:
      ``B`` looks.
    """
    low, high = _RANGES
    return Look(*(per_image(column) for column in (low + (high - low) * uniform).T))
