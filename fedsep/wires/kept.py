"""How many coordinates of a message a sparse wire sends."""

from __future__ import annotations

import math

from fedsep.core import FedSepError


def kept(wire: str, k: int | None, fraction: float | None, size: int) -> int:
    """k, or the fraction of ``size`` rounded up.

    Raises:
        FedSepError: There are fewer than k coordinates.
    """
    if k is None:
        return math.ceil(round((fraction or 0.0) * size, 9))  # .1 * 3 is a little more than .3
    if k > size:
        raise FedSepError(f"{wire}: k must be at most {size}, the number of coordinates of the message (got {k})")
    return k


def one_of(wire: str, k: int | None, fraction: float | None) -> None:
    """Refuses both and neither.

    Raises:
        FedSepError: Both are given, or none.
    """
    if (k is None) == (fraction is None):
        raise FedSepError(f"{wire}: give one of k and fraction (got k={k}, fraction={fraction})")
