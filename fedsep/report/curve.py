"""A curve over seeds: where every seed has a point, their mean and band; beyond, each seed's own line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedsep.report.grouping import Group
from fedsep.report.reading import Record, RunData, finite
from fedsep.report.spread import spread

POINTS = 200
"""Points of a curve at most, where it has a value each round."""

Abscissa = Callable[[Record], float | None]
"""What a row of ``metrics.jsonl`` is drawn against."""


class Curve(NamedTuple):
    """One line of a figure.

    Attributes:
        label: The method's label.
        style: Position of the method, which gives its colour, dashes and marker.
        x: Mean abscissa over seeds, by point.
        mean: Mean over seeds, by point.
        std: Sample standard deviation, by point; zeros for one seed.
        seeds: Seeds that the mean is of.
        tails: Lines (x, y) of the seeds that go on where others stop.
        faint: Whether it is drawn as the lesser of two lines of one method.
    """

    label: str
    style: int
    x: list[float]
    mean: list[float]
    std: list[float]
    seeds: int
    tails: list[tuple[list[float], list[float]]]
    faint: bool = False


Points = dict[int, tuple[float, float]]
"""A run's points (x, y) by round."""


def rounds(row: Record) -> float | None:
    """The row's round, as an abscissa."""
    return float(row["round"])


def points(run: RunData, name: str, against: Abscissa, window: int = 1) -> Points:
    """A run's column ``name`` by round; values that are not finite are left out.

    Args:
        run: The run.
        name: A column of ``metrics.jsonl``.
        against: What it is drawn against.
        window: Rounds that are averaged into one point, drawn at the last of them.
    """
    windows: dict[int, list[tuple[Record, float]]] = {}
    for row in run.rows:
        value = finite(row.get(name))
        if value is not None:
            windows.setdefault(math.ceil(row["round"] / window), []).append((row, value))
    placed = {at * window: (against(pairs[-1][0]), [value for _, value in pairs]) for at, pairs in windows.items()}
    return {at: (x, sum(values) / len(values)) for at, (x, values) in placed.items() if x is not None}


def window_of(groups: Sequence[Group]) -> int:
    """Rounds to average so that the longest run has at most ``POINTS`` points."""
    longest = max((run.rounds for group in groups for run in group.runs), default=0)
    return max(1, math.ceil(longest / POINTS))


def curve(group: Group, style: int, name: str, against: Abscissa, window: int = 1) -> Curve | None:
    """The group's curve of the column ``name``, None if no run has a point."""
    runs = [own for own in (points(run, name, against, window) for run in group.runs) if own]
    if not runs:
        return None
    shared = sorted(set(runs[0]).intersection(*runs[1:]))
    over = [spread(run[at][1] for run in runs) for at in shared]
    return Curve(
        label=group.label,
        style=style,
        x=[sum(run[at][0] for run in runs) / len(runs) for at in shared],
        mean=[value["mean"] or 0.0 for value in over],
        std=[value["std"] or 0.0 for value in over],
        seeds=len(runs),
        tails=[tail for tail in (_tail(run, shared) for run in runs) if len(tail[0]) > 1 or (tail[0] and not shared)],
    )


def _tail(run: Points, shared: Sequence[int]) -> tuple[list[float], list[float]]:
    """A run's points from the last shared one on."""
    since = shared[-1] if shared else min(run)
    ats = [at for at in sorted(run) if at >= since]
    return [run[at][0] for at in ats], [run[at][1] for at in ats]
