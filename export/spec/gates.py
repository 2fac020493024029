"""The limits that an artifact is held to against the float32 reference model."""

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
    """Limits against the float32 reference model; None is reported but not limited.

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


def find_missed_limits(comparison: Comparison, gate: Gate) -> tuple[str, ...]:
    """The limits that a comparison on evaluation images misses, a line each."""
    images = comparison.images
    disagreements = None if gate.agreement is None else allowed(images, gate.agreement)
    accuracy_drop = gate.accuracy_drop if images >= ACCURACY_GATE_IMAGES else None
    limits = (
        (comparison.max_difference, gate.max_difference, "a probability differs by {:.2g} > {:g}"),
        (
            comparison.p99_difference,
            gate.p99_difference,
            "probabilities of 99 % of the images differ by up to {:.2g} > {:g}",
        ),
        (
            comparison.disagreements,
            disagreements,
            f"names {{}} of {images:,} images otherwise than the network, more than {{}}",
        ),
        (comparison.accuracy_drop, accuracy_drop, "accuracy is {:.2f} points lower > {:g}"),
    )
    # Written so that a NaN misses.
    return tuple(
        words.format(found, limit)
        for found, limit, words in limits
        if limit is not None and not found <= limit
    )


def find_missed_golden_limit(comparison: Comparison, gate: Gate) -> tuple[str, ...]:
    """The limit that a comparison on the golden faces misses, as a line.

    The difference alone: to a network that was trained on photographs drawn faces lie between two
    classes, where the next one is as good.
    """
    difference, limit = comparison.max_difference, gate.golden_difference
    if limit is None or difference <= limit:
        return ()
    return (f"on the golden faces a probability differs by {difference:.2g} > {limit:g}",)
