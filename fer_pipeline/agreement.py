"""How many images two networks may name differently: a limit that knows how many were compared.

A share alone is no limit for few images: one of 60 is 98.3 %, and a file that differs on three
images of a thousand would be refused in every sixth draw of 60.
"""

from __future__ import annotations

import functools
import math

#: From so many images on the share alone is the limit; below, chance has a say.
REFERENCE = 2000

#: How often chance may refuse a pair that just passes on ``REFERENCE`` images: once in a thousand.
_RISK = 1e-3


@functools.cache
def allowed(images: int, share: float) -> int:
    """How many of ``images`` may differ where ``share`` of them has to agree.

    On 2,000 images or more ``(1 - share) * images``, rounded down. That limit refuses a pair that
    differs at a certain rate once in a thousand draws of 2,000 images; on fewer images the limit
    is the smallest that refuses the same pair as rarely (a binomial bound), and never less than
    the share.

    Args:
      images: how many are compared, at least 1.
      share: 0..1.
    """
    plain = _plain(images, share)
    if images >= REFERENCE:
        return plain
    rate = _rate(share)
    limit = 0
    while _more_than(limit, images, rate) > _RISK:
        limit += 1
    return max(limit, plain)


def _plain(images: int, share: float) -> int:
    # 0.001 is not exact in binary, and 2.0000000000000018 would be no harm but 1.999... would.
    return math.floor(round((1 - share) * images, 9))


@functools.cache
def _rate(share: float) -> float:
    """The highest rate of differing images that the limit on ``REFERENCE`` images refuses rarely.

    It is the lower end of Clopper and Pearson's interval (Biometrika 26, 1934) for a count one
    above the limit.
    """
    limit = _plain(REFERENCE, share)
    low, high = 0.0, 1 - share
    for _ in range(60):
        middle = (low + high) / 2
        if _more_than(limit, REFERENCE, middle) > _RISK:
            high = middle
        else:
            low = middle
    return low


def _more_than(limit: int, images: int, rate: float) -> float:
    """The chance that more than ``limit`` of ``images`` differ, each at ``rate``: binomial."""
    if rate <= 0:
        return 0.0
    if rate >= 1:
        return float(limit < images)
    # The tail itself is added up: one less the rest would lose its digits.
    return math.fsum(_exactly(count, images, rate) for count in range(limit + 1, images + 1))


def _exactly(count: int, images: int, rate: float) -> float:
    ways = math.lgamma(images + 1) - math.lgamma(count + 1) - math.lgamma(images - count + 1)
    return math.exp(ways + count * math.log(rate) + (images - count) * math.log1p(-rate))
