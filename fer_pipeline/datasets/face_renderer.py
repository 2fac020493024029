"""Paints 48x48 grey faces from facial action units.

Everything is a broadcast over ``[B, 48, 48]`` float32 arrays: a shape is a signed distance in
pixels (negative inside), converted to a soft coverage, and blended into the canvas. Pixels are
computed with ``+``, ``-``, ``*``, ``/``, comparisons and rounding only. IEEE 754 defines these to
the last bit, so the same parameters give the same bytes on every machine.

Face coordinates: origin at the centre of the head, ``u`` to the right, ``v`` down, in pixels of
an unscaled face. Paired features are painted once over ``|u|``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer_pipeline.classes import IMAGE_SIZE
from fer_pipeline.datasets.face_look import Look, per_image

#: The action units that ``paint`` supports, in the order of the columns of its ``intensity``.
PAINTED_UNITS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 9, 12, 15, 16, 20, 23, 26)

#: Intensity of each unit by its number, 0 to 1: float32 ``[B, 1, 1]`` each.
_Units = dict[int, np.ndarray]

#: One number for all faces, one for each, or one for each pixel.
_Value = float | np.ndarray


class _Area(NamedTuple):
    """Rows of the canvas (views: painting changes them) and their face coordinates."""

    canvas: np.ndarray
    u: np.ndarray
    v: np.ndarray
    side: np.ndarray  # |u|

    def rows(self, start: int, stop: int) -> _Area:
        return _Area(*(array[:, start:stop] for array in self))

    def moved(self, u: np.ndarray, v: np.ndarray) -> _Area:
        moved = self.u - u
        return _Area(self.canvas, moved, self.v - v, np.abs(moved))


# Shapes.


def _inside(distance: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Coverage 0..1 of the region of negative signed distance."""
    coverage = 0.5 - distance * (1.0 / softness)
    return np.clip(coverage, 0.0, 1.0, out=coverage)


def _squared_radius(x: np.ndarray, y: np.ndarray, width: _Value, height: _Value) -> np.ndarray:
    """0 at the centre of an ellipse of these half-axes, 1 on it."""
    return (x * (1.0 / width)) ** 2 + (y * (1.0 / height)) ** 2


def _ellipse(x: np.ndarray, y: np.ndarray, width: _Value, height: _Value) -> np.ndarray:
    """Coverage of an ellipse; its distance is right to first order at the edge."""
    distance = _squared_radius(x, y, width, height) - 1.0
    distance *= 0.5 * np.minimum(width, height)
    return _inside(distance)


def _glow(x: np.ndarray, y: np.ndarray, width: _Value, height: _Value) -> np.ndarray:
    """A smooth blob: 1 at the centre, 0 outside the ellipse."""
    return np.clip(1.0 - _squared_radius(x, y, width, height), 0.0, 1.0) ** 2


def _stroke(offset: np.ndarray, half_width: _Value, softness: float = 1.0) -> np.ndarray:
    """Coverage of a line, given the signed distance from its middle."""
    return _inside(np.abs(offset) - half_width, softness)


def _segment(t: np.ndarray) -> np.ndarray:
    """1 on 0 <= t <= 1, falling off just past the ends: the extent of a stroke."""
    return np.clip(4.5 - 8.0 * np.abs(t - 0.5), 0.0, 1.0)


def _ripple(phase: np.ndarray) -> np.ndarray:
    """Thin lines one unit of ``phase`` apart: 1 on a line, 0 between."""
    return np.clip(4.0 * np.abs(phase - np.floor(phase) - 0.5) - 1.0, 0.0, 1.0)


def _blend(canvas: np.ndarray, tone: _Value, coverage: np.ndarray) -> None:
    canvas += coverage * (tone - canvas)


def _darken(canvas: np.ndarray, depth: _Value, coverage: np.ndarray) -> None:
    canvas *= 1.0 - depth * coverage


# Features, each posed by the action units that its docstring names.


