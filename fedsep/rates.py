"""Defaults of sketches that are re-drawn: how often, and the server's learning rate."""

from __future__ import annotations

import math
import warnings

STABLE = 7.0
"""The server's step is unstable where its learning rate times sqrt(p / d) is larger, with orthonormal rows."""


def default_period(p: int, d: int) -> int:
    """Rounds between two sketches: the smaller p, the more often, since each shows less of the space."""
    return next((rounds for rounds, share in ((2, 150), (3, 60), (5, 20)) if p * share <= d), 10)


def server_rate(method: str, p: int, d: int, c: float = 1.0, chosen: float | None = None) -> float:
    """eta_g: the chosen one, or c min(d/p, 6 sqrt(d/p)), S S^T being about c I.

    A projection onto p orthonormal rows keeps p/d of a step, so d/p is unbiased; learning is stable up to about
    7 sqrt(d/p). A chosen rate beyond that is warned of.
    """
    if chosen is None:
        return c * min(d / p, 6 * math.sqrt(d / p))
    limit = c * STABLE * math.sqrt(d / p)
    if chosen > limit:
        warnings.warn(f"{method}: server_lr={chosen} is likely unstable: above {limit:.3g}", stacklevel=5)
    return chosen
