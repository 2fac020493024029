"""The limit against the binomial distribution added up in exact fractions."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from fer_pipeline.agreement import REFERENCE, _rate, allowed


def tail(limit, images, rate):
    """The chance of more than ``limit`` of ``images``, in exact fractions."""
    few = sum(comb(images, k) * rate**k * (1 - rate) ** (images - k) for k in range(limit + 1))
    return 1 - few


@pytest.mark.parametrize(
    ("share", "images", "limit"),
    [(0.97, 2000, 60), (0.97, 3589, 107), (0.99, 2000, 20), (0.999, 2000, 2), (1.0, 50, 0)],
)
def test_on_2000_images_or_more_the_share_is_the_limit(share, images, limit):
    assert allowed(images, share) == limit


@pytest.mark.parametrize("share", [0.97, 0.99, 0.995, 0.999])
@pytest.mark.parametrize("images", [1, 14, 60, 140, 700])
def test_below_it_refuses_no_oftener_than_2000_images_would(share, images):
    # Short fractions: their powers stay short, too.
    rate = Fraction(_rate(share)).limit_denominator(10**6)
    at_reference = tail(allowed(REFERENCE, share), REFERENCE, rate)
    assert float(at_reference) == pytest.approx(1e-3, rel=0.03)
    limit = allowed(images, share)
    assert tail(limit, images, rate) <= Fraction(103, 100_000)
    # No wider than it has to be.
    assert limit == 0 or tail(limit - 1, images, rate) > Fraction(97, 100_000)


def test_one_of_sixty_is_no_reason_to_refuse_a_good_file():
    # A dynamic-range file that differs on 3 of 1,000 images, in 10,000 draws of 60.
    differing = np.random.default_rng(0).binomial(60, 0.003, 10_000)
    assert np.mean(differing / 60 > 0.01) > 0.15
    assert np.mean(differing > allowed(60, 0.99)) < 1e-3


def test_it_grows_with_the_images():
    limits = [allowed(images, 0.97) for images in range(1, 2300, 150)]
    assert limits == sorted(limits)
