"""The limits that an artifact is held to against the float32 twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from export.spec.comparison import Comparison
from fer_pipeline.agreement import allowed

#: Accuracy is gated on this many images or more: on fewer, one image weighs too much.
#: Chance still has a say there, since the limit does not know how many images there are. A good
#: int8_rgb file (FER-2013's in README: 0.22 points lower, 98.77 % agreement) is refused in about
#: 9 % of draws of 2,000 images and 6 % of 3,589, where both networks are wrong on 15 % of the
#: images that they name differently. A wider limit would let worse files pass.
ACCURACY_GATE_IMAGES = 2000


class Gate(NamedTuple):
    """Limits against the float32 twin; None is reported but not limited.

    Attributes:
      max_difference: largest absolute difference of any probability.
      p99_difference: the same of 99 % of the images; see ``Comparison``.
      agreement: smallest share of images with the same first class, 0..1, on 2,000 images or more;
        on fewer ``agreement.allowed`` says how many may differ.
      accuracy_drop: largest loss of accuracy in percentage points, on 2,000 images or more.
      golden_difference: as ``max_difference``, on the golden faces.
    """

    max_difference: float | None = None
    p99_difference: float | None = None
    agreement: float | None = None
    accuracy_drop: float | None = None
    golden_difference: float | None = None


#: float32 from end to end: nothing but the order of additions is another.
EXACT = Gate(max_difference=1e-4, agreement=0.999, golden_difference=1e-4)
FLOAT16 = Gate(p99_difference=1e-2, agreement=0.995, accuracy_drop=0.1, golden_difference=0.05)
DYNAMIC_RANGE = Gate(agreement=0.99, accuracy_drop=0.3, golden_difference=0.25)
INT8 = Gate(agreement=0.97, accuracy_drop=0.5, golden_difference=0.25)


def missed(comparison: Comparison, gate: Gate) -> tuple[str, ...]:
    """The limits that a comparison on evaluation images misses, a line each."""
    lines = []
    # Written so that a NaN misses.
    if gate.max_difference is not None and not comparison.max_difference <= gate.max_difference:
        lines.append(
            f"a probability differs by {comparison.max_difference:.2g} > {gate.max_difference:g}"
        )
    if gate.p99_difference is not None and not comparison.p99_difference <= gate.p99_difference:
        lines.append(
            f"probabilities of 99 % of the images differ by up to {comparison.p99_difference:.2g}"
            f" > {gate.p99_difference:g}"
        )
    if gate.agreement is not None:
        limit = allowed(comparison.images, gate.agreement)
        if not comparison.disagreements <= limit:
            lines.append(
                f"names {comparison.disagreements} of {comparison.images:,} images otherwise than"
                f" the network, more than {limit}"
            )
    if gate.accuracy_drop is not None and comparison.images >= ACCURACY_GATE_IMAGES:
        drop = comparison.accuracy_drop
        if not drop <= gate.accuracy_drop:
            lines.append(f"accuracy is {drop:.2f} points lower > {gate.accuracy_drop:g}")
    return tuple(lines)


def missed_on_golden(comparison: Comparison, gate: Gate) -> tuple[str, ...]:
    """The limit that a comparison on the golden faces misses, as a line.

    The difference alone: to a network that was trained on photographs drawn faces lie between two
    classes, where the next one is as good.
    """
    difference, limit = comparison.max_difference, gate.golden_difference
    if limit is None or difference <= limit:
        return ()
    return (f"on the golden faces a probability differs by {difference:.2g} > {limit:g}",)
