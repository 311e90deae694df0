"""Round values of a metric to compare methods at, where the user names none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedsep.report.grouping import Group
from fedsep.report.reading import finite
from fedsep.report.spread import figures, higher_is_better

MOST = 2
"""Levels chosen at most."""

_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)


def choose_levels(groups: Sequence[Group], metric: str | None) -> list[float]:
    """The hardest round values that the best methods reach with every seed, easiest first."""
    if metric is None:
        return []
    up = higher_is_better(metric)
    worst = [_worst(group, metric, up) for group in groups if group.metric == metric]
    reached = {_round_value(value, up) for value in worst if value is not None}
    known = sorted((level for level in reached if level is not None), reverse=up)
    return known[:MOST][::-1]


def _worst(group: Group, metric: str, up: bool) -> float | None:
    """The best value of the group's worst seed."""
    best = [finite(figures(run, metric)["best"]) for run in group.runs]
    known = [value for value in best if value is not None]
    return (min if up else max)(known) if known else None


def _round_value(value: float, up: bool) -> float | None:
    """The next round value that ``value`` has reached: from below for scores, from above for errors."""
    if value <= 0:
        return None
    if up and value <= 1:
        return max((share for share in _SHARES if share <= value), default=None)
    decade = 10.0 ** math.floor(math.log10(value))
    steps = [float(f"{factor * decade:.12g}") for factor in (1, 2, 5, 10)]
    return max(step for step in steps if step <= value) if up else min(step for step in steps if step >= value)
