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
    head_width: Annotated[np.ndarray, 15.49, 17.61]
    head_height: Annotated[np.ndarray, 19.95, 21.65]
    jaw: Annotated[np.ndarray, 0.063, 0.207]
    skin: Annotated[np.ndarray, 0.51, 0.85]
    hair_tone: Annotated[np.ndarray, 0.068, 0.391]
    hair_volume: Annotated[np.ndarray, 0.8, 3.0]
    hair_length: Annotated[np.ndarray, -5.1, 27.1]
    hairline: Annotated[np.ndarray, -18.2, -14.8]
    temples: Annotated[np.ndarray, 0.028, 0.062]
    parting: Annotated[np.ndarray, -0.187, 0.187]
    stubble: Annotated[np.ndarray, -0.45, 0.17]
    clothes: Annotated[np.ndarray, 0.16, 0.84]
    # Eyes and brows.
    eye_x: Annotated[np.ndarray, 7.29, 8.31]
    eye_y: Annotated[np.ndarray, -4.11, -3.09]
    eye_width: Annotated[np.ndarray, 4.26, 4.94]
    upper_lid: Annotated[np.ndarray, 2.15, 2.66]
    lower_lid: Annotated[np.ndarray, 1.34, 1.76]
    iris: Annotated[np.ndarray, 1.93, 2.27]
    iris_tone: Annotated[np.ndarray, 0.07, 0.3]
    gaze: Annotated[np.ndarray, -0.77, 0.77]
    brow_gap: Annotated[np.ndarray, 5.49, 6.51]
    brow_arch: Annotated[np.ndarray, 0.48, 1.42]
    brow_tilt: Annotated[np.ndarray, -0.43, 0.33]
    brow_thickness: Annotated[np.ndarray, 0.74, 1.21]
    brow_tone: Annotated[np.ndarray, 0.172, 0.427]
    glasses: Annotated[np.ndarray, -0.79, 0.05]
    # Nose, mouth and age.
    nose_tip: Annotated[np.ndarray, 3.72, 5.08]
    nose_width: Annotated[np.ndarray, 2.78, 3.72]
    mouth_y: Annotated[np.ndarray, 10.16, 12.04]
    mouth_width: Annotated[np.ndarray, 6.11, 7.29]
    mouth_bend: Annotated[np.ndarray, -0.12, 0.73]
    lip: Annotated[np.ndarray, 0.96, 1.64]
    lip_tone: Annotated[np.ndarray, 0.569, 0.781]
    age: Annotated[np.ndarray, 0.012, 0.148]
    # Light and camera.
    background: Annotated[np.ndarray, 0.16, 0.84]
    light_x: Annotated[np.ndarray, -0.012, 0.012]
    light_y: Annotated[np.ndarray, -0.009, 0.009]
    exposure: Annotated[np.ndarray, 0.87, 1.1]
    blur: Annotated[np.ndarray, 0.012, 0.148]
    noise: Annotated[np.ndarray, 0.01, 0.02]


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