def _paint_head(area: _Area, look: Look, au: _Units) -> None:
    """Hair, neck, clothes, ears, and the shaded head under its fringe. AU26 lengthens the jaw."""
    canvas, u, v, side = area
    width, volume = look.head_width, look.hair_volume
    u2 = u * u
    sheen = _glow(u - 40.0 * look.parting, v + 17.5, 12.0, 5.5)
    hair = look.hair_tone + 0.13 * sheen * (0.5 + 0.5 * _ripple((0.4 + 0.004 * v) * u))
    cap = _ellipse(u, v + 2.0, width + volume, look.head_height + volume) * _inside(v - 2.0)
    ends = _inside(v - look.hair_length + 0.02 * u2, 3.0)
    fall = _inside(side - (width + volume)) * _inside(-2.0 - v) * ends
    _blend(canvas, hair, np.maximum(cap, fall))
    _blend(canvas, 0.66 * look.skin, _inside(side - 0.52 * width) * _inside(12.0 - v))
    _blend(canvas, look.clothes, _inside(23.0 + 0.018 * u2 - v))
    _blend(canvas, 0.8 * look.skin, _ellipse(side - width, v + 0.5, 2.2, 4.2))

    narrowed = side * (1.0 + look.jaw * np.clip(v * 0.06, 0.0, 2.0))
    q = _squared_radius(narrowed, v, width, look.head_height + 0.9 * au[26])
    head = (q - 1.0) * (0.5 * width)
    _blend(canvas, look.skin * (1.03 - 0.3 * q * q), _inside(head))
    beard = _inside(12.0 - v - 0.25 * side, 8.0) * _inside(head)
    _darken(canvas, np.clip(look.stubble, 0.0, 1.0), beard)
    fringe = _inside(v - look.hairline - look.parting * u - look.temples * u2, 1.6)
    _blend(canvas, hair, fringe * _inside(head - 0.6))


def _paint_brows(area: _Area, look: Look, au: _Units) -> None:
    """The brows, the creases across the forehead (AU1, 2) and upright between them (AU4).

    AU1 raises the inner end, AU2 the outer, AU4 and AU9 lower them. Against AU1, AU4 knits the
    brows more than it lowers them, and AU1 without AU2 leaves them oblique.
    """
    canvas, u, v, side = area
    rest = look.eye_y - look.brow_gap
    inner = rest + look.brow_tilt - 3.6 * au[1] + 4.5 * au[4] * (1.0 - 0.8 * au[1]) + 2.8 * au[9]
    outer = rest - look.brow_tilt + 0.8 - 2.8 * au[2] + 1.9 * au[1] * (1.0 - au[2]) + 0.5 * au[9]
    outer -= 1.5 * au[4] * (1.0 - au[1])
    arch = look.brow_arch + 1.1 * au[2] * (1.0 - 0.9 * au[4]) - 0.7 * au[4]
    top = v - 0.5 * (inner + outer)
    across = _ripple(0.36 * top + 0.004 * (u * u)) * _glow(u, top + 4.5, 11.0, 4.0)
    _darken(canvas, 0.42 * np.maximum(au[1], au[2]) + look.age, across)
    upright = _stroke(side - 1.5, 0.25) * _segment((v - inner + 2.2) * 0.22)
    _darken(canvas, 0.5 * au[4], upright)
    start = 3.2 - 1.5 * au[4]
    t = (side - start) * (1.0 / (look.eye_x + look.eye_width + 0.6 - start))
    middle = inner + (outer - inner - 4.0 * arch * (1.0 - t)) * t
    line = _stroke(v - middle, look.brow_thickness * (1.15 - 0.5 * t)) * _segment(t)
    _blend(canvas, look.brow_tone * look.skin, line)


def _paint_eyes(area: _Area, look: Look, au: _Units) -> None:
    """AU5 lifts the upper lid; AU6, 7 and 9 push up the lower one; AU6 creases the corner."""
    canvas, u, v, side = area
    x, y = side - look.eye_x, v - look.eye_y
    t = x * (1.0 / look.eye_width)
    profile = 1.0 - t * t
    upper = look.upper_lid * (1.0 + 0.75 * au[5] - 0.2 * au[6] - 0.12 * au[7] - 0.45 * au[9])
    widened = 1.0 + 0.45 * au[5] * (1.0 - au[7])
    lower = look.lower_lid * (widened - 1.15 * au[6] - 0.6 * au[7] - 0.75 * au[9])
    above, below = y + upper * profile, y - lower * profile

    _darken(canvas, 0.16, _glow(x, y + 0.5, 7.5, 6.0))
    opening = _inside(np.maximum(-above, below))
    _blend(canvas, 0.28 + 0.72 * look.skin, opening)
    right = np.sign(u)
    x -= look.gaze * right
    _blend(canvas, look.iris_tone, _ellipse(x, y + 0.2, look.iris, look.iris) * opening)
    _blend(canvas, 1.0, 0.8 * _ellipse(x - 0.7 * right, y + 1.0, 0.6, 0.6) * opening)

    span = _segment(0.5 * t + 0.5)
    _blend(canvas, 0.1 * look.skin, 0.9 * _stroke(above, 0.4) * span)
    _darken(canvas, 0.25 + 0.25 * au[7] + 0.2 * au[6], _stroke(below, 0.3) * span)
    _darken(canvas, 0.25, _stroke(above + 1.9, 0.2) * span)
    bag = 0.3 * au[6] + 0.22 * au[7] + 0.25 * au[9] + look.age
    _darken(canvas, bag, _stroke(below - 1.9, 0.3) * span)
    out = side - look.eye_x - look.eye_width - 0.6
    feet = _stroke(np.abs(y) - 0.3 - 0.55 * out, 0.2) * _segment(out * 0.33)
    _darken(canvas, 0.55 * au[6], feet)


