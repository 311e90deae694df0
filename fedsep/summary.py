"""A run's rows of metrics in a few figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

HIGHER_IS_BETTER = ("accuracy", "auc", "r2")
"""Metrics that a task need not declare as better when higher; all others are better when lower."""


_LEVEL = re.compile(r"^level_[\d.e-]+_")


def summarise(rows: Sequence[Row], last: int, higher: Mapping[str, bool]) -> dict[str, dict[str, float | None]]:
    """Last, best and mean of the last values of every metric, and its value at the best validation round.

    Args:
        rows: One for each round, in order.
        last: ``mean_last`` is over this many evaluations, or as many as there were.
        higher: Whether a metric of the task is better when higher.

    Returns:
        By metric: those of the server's test set under their own names, then ``validation_...`` and ``client_...``.
    """
    columns = _evaluated(rows)
    return {
        name.removeprefix("test_"): _figures(
            _series(rows, name), last, _better_higher(name, higher), _selected_round(name, rows, columns, higher)
        )
        for name in sorted(columns, key=_order)
    }


def _evaluated(rows: Sequence[Row]) -> list[str]:
    """Columns of evaluations, in the order in which they first appear."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name.startswith(("test_", "validation_", "client_"))]


def _order(name: str) -> int:
    return ("test_", "validation_", "client_").index(name[: name.index("_") + 1])


def _series(rows: Sequence[Row], name: str) -> dict[int, float]:
    """The metric's values by round; rounds where it was not finite are left out."""
    pairs = {row["round"]: row.get(name) for row in rows}
    return {round: value for round, value in pairs.items() if value is not None and math.isfinite(value)}


def _better_higher(column: str, higher: Mapping[str, bool]) -> bool:
    name = column.split("_", 1)[1].removesuffix("_before").removesuffix("_after")
    name = _LEVEL.sub("", name.removeprefix("average_").removeprefix("held_").removeprefix("served_"))
    return higher.get(name, name in HIGHER_IS_BETTER)


def _best(series: dict[int, float], higher: bool) -> int:
    """The first round at which a metric was at its best."""
    return (max if higher else min)(series, key=lambda round: series[round])


def _selected_round(column: str, rows: Sequence[Row], columns: list[str], higher: Mapping[str, bool]) -> int | None:
    """The best round by the same metric on validation data, or else by the task's first; None if there were none.

    Of the rounds in which the metric has a figure itself.
    """
    own = column.replace("test_", "validation_", 1) if not column.startswith("client_") else ""
    name = own if own in columns else next((name for name in columns if name.startswith("validation_")), None)
    if name is None:
        return None
    there = _series(rows, column)
    series = {round: value for round, value in _series(rows, name).items() if round in there}
    return _best(series, _better_higher(name, higher)) if series else None


def _figures(series: dict[int, float], last: int, higher: bool, chosen: int | None) -> dict[str, float | None]:
    if not series:
        return {"last": None, "best": None, "mean_last": None, "selected": None}
    values = list(series.values())
    return {
        "last": values[-1],
        "best": series[_best(series, higher)],
        "mean_last": math.fsum(values[-last:]) / len(values[-last:]),
        "selected": series.get(chosen) if chosen is not None else None,
    }
