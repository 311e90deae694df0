"""Axes on which .95, .97 and .98 lie apart: as far as the error shrinks, so far an accuracy is from the last one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
_LEAST = 1e-5  # an error of zero has no logarithm
_ROOM = 0.055  # of the axis' length
_LOW = 0.8  # below, accuracies lie apart on a plain axis as well


def share_axis(axes: Any, values: Iterable[float]) -> None:
    """A logarithmic axis of 1 - value, labelled by the value, if values are shares and some near 1; else a plain one.

    Args:
        axes: matplotlib's.
        values: What will be drawn.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    known = list(values)
    if not known or min(known) < 0 or not _LOW <= max(known) <= 1:
        return
    axes.set_yscale("function", functions=(_forward, _backward))
    low = max((tick for tick in _TICKS if tick <= min(known)), default=0.0)
    high = 1 - max(1 - max(known), _LEAST) / 1.15
    axes.set_ylim(min(low, 0.5) if min(known) < 0.5 else low, high)
    axes.yaxis.set_major_locator(FixedLocator(_apart([tick for tick in _TICKS if low <= tick <= high], high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _apart(ticks: list[float], high: float) -> list[float]:
    """Those with room for a number between them, the highest first."""
    kept: list[float] = []
    room = _ROOM * float(_forward(high) - _forward(ticks[0])) if ticks else 0.0
    for tick in reversed(ticks):
        if not kept or float(_forward(kept[-1]) - _forward(tick)) >= room:
            kept.append(tick)
    return kept[::-1]


def _forward(values: Any) -> Any:
    import numpy as np

    return -np.log10(np.maximum(1 - values, _LEAST))


def _backward(values: Any) -> Any:
    return 1 - math.e ** (-math.log(10) * values)