def _paint_glasses(area: _Area, look: Look) -> None:
    """Round glasses, on a few of the faces."""
    y = area.v - look.eye_y
    rim = _stroke(2.8 * _squared_radius(area.side - look.eye_x, y - 0.6, 6.4, 5.3) - 2.8, 0.35)
    bridge = _stroke(y + 0.5, 0.35) * _inside(area.side - 2.0)
    worn = np.clip(20.0 * look.glasses, 0.0, 0.7)
    _darken(area.canvas, worn, np.maximum(rim, bridge))


def _paint_nose(area: _Area, look: Look, au: _Units) -> None:
    """AU9 wrinkles the bridge, lifts the tip and flares the wings."""
    canvas, u, v, side = area
    tip = v - (look.nose_tip - 1.3 * au[9])
    wing = look.nose_width + 0.6 * au[9]
    y = v - look.eye_y
    length = look.nose_tip - 1.3 * au[9] - look.eye_y
    _darken(canvas, 0.13, _stroke(side - 1.4 - 0.1 * y, 0.5, 2.0) * _segment(y * (1.0 / length)))
    canvas += 0.1 * _glow(u, tip + 1.0, 2.4, 3.5)
    wings = _stroke(_squared_radius(side, tip, wing, 2.0) - 1.0, 0.3) * _inside(-0.6 - tip)
    _darken(canvas, 0.28, wings)
    _darken(canvas, 0.6, _ellipse(side - 0.55 * wing, tip - 0.9, 1.0, 0.6 + 0.25 * au[9]))
    wrinkles = _ripple(0.42 * (y + 0.5 * side)) * _glow(u, y - 1.2, 4.6, 6.0)
    _darken(canvas, 0.85 * au[9], wrinkles)


def _paint_mouth(area: _Area, look: Look, au: _Units) -> None:
    """Lips about a bent line, open by ``rise`` above it and by ``drop`` below.

    AU12 and AU15 bend the line, AU20 and AU23 change its width, AU26 opens it (a stretched
    mouth opens square, a slack one round), AU9 lifts the upper lip and AU16 lowers the lower. A
    strong AU12 parts the lips over the upper teeth.
    """
    canvas, u, v, side = area
    slack = au[26] * (1.0 - au[20])
    width = look.mouth_width * (1.0 + 0.22 * au[12] + 0.32 * au[20] - 0.32 * au[23] - 0.42 * slack)
    s2 = (side * (1.0 / width)) ** 2
    frown = 3.9 * au[15] * (1.0 - 0.35 * au[16]) + au[20] + au[23]
    bend = look.mouth_bend + 4.6 * au[12] - frown
    y = v - look.mouth_y - bend * (0.4 - s2)
    square = np.clip(au[20] + 0.8 * au[16] + 0.45 * au[26], 0.0, 1.0)
    profile = np.clip(1.0 - s2 * (1.0 - square + square * s2), 0.0, 1.0)
    parted = 5.0 * np.clip(au[12] - 0.2, 0.0, 1.0)
    rise = (1.3 * au[26] + 1.0 * au[9] + 0.3 * au[12]) * profile
    drop = (7.2 * au[26] * (1.0 - 0.45 * au[20]) + 2.6 * au[16] + parted) * profile
    lip = look.lip * (1.0 - 0.6 * au[23] - 0.3 * au[12] - 0.25 * au[20])
    above, below = y + rise, y - drop
    within = _inside(side - width)

    lips = np.maximum(-above - lip * profile, below - 1.25 * lip * profile)
    _blend(canvas, look.lip_tone * look.skin, _inside(lips) * within)
    cavity = _inside(np.maximum(-above, below)) * np.clip(1.5 * (rise + drop), 0.0, 1.0)
    _blend(canvas, 0.06, cavity)
    canvas += 0.42 * look.skin * au[26] * _glow(u, below, 0.75 * width, 3.6) * cavity
    upper_teeth = _inside(above - (3.2 * au[12] + 1.6 * au[20] - 0.4))
    lower_teeth = _inside(0.4 - 2.4 * au[16] - 1.2 * au[20] - below)
    _blend(canvas, 0.95, 0.92 * np.maximum(upper_teeth, lower_teeth) * cavity)
    _darken(canvas, 0.62, _stroke(above, 0.35 + 0.15 * au[23]) * within)
    _darken(canvas, 0.3, _glow(u, below - 1.25 * lip - 1.6, 5.0, 1.5))
    _paint_folds(area, look, au, width, look.mouth_y - 0.6 * bend)


