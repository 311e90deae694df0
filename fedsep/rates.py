"""What methods with a sketch have in common: how often it is re-drawn, and the server's learning rate."""

from __future__ import annotations

import math
import warnings
from typing import Literal

from fedsep.calendar import Calendar
from fedsep.core import FedSepError
from fedsep.servers.optimize import Rule

USUAL_LR = 0.1
"""The clients' learning rate at which the limit of stability was measured."""

STABLE = 7.0
"""The server's step is unstable where its learning rate times sqrt(p / d) is larger, with orthonormal rows."""


def check_sketch(method: str, p: int, d: int, server: Rule | None, server_lr: float | None) -> None:
    """Refuses what no sketch can be.

    Raises:
        FedSepError: p > d, or both a server optimiser and a server learning rate.
    """
    if p > d:
        raise FedSepError(f"{method}: p must be at most d = {d}, the number of model parameters (got {p})")
    if server is not None and server_lr is not None:
        raise FedSepError(f"{method}: give server or server_lr, not both: a server optimiser has its own lr")


def sketch_calendar(period: int | Literal["auto", "never"], p: int, d: int) -> Calendar:
    """When S is re-drawn, as a factory's argument says."""
    if period == "never":
        return Calendar(None)
    return Calendar(default_period(p, d) if period == "auto" else period)


def default_period(p: int, d: int) -> int:
    """Rounds between two sketches: the smaller p, the more often, since each shows less of the space."""
    return next((rounds for rounds, share in ((2, 150), (3, 60), (5, 20)) if p * share <= d), 10)


def server_rate(
    method: str, p: int, d: int, c: float = 1.0, chosen: float | None = None, lr: float = USUAL_LR
) -> float:
    """eta_g: the chosen one, or c min(d/p, 6 sqrt(d/p)), S S^T being about c I.

    A projection onto p orthonormal rows keeps p/d of a step, so d/p is unbiased; learning is stable up to about
    7 sqrt(d/p). A chosen rate beyond that is warned of; with smaller local steps it may be larger in proportion.
    """
    if chosen is None:
        return c * min(d / p, 6 * math.sqrt(d / p))
    limit = c * STABLE * math.sqrt(d / p) * max(1.0, USUAL_LR / lr)
    if chosen > limit:
        warnings.warn(f"{method}: server_lr={chosen} is likely unstable: above {limit:.3g}", stacklevel=5)
    return chosen
