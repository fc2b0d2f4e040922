"""Error ratios rounded so coarsely that all libraries take the same steps: matched stepping."""

from __future__ import annotations

import math
from typing import Any

SNAP_BINS = 16
"""Bins of the mantissa over [0, 1): eight to an octave."""
SNAP_SMALL = 2.0**-10
"""Ratios under this one are all taken for `SNAP_TO`."""
SNAP_TO = 2.0**-17
"""A ratio at which the next step grows 9.5 fold, almost the controllers' limit of 10."""


def snap(ratio: Any, xp: Any) -> Any:
    """Round an error ratio so coarsely that rounding errors cannot move a step.

    The mantissa m in [1/2, 1) goes to the middle of its 1/16 wide bin: the ratio moves by at most 1/16 of itself and
    the next step by at most 1.3 %, and a ratio is never exactly 1, where libraries differ between `<` and `<=`. A
    ratio under 2**-10, zero too, counts as 2**-17. NaN and infinity pass through.

    Why so coarse: an error estimate is a small difference of large numbers. At rtol 1e-10 two libraries' ratios
    differ by about 1e-8 of themselves where a ratio is near 1, and by 1e-4 where it is near 1e-5 (the step after a
    restart), medians over the gallery. With 1024 bins about one ratio in 1400 then fell on two sides of an edge.
    """
    mantissa, exponent = xp.frexp(ratio)
    snapped = xp.ldexp((xp.floor(mantissa * SNAP_BINS) + 0.5) / SNAP_BINS, exponent)
    snapped = xp.where(ratio < SNAP_SMALL, xp.full_like(snapped, SNAP_TO), snapped)
    return xp.where(xp.isfinite(ratio), snapped, ratio)


def snap_float(ratio: float) -> float:
    """Return `snap` of one Python float."""
    if ratio < SNAP_SMALL:
        return SNAP_TO
    if not ratio < math.inf:
        return ratio
    mantissa, exponent = math.frexp(ratio)
    return math.ldexp((math.floor(mantissa * SNAP_BINS) + 0.5) / SNAP_BINS, exponent)