def _paint_folds(
    area: _Area, look: Look, au: _Units, mouth_width: np.ndarray, corner: np.ndarray
) -> None:
    """The crease from nose to mouth corner (AU9, 12) and the one down from there (AU15)."""
    canvas, _, v, side = area
    top = look.nose_tip - 1.0
    t = (v - top) * (1.0 / (corner + 0.5 - top))
    line = look.nose_width + 0.8 + (mouth_width + 1.4 - look.nose_width) * t * (1.6 - 0.6 * t)
    depth = 0.5 * np.maximum(au[12], au[9]) + look.age
    _darken(canvas, depth, _stroke(side - line, 0.35) * _segment(t))
    y = v - corner
    below = _stroke(side - mouth_width - 0.4 - 0.2 * y, 0.3) * _segment(0.28 * y)
    _darken(canvas, 0.45 * au[15], below)


def _photograph(
    canvas: np.ndarray, x: np.ndarray, y: np.ndarray, look: Look, noise: np.ndarray
) -> np.ndarray:
    """Uneven light, a slight blur, sensor noise, and 8 bits: uint8 ``[B, 48, 48]``."""
    canvas *= look.exposure * (1.0 + look.light_x * x + look.light_y * y)
    canvas[:, 1:-1] += look.blur * (canvas[:, :-2] + canvas[:, 2:] - 2.0 * canvas[:, 1:-1])
    canvas[:, :, 1:-1] += look.blur * (
        canvas[:, :, :-2] + canvas[:, :, 2:] - 2.0 * canvas[:, :, 1:-1]
    )
    canvas += look.noise * noise
    return np.clip(255.0 * canvas + 0.5, 0.0, 255.0).astype(np.uint8)


def paint(look: Look, intensity: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Paints ``B`` faces.

    Args:
      look: identity, pose, light and camera of each.
      intensity: float ``[B, len(PAINTED_UNITS)]``, action units from 0 (absent) to 1.
      noise: float32 ``[B, 48, 48]``, noise of each pixel, in [-1, 1].

    Returns:
      uint8 ``[B, 48, 48]``, grey levels.
    """
    au = {unit: per_image(intensity[:, i]) for i, unit in enumerate(PAINTED_UNITS)}
    axis = np.arange(IMAGE_SIZE, dtype=np.float32) - (IMAGE_SIZE - 1) / 2.0
    x, y = axis[None, None, :], axis[None, :, None]
    # Cosine and sine from the tangent of half the angle, over the scale.
    norm = 1.0 / ((1.0 + look.roll * look.roll) * look.scale)
    cos, sin = (1.0 - look.roll * look.roll) * norm, 2.0 * look.roll * norm
    u = cos * (x - look.shift_x) + sin * (y - look.shift_y)
    v = cos * (y - look.shift_y) - sin * (x - look.shift_x)
    canvas = np.broadcast_to(look.background * (1.0 + 0.006 * y), u.shape).copy()

    head = _Area(canvas, u, v, np.abs(u))
    _paint_head(head, look, au)
    # A turned or nodding head shifts its features over the outline.
    face = head.moved(look.yaw, look.pitch)
    # Rows that a feature never reaches are left out, which saves a third of the time.
    upper, lower = face.rows(0, 36), face.rows(20, IMAGE_SIZE)
    _paint_mouth(lower, look, au)
    _paint_eyes(upper, look, au)
    _paint_nose(face.rows(8, 42), look, au)
    _paint_brows(upper, look, au)
    _paint_glasses(upper, look)
    return _photograph(canvas, x, y, look, noise)
